"""Hyperparameter sweeps of ``lwm_dqn``: trials of the Zoo in a study of Optuna that any number of machines share."""

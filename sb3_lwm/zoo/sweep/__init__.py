"""Hyperparameter sweeps of ``lwm_dqn``: trials of the Zoo in a study of Optuna that is shared by any number of machines."""

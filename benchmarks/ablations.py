"""
Ablations of the parts of the method on labyrinths of 4x4 cells, and two agents of other packages::

    OMP_NUM_THREADS=1 python benchmarks/ablations.py --jobs 2 --runs labyrinth_runs --output benchmarks/results/ablations.csv

The options, trainings and CSV are those of ``labyrinth.py``. A training has 400 000 steps, in whose first 80 000 epsilon
falls. Each LWMDQN differs in one setting from ``complete``, the settings of the package; ``prioritized`` also has sequences
from every 48th step on, which begin with the actor's stored hidden state, and importance weights.

``stacked-dqn`` is Stable-Baselines3's DQN on 8 stacked observations, ``recurrent-ppo`` is sb3-contrib's RecurrentPPO
(``outside_*.yml``). These two save no training states: after an interruption they start again.
"""

from labyrinth import main
from labyrinth_trainings import HERE, Agent


def _with(*params: str) -> Agent:
    return Agent(params=params)


AGENTS = {
    "complete": Agent(),
    "no-world-model": _with("use_world_model:False"),
    "reward-not-seen": _with("intrinsic_reward_input:False"),
    "no-burn-in": _with("burn_in:0"),
    "never-reset": _with("policy:'NeverResetPolicy'"),
    "paid-resets": _with("policy:'PaidResetsPolicy'"),
    "squared-error": _with("policy_kwargs:dict(world_model_kwargs=dict(predictor_kwargs=dict(cross_entropy=False)))"),
    "raw-errors": _with("policy:'RawErrorPolicy'"),
    "prioritized": _with("prioritized_replay:True"),
    "not-clipped": _with("max_grad_norm:None"),
    "stacked-dqn": Agent("dqn", conf_file=str(HERE / "outside_dqn.yml")),
    "recurrent-ppo": Agent("ppo_lstm", conf_file=str(HERE / "outside_ppo_lstm.yml")),
}

if __name__ == "__main__":
    main(AGENTS, __doc__, {"sizes": [4], "steps": 400_000})

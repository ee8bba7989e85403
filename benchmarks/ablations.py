"""
What each part of the method brings, on labyrinths of 4x4 cells, and two agents of others beside it::

    OMP_NUM_THREADS=1 python benchmarks/ablations.py --jobs 2 --runs labyrinth_runs --output benchmarks/results/ablations.csv

The same options, trainings and CSV as ``labyrinth.py``. Each agent differs in one thing from ``complete`` (``prioritized``
with what belongs to it: sequences from every 48th step on, which begin with the memory that acted, and importance weights).
``stacked-dqn`` is Stable-Baselines3's DQN on 8 stacked observations, ``recurrent-ppo`` that of sb3-contrib
(``outside_*.yml``); these two keep no states: interrupted, they begin anew.
"""

from labyrinth import main
from labyrinth_trainings import HERE, Agent

AGENTS = {
    "complete": Agent(),
    "no-world-model": Agent(params=("use_world_model:False",)),
    "reward-not-seen": Agent(params=("intrinsic_reward_input:False",)),
    "no-burn-in": Agent(params=("burn_in:0",)),
    "never-reset": Agent(params=("policy:'NeverResetPolicy'",)),
    "paid-resets": Agent(params=("policy:'PaidResetsPolicy'",)),
    "squared-error": Agent(
        params=("policy_kwargs:dict(world_model_kwargs=dict(predictor_kwargs=dict(cross_entropy=False)))",)
    ),
    "raw-errors": Agent(params=("policy:'RawErrorPolicy'",)),
    "prioritized": Agent(params=("prioritized_replay:True",)),
    "not-clipped": Agent(params=("max_grad_norm:None",)),
    "stacked-dqn": Agent("dqn", conf_file=str(HERE / "outside_dqn.yml")),
    "recurrent-ppo": Agent("ppo_lstm", conf_file=str(HERE / "outside_ppo_lstm.yml")),
}

if __name__ == "__main__":
    main(AGENTS, __doc__, sizes=(4,))

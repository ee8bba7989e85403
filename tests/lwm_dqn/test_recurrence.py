"""Where velocities are hidden, an agent without memory cannot balance a pole, and one with memory can."""

import numpy as np
import pytest
import rl_zoo3.import_envs  # noqa: F401  registers CartPoleNoVel-v1
import torch as th
from stable_baselines3 import DQN
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.evaluation import evaluate_policy

from sb3_lwm import LWMDQN

STEPS, N_ENVS = 40_000, 4


def score(agent: type[BaseAlgorithm], **settings: object) -> float:
    """Train an agent, and return its mean score."""
    th.set_num_threads(1)
    env = make_vec_env("CartPoleNoVel-v1", N_ENVS, seed=0)
    model = agent("MlpPolicy", env, seed=0, device="cpu", learning_starts=1000, **settings).learn(STEPS)
    scores, _ = evaluate_policy(model, env, 20, deterministic=True, return_episode_rewards=True)
    return float(np.mean(scores))


@pytest.mark.slow
def test_memory_makes_up_for_hidden_velocities() -> None:
    exploration = {"exploration_initial_eps": 1.0, "exploration_final_eps": 0.05, "exploration_fraction": 0.3}
    recurrent = score(
        LWMDQN,
        use_world_model=False,
        train_freq=2,
        burn_in=8,
        unroll=16,
        n_steps=3,
        learning_rate=1e-3,
        **exploration,
    )
    # the Zoo's settings for CartPole-v1
    memoryless = score(
        DQN,
        learning_rate=2.3e-3,
        batch_size=64,
        target_update_interval=10,
        train_freq=256 // N_ENVS,
        gradient_steps=128,
        policy_kwargs={"net_arch": [256, 256]},
        **exploration,
    )
    print(f"CartPoleNoVel-v1 after {STEPS} steps: recurrent {recurrent:.0f}, memoryless {memoryless:.0f}")
    assert recurrent > 2 * memoryless

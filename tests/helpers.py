"""Small environments and networks that the tests share."""

from typing import Any

from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.vec_env import VecEnv

# Networks that learn nothing but run fast
NETWORKS: dict[str, Any] = {
    "net_arch": [8],
    "gru_hidden_size": 16,
    "world_model_kwargs": {"predictor_kwargs": {"input_size": 8, "gru_hidden_size": 12, "head_size": 8}},
}

# Settings under which learn(200) goes through warm-up, pretraining and updates
SHORT: dict[str, Any] = {
    "learning_starts": 60,
    "buffer_size": 1000,
    "batch_size": 4,
    "burn_in": 2,
    "unroll": 6,
    "pretraining_updates": 3,
    "pretraining_batch_size": 4,
    "pretraining_sequence_length": 10,
    "policy_kwargs": NETWORKS,
    "device": "cpu",
}


def make_labyrinths(n_envs: int = 2, seed: int = 0, **kwargs: Any) -> VecEnv:
    """
    :param n_envs: number of labyrinths
    :param seed: of the first
    :param kwargs: of :func:`make_vec_env`
    :return: 2x2 labyrinths, whose episodes are short
    """
    return make_vec_env("sb3_lwm.envs:POL-v0", n_envs, seed=seed, env_kwargs={"size": 2}, **kwargs)

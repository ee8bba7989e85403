"""The intrinsic rewards of a watched episode are inputs of the Q-network, and its frames are those of the same steps."""

from typing import Any

import numpy as np
import pytest
import torch as th
from atari_helpers import make
from gymnasium.wrappers import RenderCollection
from helpers import NETWORKS, SHORT, make_labyrinths, make_random_envs
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.utils import set_random_seed
from stable_baselines3.common.vec_env import VecEnv

from sb3_lwm import LWMDQN
from sb3_lwm.envs.labyrinth import UNVISITED
from sb3_lwm.figures import watch_episode
from sb3_lwm.lwm_dqn.policies import LWMPolicy


def make_env(size: int = 3) -> VecEnv:
    wrapper_kwargs = {"reset_clean": False}
    env_kwargs = {"size": size, "render_mode": "rgb_array"}
    return make_vec_env(
        "sb3_lwm.envs:POL-v0", seed=0, env_kwargs=env_kwargs, wrapper_class=RenderCollection, wrapper_kwargs=wrapper_kwargs
    )


def make_policy(env: VecEnv, policy: str = "MlpPolicy", **kwargs: Any) -> LWMPolicy:
    set_random_seed(0)
    settings = {**SHORT, "policy_kwargs": {**NETWORKS, **kwargs}}
    model = LWMDQN(policy, env, **settings)
    assert isinstance(model.policy, LWMPolicy)
    if model.policy.world_model is not None:
        # before the first batch every reward is 0
        model.policy.world_model.normalizer.update(th.tensor([0.1, 0.2]))
    return model.policy


def network_inputs(policy: LWMPolicy, monkeypatch: pytest.MonkeyPatch) -> list[tuple[float, bool]]:
    """Return a list that collects the inputs of the Q-network: intrinsic rewards, and whether an episode begins."""
    inputs: list[tuple[float, bool]] = []
    remember = policy.q_net.remember

    def spy(observations: Any, actions: Any, rewards: th.Tensor, starts: th.Tensor, hidden: Any) -> Any:
        inputs.append((float(rewards), bool(starts)))
        return remember(observations, actions, rewards, starts, hidden)

    monkeypatch.setattr(policy.q_net, "remember", spy)
    return inputs


def test_rewards_are_the_inputs_of_the_q_network(monkeypatch: pytest.MonkeyPatch) -> None:
    env = make_env()
    policy = make_policy(env)
    inputs = network_inputs(policy, monkeypatch)
    policy.set_training_mode(True)
    episode = watch_episode(policy, env, max_steps=12, epsilon=1.0)
    assert len(episode.frames) == len(episode.intrinsic_rewards) == 13 and episode.score == -12.0
    # no action answers the last observation
    assert [starts for _, starts in inputs] == [True] + 11 * [False]
    assert np.isnan(episode.intrinsic_rewards[0])
    np.testing.assert_array_equal(episode.intrinsic_rewards[1:-1], [reward for reward, _ in inputs[1:]])
    assert len(set(episode.intrinsic_rewards[1:])) > 3


def test_last_frame_is_the_end_of_the_episode() -> None:
    env = make_env(size=2)
    episode = watch_episode(make_policy(env), env, max_steps=900, epsilon=1.0)
    assert 3 <= len(episode.frames) - 1 == -episode.score < 900
    assert [bool((frame == UNVISITED).all(axis=-1).any()) for frame in (episode.frames[-2], episode.frames[-1])] == [
        True,
        False,
    ]
    assert np.isfinite(episode.intrinsic_rewards[1:]).all()


def test_atari_game_with_its_lives(monkeypatch: pytest.MonkeyPatch) -> None:
    env = make("BreakoutNoFrameskip-v4", render_mode="rgb_array", max_episode_steps=70)
    policy = make_policy(env, "CnnPolicy", net_arch=[])
    inputs = network_inputs(policy, monkeypatch)
    episode = watch_episode(policy, env, max_steps=200, epsilon=1.0)
    # a lost life does not end the game, and the agent has no reward for the observation after it
    assert len(episode.frames) == 71 and sum(starts for _, starts in inputs) > 1
    assert {frame.shape for frame in episode.frames} == {(210, 160, 3)}
    assert np.isfinite(episode.intrinsic_rewards[1:]).all()
    lived = [(reward, own) for (reward, starts), own in zip(inputs, episode.intrinsic_rewards, strict=False) if not starts]
    np.testing.assert_array_equal(*np.transpose(lived))
    env.close()


def test_policies_and_environments_that_cannot_be_watched() -> None:
    env = make_env()
    with pytest.raises(ValueError, match="This policy has no world model, and so no intrinsic reward"):
        watch_episode(make_policy(env, world_model_kwargs=None), env, 1)
    pair = make_labyrinths(2)
    with pytest.raises(ValueError, match="in one environment, not 2"):
        watch_episode(make_policy(pair), pair, 1)
    blind = make_random_envs()
    with pytest.raises(ValueError, match="render mode is None, an episode is watched with rgb_array_list or ansi_list"):
        watch_episode(make_policy(blind), blind, 1)

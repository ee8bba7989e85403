"""The agent draws from generators of its own: what environments do to the global ones does not matter."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch as th
from gymnasium import spaces
from helpers import NETWORKS, SHORT, VECTOR, RandomEnv, changed, make_random_envs, weights
from replay_helpers import stored
from stable_baselines3.common.utils import set_random_seed
from stable_baselines3.common.vec_env import DummyVecEnv

from sb3_lwm import LWMDQN

IMAGE = spaces.Box(0, 255, (36, 36, 1), np.uint8)
IMAGES: dict[str, Any] = {**SHORT, "policy_kwargs": {**NETWORKS, "features_extractor_kwargs": {"features_dim": 8}}}


class SeedingEnv(RandomEnv):
    """Seeds the global generators at each reset, as some environments do."""

    def reset(self, **kwargs: Any) -> Any:
        np.random.seed(0)
        th.manual_seed(0)
        return super().reset(**kwargs)


class DrawingEnv(RandomEnv):
    """Draws from the global generators at each step."""

    def step(self, action: int) -> Any:
        np.random.rand()
        th.rand(1)
        return super().step(action)


def learn(env_class: type[RandomEnv] = RandomEnv, space: spaces.Space = VECTOR, steps: int = 200, **kwargs: Any) -> LWMDQN:
    env = DummyVecEnv([lambda: env_class(space)])
    policy = "MlpPolicy" if space is VECTOR else "CnnPolicy"
    return LWMDQN(policy, env, **{**SHORT, **kwargs}).learn(steps)


def played_actions(model: LWMDQN) -> np.ndarray:
    assert model.replay_buffer is not None
    buffer = model.replay_buffer
    is_step = ~buffer.finals[: buffer.written[0], 0]
    return buffer.actions[: buffer.written[0], 0][is_step]


def test_play_does_not_repeat_itself_where_resets_seed_the_global_generators() -> None:
    actions = played_actions(learn(SeedingEnv, steps=56, seed=0)).reshape(-1, RandomEnv.EPISODE_LENGTH)
    assert len(np.unique(actions, axis=0)) == len(actions) == 8


@pytest.mark.parametrize("prioritized_replay", [False, True])
@pytest.mark.parametrize("other", [SeedingEnv, DrawingEnv])
def test_same_seed_same_training_whatever_the_environment_does_to_the_global_generators(
    other: type[RandomEnv], prioritized_replay: bool
) -> None:
    models = [
        learn(env_class, IMAGE, 120, **{**IMAGES, "seed": 3, "prioritized_replay": prioritized_replay})
        for env_class in (RandomEnv, other)
    ]
    # w-mse draws steps and shifts with PyTorch
    assert models[0]._n_updates > 0 and models[0].policy.world_model is not None
    assert int(models[0].policy.world_model.n_encoder_updates) > SHORT["encoder_pretraining_updates"]
    np.testing.assert_array_equal(*(stored(model.replay_buffer, "observations") for model in models))  # type: ignore[arg-type]
    assert not changed(*(weights(model.policy) for model in models))


def test_agents_without_a_seed_follow_the_global_one() -> None:
    # as SB3's agents do; the Zoo trains the trials of a sweep in this way
    plays = []
    for global_seed in (0, 0, 1):
        set_random_seed(global_seed)
        plays.append(played_actions(learn(steps=56)))
    assert np.array_equal(plays[0], plays[1]) and not np.array_equal(plays[0], plays[2])


def test_agent_and_environment_with_one_seed_draw_different_numbers() -> None:
    model = LWMDQN("MlpPolicy", make_random_envs(), seed=7, **SHORT)
    env = RandomEnv(VECTOR)
    env.reset(seed=7)
    assert model.rng.random() != env.np_random.random()


def test_set_random_seed_and_load_seed_the_whole_agent(tmp_path: Path) -> None:
    model = LWMDQN("MlpPolicy", make_random_envs(n_envs=2), evaluation_eps=1.0, **SHORT).learn(80)
    observations = np.zeros((50, 3), dtype=np.float32)

    def draws(agent: LWMDQN) -> list[Any]:
        assert agent.policy.rng is agent.rng
        return [*agent.predict(observations)[0].tolist(), th.rand((), generator=agent.torch_rng).item()]

    model.set_random_seed(5)
    first = draws(model)
    model.set_random_seed(5)
    assert model.replay_buffer is not None and model.replay_buffer.rng is model.rng
    assert draws(model) == first != draws(model)
    model.save(tmp_path / "model")
    assert draws(LWMDQN.load(tmp_path / "model", seed=5)) == first
    model.save_replay_buffer(tmp_path / "replay")
    model.load_replay_buffer(tmp_path / "replay")
    assert model.replay_buffer.rng is model.rng

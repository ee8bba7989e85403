"""Environments in a training state: they continue where they were, also after one of them has failed."""

from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium import spaces
from helpers import SHORT, RandomEnv, make_labyrinths, make_random_envs
from resume_helpers import continue_training
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.vec_env import DummyVecEnv, SubprocVecEnv, VecEnv, VecFrameStack, VecMonitor

from sb3_lwm import LWMDQN, TrainingStateCallback
from sb3_lwm.envs import ReportingSubprocVecEnv
from sb3_lwm.training_state.environments import UnknownStateError, environment_state, set_environment_state


class Failing(RandomEnv):
    """Fails after some steps."""

    def step(self, action: int) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        if self.episodes == 4:
            raise ZeroDivisionError("the robot has fallen")
        return super().step(action)

    def get_training_state(self) -> dict[str, Any]:
        return {"steps": self.steps, "episodes": self.episodes, "space": self.observation_space.np_random.bit_generator.state}

    def set_training_state(self, state: dict[str, Any]) -> None:
        self.steps, self.episodes = state["steps"], state["episodes"]
        self.observation_space.np_random.bit_generator.state = state["space"]


def make_failing(vec_env_cls: type[VecEnv], n_envs: int = 2) -> VecEnv:
    return make_vec_env(
        Failing,
        n_envs,
        seed=0,
        env_kwargs={"observation_space": spaces.Box(-1.0, 1.0, (3,))},
        vec_env_cls=vec_env_cls,  # type: ignore[arg-type]
    )


ERRORS: list[tuple[type[VecEnv], type[Exception], str]] = [
    (DummyVecEnv, ZeroDivisionError, "the robot has fallen"),
    (ReportingSubprocVecEnv, RuntimeError, r"(?s)Environment 0 has failed:.*ZeroDivisionError: the robot has fallen"),
    (SubprocVecEnv, RuntimeError, r"printed its own error above.*ReportingSubprocVecEnv"),
]


@pytest.mark.parametrize(("vec_env_cls", "error", "message"), ERRORS)
def test_training_resumes_after_an_environment_failed(vec_env_cls: Any, error: Any, message: str, tmp_path: Path) -> None:
    env = make_failing(vec_env_cls)
    model = LWMDQN("MlpPolicy", env, seed=0, **{**SHORT, "learning_starts": 20, "use_world_model": False})
    with pytest.raises(error, match=message):
        model.learn(400, TrainingStateCallback(tmp_path / "states"))
    steps = model.num_timesteps
    assert steps > 20 and model.last_training_state == tmp_path / "states" / f"state_{steps}"
    if vec_env_cls is SubprocVecEnv:
        for process in env.processes:  # type: ignore[attr-defined]
            process.terminate()
            process.join()
        for remote in env.remotes:  # type: ignore[attr-defined]
            remote.close()
    else:
        env.close()
    with pytest.warns(UserWarning, match="holds no state of the environments: they are reset"):
        resumed = LWMDQN.load_training_state(tmp_path, make_random_envs(n_envs=2), device="cpu")
    with pytest.warns(UserWarning, match=r"RandomEnv instance>* cannot give its state"):
        continue_training(resumed)
    buffer = resumed.replay_buffer
    assert buffer is not None and resumed.num_timesteps >= 400
    # the episodes that were under way have become time-outs
    assert buffer.finals.sum() > buffer.terminations.sum() and np.isfinite(buffer.rewards).all()


def play(env: VecEnv, steps: int, seed: int) -> list[Any]:
    generator = np.random.default_rng(seed)
    played = [env.step(generator.integers(3, size=env.num_envs))[:3] for _ in range(steps)]
    return [part.tolist() for step in played for part in step]


@pytest.mark.filterwarnings("ignore:The environment is already wrapped with a `Monitor`")
@pytest.mark.parametrize("vec_env_cls", [DummyVecEnv, ReportingSubprocVecEnv])
def test_restored_environments_continue_alike(vec_env_cls: Any) -> None:
    envs = [VecMonitor(make_failing(vec_env_cls)) for _ in range(2)]
    envs[0].reset()
    play(envs[0], 10, seed=0)
    set_environment_state(envs[1], environment_state(envs[0]))
    assert play(envs[0], 9, seed=1) == play(envs[1], 9, seed=1)
    for env in envs:
        env.close()


def test_unknown_wrappers_are_refused() -> None:
    class Sticky(gym.Wrapper[Any, Any, Any, Any]):
        pass

    for make, message in (
        (lambda: make_labyrinths(1, wrapper_class=Sticky), "The wrapper Sticky cannot give its state"),
        (lambda: VecFrameStack(make_random_envs(), 2), "VecFrameStack cannot give its state"),
        (make_random_envs, "RandomEnv instance"),
    ):
        with pytest.raises(UnknownStateError, match=message):
            environment_state(make())

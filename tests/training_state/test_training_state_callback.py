"""How a training ends: by a signal, by an environment's error, by a number that is none. Each time it can go on."""

import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch as th
from gymnasium import spaces
from helpers import SHORT, RandomEnv, changed, make_labyrinths, make_random_envs, weights
from resume_helpers import assert_same_training, close_log, go_on, train
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.vec_env import DummyVecEnv, SubprocVecEnv, VecEnv, VecFrameStack, VecMonitor

from sb3_lwm import LWMDQN, TrainingStateCallback
from sb3_lwm.envs import ReportingSubprocVecEnv
from sb3_lwm.training_state.environments import UnknownStateError, environment_state, set_environment_state


class At(BaseCallback):
    """
    Does something at a step.

    :param step: of all environments
    :param action: to do
    """

    def __init__(self, step: int, action: Callable[[], object]) -> None:
        super().__init__()
        self.step = step
        self.action = action

    def _on_step(self) -> bool:
        if self.model.num_timesteps == self.step:
            self.action()
        return True


def make_model(**kwargs: Any) -> LWMDQN:
    return LWMDQN("MlpPolicy", make_labyrinths(4), seed=0, **{**SHORT, **kwargs})


def press(number: int) -> Callable[[], None]:
    return lambda: signal.raise_signal(number)


# --- Signals ---


@pytest.mark.parametrize(("number", "ending"), [(signal.SIGINT, KeyboardInterrupt), (signal.SIGTERM, SystemExit)])
def test_a_signal_saves_and_stops(number: int, ending: type[BaseException], tmp_path: Path) -> None:
    handlers = [signal.getsignal(known) for known in (signal.SIGINT, signal.SIGTERM)]
    states = TrainingStateCallback(tmp_path / "states", verbose=1)
    model = make_model()
    with pytest.raises(ending) as raised:
        model.learn(400, [states, At(132, press(number))])
    assert ending is KeyboardInterrupt or raised.value.code == 143  # type: ignore[attr-defined]
    assert [signal.getsignal(known) for known in (signal.SIGINT, signal.SIGTERM)] == handlers
    # the end of the rollout and its update
    assert model.last_training_state == tmp_path / "states" / "state_144"
    resumed = LWMDQN.load_training_state(tmp_path, make_labyrinths(4), device="cpu")
    go_on(resumed)
    unbroken = make_model().learn(400)
    assert resumed.num_timesteps == 400 and not changed(weights(unbroken.policy), weights(resumed.policy))


def test_a_signal_in_the_pretraining(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    unbroken = make_model().learn(200)
    model = make_model()

    def interrupt(*args: Any) -> None:
        if int(model.policy.world_model.n_updates) == 1:  # type: ignore[union-attr]
            signal.raise_signal(signal.SIGTERM)
        sample(*args)

    sample = th.optim.Adam.step
    with monkeypatch.context() as patch, pytest.raises(SystemExit):
        patch.setattr(th.optim.Adam, "step", lambda self: (interrupt(self), None)[1])
        model.learn(200, TrainingStateCallback(tmp_path / "states"))
    resumed = LWMDQN.load_training_state(tmp_path, make_labyrinths(4), device="cpu")
    world_model = resumed.policy.world_model
    assert world_model is not None and int(world_model.n_updates) == 2 and resumed._collected_rollout == 16
    resumed.learn(resumed.remaining_timesteps, reset_num_timesteps=False)
    # neither of them has a callback that the other lacks
    assert_same_training(unbroken, resumed, tmp_path / "ends")


def test_a_second_interrupt_stops_at_once(tmp_path: Path) -> None:
    def twice() -> None:
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGINT)

    model = make_model()
    # what runs in the background of a shell begins with another handler
    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        model.learn(400, [TrainingStateCallback(tmp_path / "states"), At(132, twice)])
    assert model.num_timesteps == 132 and list((tmp_path / "states").iterdir()) == []
    assert signal.getsignal(signal.SIGINT) is before


def test_other_threads_have_no_signals(tmp_path: Path) -> None:
    model = make_model()
    callback = TrainingStateCallback(tmp_path / "states", every_minutes=None, every_steps=64)
    thread = threading.Thread(target=model.learn, args=(100, callback))
    thread.start()
    thread.join()
    assert model.last_training_state is not None


# --- The callback ---


def test_every_minutes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter(np.arange(0.0, 10_000.0, 10.0))
    monkeypatch.setattr("sb3_lwm.training_state.callback.time.monotonic", lambda: next(clock))
    callback = TrainingStateCallback(tmp_path, every_minutes=0.8, keep_last=3)
    make_model().learn(200, callback)
    assert len(list(tmp_path.iterdir())) == 3


def test_states_of_another_training_are_not_mixed(tmp_path: Path) -> None:
    def callback() -> TrainingStateCallback:
        return TrainingStateCallback(tmp_path, every_minutes=None, every_steps=64)

    model = make_model().learn(100, callback())
    for other, keep in ((make_model(), False), (model, True)):
        with pytest.raises(ValueError, match=r"holds the states of another training, state_64 is the newest: go on with it"):
            other.learn(100, callback(), reset_num_timesteps=keep)
    resumed = LWMDQN.load_training_state(tmp_path, make_labyrinths(4), device="cpu")
    resumed.learn(100, callback(), reset_num_timesteps=False)


def test_a_training_that_runs_is_left_alone(tmp_path: Path) -> None:
    """Another process would cut its logs and remove its states."""
    model = train(make_model(), tmp_path, 200)
    code = "import sys, filelock as f; lock = f.FileLock(sys.argv[1]); lock.acquire(); print('', flush=True); sys.stdin.read()"
    command = [sys.executable, "-c", code, str(tmp_path / ".states.lock")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout is not None and other.stdout.readline() == "\n"
        before = (tmp_path / "progress.csv").read_bytes()
        with pytest.raises(ValueError, match="states is in use: a training that is still running"):
            LWMDQN.load_training_state(tmp_path, make_labyrinths(4))
        with pytest.raises(ValueError, match="states is in use: a training that is still running"):
            model.learn(10, TrainingStateCallback(tmp_path / "states"), reset_num_timesteps=False)
        assert (tmp_path / "progress.csv").read_bytes() == before
        # as a lost machine does
        other.kill()
    close_log(LWMDQN.load_training_state(tmp_path, make_labyrinths(4)))


@pytest.mark.parametrize("arguments", [{"every_minutes": 0}, {"every_steps": -1}, {"keep_last": 0}])
def test_bad_arguments(arguments: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"must be greater than 0"):
        TrainingStateCallback("states", **arguments)


def test_no_folder_no_state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    model = make_model().learn(100, TrainingStateCallback(every_steps=10))
    assert model.last_training_state is None and list(tmp_path.iterdir()) == []


# --- Environments ---


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
def test_an_environment_that_fails(vec_env_cls: Any, error: Any, message: str, tmp_path: Path) -> None:
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
        go_on(resumed)
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
def test_environments_come_back(vec_env_cls: Any) -> None:
    envs = [VecMonitor(make_failing(vec_env_cls)) for _ in range(2)]
    envs[0].reset()
    play(envs[0], 10, seed=0)
    set_environment_state(envs[1], environment_state(envs[0]))
    assert play(envs[0], 9, seed=1) == play(envs[1], 9, seed=1)
    for env in envs:
        env.close()


def test_wrappers_that_are_not_known() -> None:
    class Sticky(gym.Wrapper[Any, Any, Any, Any]):
        pass

    for make, message in (
        (lambda: make_labyrinths(1, wrapper_class=Sticky), "The wrapper Sticky cannot give its state"),
        (lambda: VecFrameStack(make_random_envs(), 2), "VecFrameStack cannot give its state"),
        (make_random_envs, "RandomEnv instance"),
    ):
        with pytest.raises(UnknownStateError, match=message):
            environment_state(make())

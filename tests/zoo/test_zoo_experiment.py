"""The manager of lwm_dqn: its differences from the Zoo's own class, in real experiments."""

import argparse
import gc
import inspect
import signal
import threading
from pathlib import Path
from typing import Any

import pytest
import yaml
from helpers import SHORT
from rl_zoo3.exp_manager import ExperimentManager
from rl_zoo3.utils import get_model_path
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.vec_env import SubprocVecEnv

from sb3_lwm import LWMDQN, TrainingStateCallback
from sb3_lwm.envs import CopyFinalObservation, ReportingSubprocVecEnv
from sb3_lwm.training_state.files import find_states
from sb3_lwm.zoo import hyperparameters, register

register()
# without callbacks, as a user may write it
SETTINGS = {name: value for name, value in SHORT.items() if name != "device"}
SETTINGS |= {"policy": "MlpPolicy", "n_timesteps": 200, "n_envs": 2}
STATES = "sb3_lwm.TrainingStateCallback"


def make(folder: Path, algo: str = "lwm_dqn", env_id: str = "POL-3x3-v0", **kwargs: Any) -> ExperimentManager:
    """
    :param folder: The folder of the logs and of the settings
    :param algo: The algorithm
    :param env_id: The environment
    :param kwargs: Other arguments; those of ``hyperparams`` override :data:`SETTINGS`
    :return: The Zoo's manager
    """
    (folder / "settings.yml").write_text(yaml.dump({"default": SETTINGS}))
    kwargs = {"config": str(folder / "settings.yml"), "eval_freq": -1, "verbose": 0, "device": "cpu", **kwargs}
    return ExperimentManager(argparse.Namespace(), algo, env_id, str(folder), **kwargs)


def set_up(manager: ExperimentManager) -> LWMDQN | None:
    """
    :param manager: A manager
    :return: Its agent, whose environments are closed, or None in a sweep
    """
    made = manager.setup_experiment()
    if made is not None:
        assert isinstance(made[0], LWMDQN) and made[0].env is not None
        made[0].env.close()
    return None if made is None else made[0]


@pytest.mark.parametrize(
    ("algo", "config", "expected"),
    [
        ("lwm_dqn", None, str(hyperparameters.hyperparameter_files()[0].parent / "labyrinth.yml")),
        ("lwm_dqn", "atari-small", str(hyperparameters.hyperparameter_files()[0].parent / "atari-small.yml")),
        ("lwm_dqn", "mine.yml", "mine.yml"),
        ("ppo", None, str(Path(inspect.getfile(ExperimentManager)).parent / "hyperparams/ppo.yml")),
    ],
)
def test_hyperparameters_are_found(tmp_path: Path, algo: str, config: str | None, expected: str) -> None:
    assert make(tmp_path, algo, config=config).config == expected


def test_final_observations_are_copied(tmp_path: Path) -> None:
    # SB3's DummyVecEnv keeps the array itself while it resets the environment
    manager = make(tmp_path)
    made = manager.setup_experiment()
    assert made is not None and made[0].env is not None
    assert all(made[0].env.env_is_wrapped(CopyFinalObservation))
    made[0].env.close()


def test_settings_of_the_environment_reach_its_evaluation(tmp_path: Path) -> None:
    manager = make(tmp_path, hyperparams={"env_kwargs": {"max_episode_steps": 7}})
    set_up(manager)
    assert manager.env_kwargs == manager.eval_env_kwargs == {"max_episode_steps": 7}
    given = make(tmp_path, hyperparams={"env_kwargs": {"max_episode_steps": 7}}, eval_env_kwargs={"max_episode_steps": 9})
    set_up(given)
    assert given.eval_env_kwargs == {"max_episode_steps": 9}


def test_environments_in_processes_report_their_errors(tmp_path: Path) -> None:
    assert make(tmp_path, vec_env_type="subproc").vec_env_class is ReportingSubprocVecEnv
    assert make(tmp_path, "ppo", vec_env_type="subproc").vec_env_class is SubprocVecEnv


# --- Folders ---


def test_runs_that_start_together_get_folders_of_their_own(tmp_path: Path) -> None:
    managers = [make(tmp_path) for _ in range(8)]
    barrier = threading.Barrier(len(managers))

    def start(manager: ExperimentManager) -> None:
        barrier.wait()
        manager.create_log_folder()

    threads = [threading.Thread(target=start, args=(manager,)) for manager in managers]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(int(manager.save_path.split("_")[-1]) for manager in managers) == list(range(1, 9))
    assert all(Path(manager.params_path) == Path(manager.save_path, "POL-3x3-v0") for manager in managers)
    assert all(Path(manager.params_path).is_dir() for manager in managers)


def test_a_run_with_a_uuid_keeps_its_name(tmp_path: Path) -> None:
    manager = make(tmp_path, uuid_str="_abc")
    manager.create_log_folder()
    assert Path(manager.params_path) == tmp_path / "lwm_dqn/POL-3x3-v0_1_abc/POL-3x3-v0"


@pytest.mark.filterwarnings("ignore:unclosed file:ResourceWarning")
def test_a_run_that_cannot_begin_leaves_no_folder(tmp_path: Path) -> None:
    earlier = make(tmp_path)
    earlier.create_log_folder()
    with pytest.raises(ValueError, match="n_steps=8 must be smaller than unroll=6"):
        make(tmp_path, hyperparams={"n_steps": 8}).setup_experiment()
    # the environments, which nothing closes
    gc.collect()
    # this one fails before it has a folder
    with pytest.raises(FileNotFoundError):
        make(tmp_path, config="nowhere.yml").setup_experiment()
    assert [str(path) for path in (tmp_path / "lwm_dqn").iterdir()] == [earlier.save_path]


# --- Training states ---


@pytest.mark.parametrize(
    ("callback", "minutes"),
    [
        (None, 10.0),
        ([{"stable_baselines3.common.callbacks.StopTrainingOnMaxEpisodes": {"max_episodes": 9}}], 10.0),
        ([{STATES: {"every_minutes": 30}}], 30),
        # on Ctrl-C and SIGTERM only
        ([{STATES: {"every_minutes": None}}], None),
    ],
)
def test_every_training_writes_states_into_its_folder(callback: Any, minutes: float | None, tmp_path: Path) -> None:
    manager = make(tmp_path, hyperparams={} if callback is None else {"callback": callback})
    set_up(manager)
    (states,) = (each for each in manager.callbacks if isinstance(each, TrainingStateCallback))
    assert states.every_minutes == minutes and states.folder == Path(manager.save_path, "states")


def test_states_can_be_switched_off_and_sweeps_have_none(tmp_path: Path) -> None:
    callback = [{STATES: {"every_minutes": None, "on_signals": False}}]
    for kwargs in ({"hyperparams": {"callback": callback}}, {"optimize_hyperparameters": True}):
        manager = make(tmp_path, **kwargs)
        set_up(manager)
        assert [each.folder for each in manager.callbacks if isinstance(each, TrainingStateCallback)] in ([None], [])
    assert manager.callbacks == []


class RaiseSignal(BaseCallback):
    """Ends the training as a cluster does."""

    def _on_step(self) -> bool:
        if self.model.num_timesteps == 100:
            signal.raise_signal(signal.SIGTERM)
        return True


def test_a_training_that_sigterm_ends_leaves_a_state_and_a_model(tmp_path: Path) -> None:
    manager = make(tmp_path)
    made = manager.setup_experiment()
    assert made is not None
    manager.callbacks.append(RaiseSignal())
    with pytest.raises(SystemExit) as exit_info:
        manager.learn(made[0])
    assert exit_info.value.code == 128 + signal.SIGTERM
    # as enjoy finds it
    _, path, run = get_model_path(0, str(tmp_path), "lwm_dqn", manager.env_name)
    (state,) = find_states(Path(run, "states"))
    assert state.name == f"state_{LWMDQN.load(path).num_timesteps}"


# --- Observations ---


@pytest.mark.parametrize(("vec_env", "error"), [("dummy", ValueError), ("subproc", RuntimeError)])
def test_a_text_is_refused_and_the_wrappers_named(vec_env: str, error: type[Exception], tmp_path: Path) -> None:
    pytest.importorskip("minigrid")
    message = r"EmptyEnv.* observes a text \(mission\), which no network can read.*minigrid\.wrappers\.FlatObsWrapper.*ImgObs"
    with pytest.raises(error, match=message):
        make(tmp_path, env_id="MiniGrid-Empty-5x5-v0", vec_env_type=vec_env).setup_experiment()


@pytest.mark.parametrize(
    ("wrapper", "size"),
    [
        ("minigrid.wrappers.FlatObsWrapper", 2835),
        (["minigrid.wrappers.ImgObsWrapper", "gymnasium.wrappers.FlattenObservation"], 147),
    ],
)
def test_the_wrappers_that_are_named_help(wrapper: Any, size: int, tmp_path: Path) -> None:
    pytest.importorskip("minigrid")
    model = set_up(make(tmp_path, env_id="MiniGrid-Empty-5x5-v0", hyperparams={"env_wrapper": wrapper}))
    assert model is not None and model.observation_space.shape == (size,)

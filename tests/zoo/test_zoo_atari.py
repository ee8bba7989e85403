"""Native Atari in the Zoo: what ``native_atari`` takes over, and the real commands."""

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import ale_py
import gymnasium as gym
import numpy as np
import pytest
from stable_baselines3.common.atari_wrappers import AtariWrapper
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.monitor import load_results
from stable_baselines3.common.vec_env import SubprocVecEnv, VecEnv, VecFrameStack
from zoo_commands import REPOSITORY

from sb3_lwm import LWMDQN, AtariVecEnv
from sb3_lwm.zoo.atari import native_atari


def make_sticky_breakout(**kwargs: Any) -> gym.Env:
    """As the Zoo makes environments; the import registers the games in a process of SubprocVecEnv too."""
    gym.register_envs(ale_py)
    return gym.spec("ALE/Breakout-v5").make(**kwargs)


def make_zoo_env(n_envs: int = 1, **kwargs: Any) -> VecEnv:
    return make_vec_env(make_sticky_breakout, n_envs, **{"seed": 3, **kwargs})


# --- What is taken over ---


@pytest.mark.parametrize("vec_env_cls", [None, SubprocVecEnv])
def test_takes_over_what_the_zoo_has_made(vec_env_cls: type[VecEnv] | None) -> None:
    env = native_atari(make_zoo_env(2, vec_env_cls=vec_env_cls), max_episode_steps=20)
    same = AtariVecEnv("breakout", 2, seed=3, repeat_action_probability=0.25, max_episode_steps=20)
    np.testing.assert_array_equal(env.reset(), same.reset())
    for action in np.random.default_rng(0).integers(4, size=(25, 2)):
        (observations, *_, infos), (expected, *_, expected_infos) = env.step(action), same.step(action)
        np.testing.assert_array_equal(observations, expected)
        assert [info.get("TimeLimit.truncated") for info in infos] == [
            info.get("TimeLimit.truncated") for info in expected_infos
        ]
    assert env.get_attr("spec")[0].id == "ALE/Breakout-v5"
    env.close(), same.close()


def test_settings_of_the_environment_reach_it() -> None:
    settings = {"repeat_action_probability": 0.0, "full_action_space": True, "render_mode": "rgb_array"}
    env = native_atari(make_zoo_env(env_kwargs=settings))
    plain = AtariVecEnv("breakout", 1, seed=3, full_action_space=True)
    assert env.action_space.n == 18 and env.render_mode == "rgb_array"
    env.reset(), plain.reset()
    for action in np.random.default_rng(0).integers(18, size=(50, 1)):
        np.testing.assert_array_equal(env.step(action)[0], plain.step(action)[0])
    picture = env.render()
    assert picture is not None and picture.shape == (210, 160, 3)
    env.close(), plain.close()


def test_shadows_are_as_many_as_there_are_games() -> None:
    env = native_atari(make_zoo_env(), ram_envs=4)
    env.reset()
    assert len(env.env_method("get_ram")) == 1
    env.close()
    with pytest.raises(ValueError, match="ram_envs must be an integer of at least 0, got -1"):
        native_atari(make_zoo_env(), ram_envs=-1)


def test_monitor_files_are_gone_on_with(tmp_path: Path) -> None:
    env = native_atari(make_zoo_env(2, monitor_dir=str(tmp_path)), max_episode_steps=10)
    env.reset()
    for _ in range(10):
        env.step(np.zeros(2, dtype=int))
    env.close()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["0.monitor.csv", "1.monitor.csv"]
    assert load_results(str(tmp_path)).l.tolist() == [10, 10]


def test_monitor_files_of_other_processes_cannot_be(tmp_path: Path) -> None:
    env = make_zoo_env(monitor_dir=str(tmp_path), vec_env_cls=SubprocVecEnv)
    with pytest.raises(ValueError, match="cannot find the monitor files of SubprocVecEnv: leave out --vec-env subproc"):
        native_atari(env)


@pytest.mark.parametrize(
    ("wrapper", "kwargs", "message"),
    [
        (None, {"n_envs": 3}, "takes n_envs from the Zoo's environment: remove n_envs=3"),
        (AtariWrapper, {}, r"remove env_wrapper \(.*AtariWrapper\)"),
        (None, {"frame_skip": 0}, "frame_skip must be an integer of at least 1"),
    ],
)
def test_what_it_refuses(wrapper: type[gym.Wrapper] | None, kwargs: dict[str, Any], message: str) -> None:
    env = make_zoo_env(wrapper_class=wrapper)
    with pytest.raises(ValueError, match=message):
        native_atari(env, **kwargs)
    env.close()


def test_refuses_other_environments() -> None:
    labyrinth = make_vec_env("POL-3x3-v0")
    with pytest.raises(ValueError, match="no Atari game"):
        native_atari(labyrinth)
    with pytest.raises(ValueError, match="put it before VecFrameStack"):
        native_atari(VecFrameStack(make_vec_env("CartPole-v1"), 2))


# --- The commands ---


def run(cwd: Path, *arguments: str) -> str:
    """
    :param cwd: The working directory
    :param arguments: The arguments of the Python interpreter
    :return: The whole output
    """
    variables = {**os.environ, "PYTHONPATH": str(REPOSITORY), "OMP_NUM_THREADS": "1"}
    variables |= {"SDL_VIDEODRIVER": "dummy", "SDL_AUDIODRIVER": "dummy"}
    result = subprocess.run([sys.executable, *arguments], cwd=cwd, env=variables, text=True, capture_output=True, timeout=300)
    assert result.returncode == 0, f"{arguments} failed:\n{result.stdout}\n{result.stderr}"
    return result.stdout + result.stderr


SETTINGS = [
    *("n_envs:2", "learning_starts:200", "batch_size:2", "burn_in:2", "unroll:6", "train_freq:16"),
    *("encoder_pretraining_updates:1", "pretraining_updates:1"),
    "vec_env_wrapper:[{'sb3_lwm.zoo.atari.native_atari': {'max_episode_steps': 40, 'ram_envs': 2}}]",
]


def train(cwd: Path, env_id: str) -> list[str]:
    """
    :param cwd: The working directory
    :param env_id: The id of the environment
    :return: The options with which the other scripts find the run
    """
    options = ["--algo", "lwm_dqn", "--env", env_id, "-f", "logs"]
    schedule = ["-n", "300", "--eval-freq", "300", "--eval-episodes", "1", "--seed", "1"]
    output = run(cwd, "-m", "rl_zoo3.train", *options, *schedule, "--conf-file", "atari-small", "-params", *SETTINGS)
    assert f"Loading hyperparameters from: {REPOSITORY / 'hyperparams/atari-small.yml'}" in output
    return options


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[str]]:
    """The working directory of a training, and the options that find it."""
    cwd = tmp_path_factory.mktemp("atari")
    return cwd, train(cwd, "MontezumaRevengeNoFrameskip-v4")


def test_training_and_evaluation_count_whole_games(trained: tuple[Path, list[str]]) -> None:
    folder = trained[0] / "logs/lwm_dqn/MontezumaRevengeNoFrameskip-v4_1"
    results = load_results(str(folder))
    assert len(results) >= 6 and set(results.l) == {40}
    assert set(results.rooms) == {1}
    assert np.load(folder / "evaluations.npz")["ep_lengths"].tolist() == [[40]]


def test_enjoy_in_a_window(trained: tuple[Path, list[str]]) -> None:
    assert "Atari Episode Score: 0.00" in run(trained[0], "-m", "rl_zoo3.enjoy", *trained[1], "-n", "50")


def test_record_video(trained: tuple[Path, list[str]]) -> None:
    run(trained[0], "-m", "rl_zoo3.record_video", *trained[1], "-n", "5", "-o", "videos")
    assert list((trained[0] / "videos").glob("*.mp4"))


def test_sticky_actions(tmp_path: Path) -> None:
    options = train(tmp_path, "ALE/MontezumaRevenge-v5")
    assert "Atari Episode Score: 0.00" in run(tmp_path, "-m", "rl_zoo3.enjoy", *options, "--no-render", "-n", "50")


def test_evaluate(trained: tuple[Path, list[str]]) -> None:
    options = [*trained[1], "--n-games", "3", "--n-envs", "2", "--max-episode-steps", "40", "--output", "scores.csv"]
    output = run(trained[0], "-m", "sb3_lwm.zoo", "evaluate", *options)
    assert "first 3 games to finish" in output and "first 3 games started" in output
    assert re.search(r"All games together: 1 rooms, [1-9]\d* cells, 0 keys, 0 doors", output)
    lines = (trained[0] / "scores.csv").read_text().splitlines()
    assert lines[0].startswith("started,score,length,rooms,cells,keys,doors,") and len(lines) >= 1 + 3
    assert all(line.split(",")[1:4] == ["0.0", "40", "1"] for line in lines[1:])


def test_interrupted_training_keeps_the_model(tmp_path: Path) -> None:
    variables = {**os.environ, "PYTHONPATH": str(REPOSITORY), "OMP_NUM_THREADS": "1", "PYTHONUNBUFFERED": "1"}
    command = [
        sys.executable,
        "-m",
        "rl_zoo3.train",
        "--algo",
        "lwm_dqn",
        "--env",
        "MontezumaRevengeNoFrameskip-v4",
        "-f",
        "logs",
    ]
    command += ["-n", "1000000", "--eval-freq", "-1", "--conf-file", "atari-small", "-params", *SETTINGS]
    log = tmp_path / "output.txt"
    with open(log, "w") as output:
        # a shell that runs the tests in the background lets its children ignore the signal
        process = subprocess.Popen(
            command,
            cwd=tmp_path,
            env=variables,
            stdout=output,
            stderr=subprocess.STDOUT,
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        )
        try:
            for _ in range(240):
                if "n_updates" in log.read_text() or process.poll() is not None:
                    break
                time.sleep(0.5)
            process.send_signal(signal.SIGINT)
            code = process.wait(timeout=60)
        finally:
            process.kill()
    assert code == 0 and "n_updates" in log.read_text(), log.read_text()[-3000:]
    saved = LWMDQN.load(tmp_path / "logs/lwm_dqn/MontezumaRevengeNoFrameskip-v4_1/MontezumaRevengeNoFrameskip-v4.zip")
    assert saved._n_updates > 0

"""``evaluate`` plays in the environments of the training, whatever the algorithm, and the scores of many runs are gathered."""

import sys
from pathlib import Path
from typing import Any

import gymnasium as gym
import pytest
import yaml
from stable_baselines3 import DQN
from stable_baselines3.common.atari_wrappers import AtariWrapper
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.vec_env import VecFrameStack
from zoo_commands import REPOSITORY

from sb3_lwm import AtariVecEnv
from sb3_lwm.zoo import evaluate

ATARI = ["--env", "ALE/Breakout-v5", "--n-games", "2", "--n-envs", "2", "--device", "cpu"]
SHORT = {"max_episode_steps": 12, "full_action_space": True}


def write_settings(run: Path, env_id: str, settings: dict[str, Any], env_kwargs: dict[str, Any] | None) -> None:
    """
    :param run: folder of a run, which is made
    :param env_id: its environment
    :param settings: its hyperparameters
    :param env_kwargs: from its command line
    """
    folder = run / env_id.replace("/", "-")
    folder.mkdir(parents=True)
    (folder / "config.yml").write_text(yaml.dump(settings))
    (folder / "args.yml").write_text(yaml.dump({"env": env_id, "seed": 7, "env_kwargs": env_kwargs}))


def test_another_algorithm_on_atari(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = tmp_path / "dqn/ALE-Breakout-v5_1"
    wrapper = "stable_baselines3.common.atari_wrappers.AtariWrapper"
    write_settings(run, "ALE/Breakout-v5", {"env_wrapper": [wrapper], "frame_stack": 4}, SHORT)
    env = VecFrameStack(make_vec_env("ALE/Breakout-v5", wrapper_class=AtariWrapper, env_kwargs=SHORT), 4)
    DQN("CnnPolicy", env, buffer_size=1).save(run / "ALE-Breakout-v5.zip")
    env.close()
    # the game is named as it was trained, not as its folder
    monkeypatch.syspath_prepend(REPOSITORY / "benchmarks")
    import zoo_scores

    assert zoo_scores.find_runs([tmp_path]) == [run]
    row = zoo_scores.score(run, 2)
    assert (row["env"], row["algo"], row["seed"], row["episodes"]) == ("ALE/Breakout-v5", "dqn", 7, 2)
    arguments = [*ATARI, "--algo", "dqn", "-f", str(tmp_path), "--output", str(tmp_path / "games.csv")]
    monkeypatch.setattr(sys, "argv", ["evaluate", *arguments])
    evaluate.main()
    # length: the settings of the command line; 4 stacked frames and 18 actions: those of the model, or it could not play
    assert {line.split(",")[2] for line in (tmp_path / "games.csv").read_text().splitlines()[1:]} == {"12"}
    with pytest.raises(ValueError, match=r"--max-episode-steps 9 is of games that native_atari plays, .*leave it out"):
        evaluate.make_env(evaluate.parse([*arguments, "--max-episode-steps", "9"]), str(run))


@pytest.mark.parametrize(
    ("wrapper", "options", "length"),
    [
        ([{evaluate.NATIVE: {"max_episode_steps": 8}}], [], 8),
        (evaluate.NATIVE, ["--max-episode-steps", "6"], 6),
    ],
)
def test_native_atari_as_in_the_training(wrapper: Any, options: list[str], length: int, tmp_path: Path) -> None:
    settings = {"vec_env_wrapper": wrapper, "env_kwargs": {"full_action_space": False}}
    write_settings(tmp_path, "ALE/Venture-v5", settings, {"full_action_space": True})
    env = evaluate.make_env(evaluate.parse([*ATARI, "--env", "ALE/Venture-v5", *options]), str(tmp_path))
    assert isinstance(env, AtariVecEnv) and env.num_envs == 2
    assert isinstance(env.action_space, gym.spaces.Discrete) and env.action_space.n == 18
    env.reset()
    infos: list[dict[str, Any]] = []
    for _ in range(length):
        infos = env.step([0, 0])[3]
    assert [(info["episode"]["l"], info["episode"]["rooms"]) for info in infos] == [(length, 1)] * 2
    env.close()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--algo", "ppo", "--eps", "0.1"], "--eps 0.1 is of lwm_dqn: ppo decides by itself"),
        (["--eps", "1.5"], "--eps 1.5: a share of the actions, from 0 to 1"),
        (["--eps", "nan"], "--eps nan: a share of the actions, from 0 to 1"),
        (["--n-games", "0"], "--n-games 0: at least 1"),
        (["--n-envs", "0"], "--n-envs 0: at least 1"),
    ],
)
def test_bad_input(options: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as exit_info:
        evaluate.parse([*ATARI, *options])
    assert exit_info.value.code == 2 and message in capsys.readouterr().err


def test_env_kwargs_of_the_command_line(tmp_path: Path) -> None:
    write_settings(tmp_path / "lwm_dqn/POL-v0_1", "POL-v0", {"env_kwargs": {"size": 2, "max_episode_steps": 5}}, None)
    for given, expected in (([], (2, 5)), (["--env-kwargs", "max_episode_steps:9"], (2, 9))):
        options = evaluate.parse(["--env", "POL-v0", "-f", str(tmp_path), "--n-envs", "1", *given])
        env = evaluate.make_env(options, str(tmp_path / "lwm_dqn/POL-v0_1"))
        (spec,), (labyrinth,) = env.get_attr("spec"), env.get_attr("unwrapped")
        assert (labyrinth.size, spec.max_episode_steps) == expected
        env.close()

"""``evaluate`` plays in the environments of the training, whatever the algorithm, and the scores of many runs are gathered."""

import sys
from pathlib import Path
from typing import Any

import gymnasium as gym
import pytest
import zoo_scores
from player_helpers import train_labyrinth, write_settings
from stable_baselines3 import DQN
from stable_baselines3.common.atari_wrappers import AtariWrapper
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.vec_env import VecFrameStack

from sb3_lwm import AtariVecEnv
from sb3_lwm.zoo.commands import evaluate
from sb3_lwm.zoo.commands.player import NATIVE, make_env

ATARI = ["--env", "ALE/Breakout-v5", "--n-games", "2", "--n-envs", "2", "--device", "cpu"]
SHORT = {"max_episode_steps": 12, "full_action_space": True}


def test_another_algorithm_on_atari(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = tmp_path / "dqn/ALE-Breakout-v5_1"
    wrapper = "stable_baselines3.common.atari_wrappers.AtariWrapper"
    write_settings(run, "ALE/Breakout-v5", {"env_wrapper": [wrapper], "frame_stack": 4}, SHORT)
    env = VecFrameStack(make_vec_env("ALE/Breakout-v5", wrapper_class=AtariWrapper, env_kwargs=SHORT), 4)
    DQN("CnnPolicy", env, buffer_size=1).save(run / "ALE-Breakout-v5.zip")
    env.close()
    # the game is named as it was trained, not as its folder
    assert zoo_scores.find_runs([tmp_path]) == [run]
    row = zoo_scores.score(run, 2)
    assert (row["env"], row["algo"], row["seed"], row["episodes"]) == ("ALE/Breakout-v5", "dqn", 7, 2)
    arguments = [*ATARI, "--algo", "dqn", "-f", str(tmp_path), "--output", str(tmp_path / "games.csv")]
    monkeypatch.setattr(sys, "argv", ["evaluate", *arguments])
    evaluate.main()
    # length: the settings of the command line; 4 stacked frames and 18 actions: those of the model, or it could not play
    assert {line.split(",")[2] for line in (tmp_path / "games.csv").read_text().splitlines()[1:]} == {"12"}
    with pytest.raises(ValueError, match=r"--max-episode-steps 9 is an option of native_atari, .*leave it out"):
        make_env(evaluate.parse([*arguments, "--max-episode-steps", "9"]), str(run))


@pytest.mark.parametrize(
    ("wrapper", "options", "length"),
    [
        ([{NATIVE: {"max_episode_steps": 8}}], [], 8),
        (NATIVE, ["--max-episode-steps", "6"], 6),
    ],
)
def test_native_atari_as_in_the_training(wrapper: Any, options: list[str], length: int, tmp_path: Path) -> None:
    settings = {"vec_env_wrapper": wrapper, "env_kwargs": {"full_action_space": False}}
    write_settings(tmp_path, "ALE/Venture-v5", settings, {"full_action_space": True})
    env = make_env(evaluate.parse([*ATARI, "--env", "ALE/Venture-v5", *options]), str(tmp_path))
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
        (["--algo", "ppo", "--eps", "0.1"], "--eps 0.1 is an option of lwm_dqn: leave it out for ppo"),
        (["--eps", "1.5"], "argument --eps: 1.5 must be a share from 0 to 1"),
        (["--eps", "nan"], "argument --eps: nan must be a share from 0 to 1"),
        (["--n-games", "0"], "argument --n-games: 0 is too small, it must be at least 1"),
        (["--n-envs", "0"], "argument --n-envs: 0 is too small, it must be at least 1"),
        (["--n-envs", "many"], "argument --n-envs: invalid integer value: 'many'"),
        (["--seed", "-1"], "argument --seed: -1 is too small, it must be at least 0"),
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
        env = make_env(options, str(tmp_path / "lwm_dqn/POL-v0_1"))
        (spec,), (labyrinth,) = env.get_attr("spec"), env.get_attr("unwrapped")
        assert (labyrinth.size, spec.max_episode_steps) == expected
        env.close()


def test_environments_of_a_package_of_the_user(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    register = "gymnasium.register('Mine-v0', 'sb3_lwm.envs.labyrinth:PartiallyObservableLabyrinthEnv', max_episode_steps=6)"
    (tmp_path / "my_labyrinths.py").write_text(f"import gymnasium\n{register}\n")
    monkeypatch.syspath_prepend(tmp_path)
    train_labyrinth(tmp_path, env_id="Mine-v0")
    arguments = ["evaluate", "--env", "Mine-v0", "-f", str(tmp_path), "--n-games", "2", "--n-envs", "2", "--device", "cpu"]
    monkeypatch.setattr(sys, "argv", arguments)
    with pytest.raises(gym.error.NameNotFound):
        evaluate.main()
    monkeypatch.setattr(sys, "argv", [*arguments, "--gym-packages", "my_labyrinths"])
    try:
        evaluate.main()
    finally:
        gym.registry.pop("Mine-v0", None)
        sys.modules.pop("my_labyrinths", None)
    assert "first 2 games started" in capsys.readouterr().out

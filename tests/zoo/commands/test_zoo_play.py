"""``play``: who plays, and what is recorded."""

import sys
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sb3_lwm.envs.atari.recording import load, replay
from sb3_lwm.zoo.commands import play

pygame = pytest.importorskip("pygame")
pytest.importorskip("cv2")
with warnings.catch_warnings():
    # it looks for a window for its plots
    warnings.filterwarnings("ignore", message=".*matplotlib is not installed")
    import gymnasium.utils.play as gymnasium_play

GAME = "ALE/MontezumaRevenge-v5"


def run(monkeypatch: pytest.MonkeyPatch, *arguments: object) -> None:
    monkeypatch.setattr(sys, "argv", ["zoo", "--env", GAME, *map(str, arguments)])
    play.main()


def press_keys(actions: list[int]) -> Any:
    """Return a replacement of Gymnasium's window, with the same resets, which takes these actions."""

    def fake(env: Any, fps: int, zoom: float, seed: int, callback: Any) -> None:
        env.reset(seed=seed)
        before, _ = env.reset(seed=seed)
        for action in actions:
            after, reward, terminated, truncated, info = env.step(action)
            callback(before, after, action, reward, terminated, truncated, info)
            before = env.reset(seed=seed)[0] if terminated or truncated else after

    return fake


def test_window(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("SDL_VIDEODRIVER", "dummy")
    actions = [1, 1, 0, 2, 1]
    monkeypatch.setattr(gymnasium_play, "play", press_keys(actions))
    run(monkeypatch, "-o", tmp_path / "play.json", "--seed", 4)
    recording = load(tmp_path / "play.json", GAME)
    assert recording.seed == 4 and list(recording.actions) == actions
    assert len(replay(recording).frames) == 6


def test_interrupted_window_keeps_what_was_played(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("SDL_VIDEODRIVER", "dummy")

    def interrupted(*arguments: Any, **kwargs: Any) -> None:
        press_keys([2, 2])(*arguments, **kwargs)
        raise KeyboardInterrupt

    monkeypatch.setattr(gymnasium_play, "play", interrupted)
    run(monkeypatch, "-o", tmp_path / "play.json")
    assert load(tmp_path / "play.json").actions == (2, 2)


def test_window_without_a_display(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("SDL_VIDEODRIVER", raising=False)
    monkeypatch.setattr(pygame.display, "get_driver", lambda: "offscreen")
    with pytest.raises(RuntimeError, match=r"no display for a window .offscreen.*--agent random"):
        run(monkeypatch, "-o", tmp_path / "play.json")
    assert not list(tmp_path.iterdir())


def test_window_without_pygame(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(sys.modules, "pygame", None)
    with pytest.raises(ImportError, match=r"needs pygame: pip install 'sb3-lwm\[figures\]'"):
        run(monkeypatch, "-o", tmp_path / "play.json")


def test_games_go_on_with_their_generator() -> None:
    """The window seeds each reset; only the first may count, or each game would be the same."""
    seeds: list[int | None] = []

    class Env(play.gym.Env):
        def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[int, dict[str, Any]]:
            seeds.append(seed)
            return 0, {}

        def step(self, action: Any) -> tuple[int, float, bool, bool, dict[str, Any]]:
            return 0, 0.0, True, False, {}

    press_keys([0, 0])(play.SeededOnce(Env()), 15, 4.0, 7, lambda *step: None)
    assert seeds == [7, 7, None, None]


def test_random_agent(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        run(monkeypatch, "--agent", "random", "-n", 40, "--seed", seed, "-o", tmp_path / f"{name}.json")
    first, same, other = (load(tmp_path / f"{name}.json") for name in "abc")
    assert first == same and first.actions != other.actions and len(first.actions) == 40


def trained(n_channels: int, n_actions: int) -> Any:
    """Return a replacement of ``load_player``'s result, with an agent that records its observations."""

    class Agent:
        observation_space = play.gym.spaces.Box(0, 255, (n_channels, 84, 84), np.uint8)
        action_space = play.gym.spaces.Discrete(n_actions)

        def __init__(self) -> None:
            self.seen: list[Any] = []

        def predict(self, observation: Any, state: Any, starts: Any, deterministic: bool) -> tuple[Any, Any]:
            self.seen.append((observation.copy(), state, starts.copy()))
            return np.array([1]), len(self.seen)

    return Agent()


def test_agent_of_the_zoo(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    agent = trained(2, 18)
    monkeypatch.setattr(play, "load_player", lambda options: (agent, "run", True))
    run(monkeypatch, "--agent", "zoo", "-n", 5, "-o", tmp_path / "play.json")
    frames = replay(load(tmp_path / "play.json")).frames
    assert [state for _, state, _ in agent.seen] == [None, 1, 2, 3, 4]
    assert [bool(starts[0]) for *_, starts in agent.seen] == [True, False, False, False, False]
    for step, (observation, *_) in enumerate(agent.seen):
        assert observation.shape == (1, 2, 84, 84)
        np.testing.assert_array_equal(observation[0, 1], frames[step])
        np.testing.assert_array_equal(observation[0, 0], frames[step - 1] if step else np.zeros((84, 84)))


def test_agent_of_another_game(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(play, "load_player", lambda options: (trained(1, 3), "logs/run", True))
    with pytest.raises(ValueError, match=r"logs/run has learned from .* 3 actions; montezuma_revenge has"):
        run(monkeypatch, "--agent", "zoo", "-o", tmp_path / "play.json")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["-o", "play.txt"], "argument -o/--output: play.txt must end in .json"),
        (["-o", "play.json", "-n", "0"], "argument -n/--n-timesteps: 0 is too small"),
        (["-o", "play.json", "--max-episode-steps", "9"], "a recording ends after --n-timesteps"),
        (["-o", "play.json", "--env-kwargs", "mode:1"], "leave them out"),
        (["-o", "play.json", "--agent", "nobody"], "invalid choice: 'nobody'"),
    ],
)
def test_play_refuses(
    arguments: list[str], message: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        run(monkeypatch, *arguments)
    assert message in capsys.readouterr().err

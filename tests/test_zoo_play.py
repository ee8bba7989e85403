"""``python -m sb3_lwm.zoo play`` and ``embeddings``: who plays, what is recorded, and what is made of it."""

import sys
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from test_recording import FIRST_ROOM

from sb3_lwm.envs.atari.recording import load, replay
from sb3_lwm.world_model import encoder_training
from sb3_lwm.zoo import embeddings, play

pygame = pytest.importorskip("pygame")
pytest.importorskip("cv2")
pytest.importorskip("sklearn")
with warnings.catch_warnings():
    # it looks for a window for its plots
    warnings.filterwarnings("ignore", message=".*matplotlib is not installed")
    import gymnasium.utils.play as gymnasium_play

GAME = "ALE/MontezumaRevenge-v5"


def run(module: Any, monkeypatch: pytest.MonkeyPatch, *arguments: object) -> None:
    monkeypatch.setattr(sys, "argv", ["zoo", "--env", GAME, *map(str, arguments)])
    module.main()


def press_keys(actions: list[int]) -> Any:
    """:return: what stands for Gymnasium's window: resets as it does, and takes these actions"""

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
    run(play, monkeypatch, "-o", tmp_path / "play.json", "--seed", 4)
    recording = load(tmp_path / "play.json", GAME)
    assert recording.seed == 4 and list(recording.actions) == actions
    assert len(replay(recording).frames) == 6


def test_interrupted_window_keeps_what_was_played(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("SDL_VIDEODRIVER", "dummy")

    def interrupted(*arguments: Any, **kwargs: Any) -> None:
        press_keys([2, 2])(*arguments, **kwargs)
        raise KeyboardInterrupt

    monkeypatch.setattr(gymnasium_play, "play", interrupted)
    run(play, monkeypatch, "-o", tmp_path / "play.json")
    assert load(tmp_path / "play.json").actions == (2, 2)


def test_window_without_a_display(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("SDL_VIDEODRIVER", raising=False)
    monkeypatch.setattr(pygame.display, "get_driver", lambda: "offscreen")
    with pytest.raises(RuntimeError, match=r"no display for a window .offscreen.*--agent random"):
        run(play, monkeypatch, "-o", tmp_path / "play.json")
    assert not list(tmp_path.iterdir())


def test_window_without_pygame(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(sys.modules, "pygame", None)
    with pytest.raises(ImportError, match=r"needs pygame: pip install 'sb3-lwm\[figures\]'"):
        run(play, monkeypatch, "-o", tmp_path / "play.json")


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
        run(play, monkeypatch, "--agent", "random", "-n", 40, "--seed", seed, "-o", tmp_path / f"{name}.json")
    first, same, other = (load(tmp_path / f"{name}.json") for name in "abc")
    assert first == same and first.actions != other.actions and len(first.actions) == 40


def trained(n_channels: int, n_actions: int) -> Any:
    """:return: what ``load_player`` gives: an agent that shows what it is shown"""

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
    run(play, monkeypatch, "--agent", "zoo", "-n", 5, "-o", tmp_path / "play.json")
    frames = replay(load(tmp_path / "play.json")).frames
    assert [state for _, state, _ in agent.seen] == [None, 1, 2, 3, 4]
    assert [bool(starts[0]) for *_, starts in agent.seen] == [True, False, False, False, False]
    for step, (observation, *_) in enumerate(agent.seen):
        assert observation.shape == (1, 2, 84, 84)
        np.testing.assert_array_equal(observation[0, 1], frames[step])
        np.testing.assert_array_equal(observation[0, 0], frames[step - 1] if step else np.zeros((84, 84)))


def test_agent_of_another_game(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(play, "load_player", lambda options: (trained(1, 3), "logs/run", True))
    with pytest.raises(ValueError, match=r"logs/run has learned from .* 3 actions; montezuma_revenge is shown"):
        run(play, monkeypatch, "--agent", "zoo", "-o", tmp_path / "play.json")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["-o", "play.txt"], "a recording is a .json file"),
        (["-o", "play.json", "-n", "0"], "--n-timesteps 0: at least 1"),
        (["-o", "play.json", "--max-episode-steps", "9"], "a recording ends after --n-timesteps"),
        (["-o", "play.json", "--env-kwargs", "mode:1"], "leave them out"),
        (["-o", "play.json", "--agent", "nobody"], "invalid choice: 'nobody'"),
    ],
)
def test_play_refuses(
    arguments: list[str], message: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        run(play, monkeypatch, *arguments)
    assert message in capsys.readouterr().err


# --- Embeddings ---


def test_embeddings_train_once(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(embeddings, "TRAJECTORY_FRAMES", 100)
    small = ["--frames", 40, "--updates", 1, "--objectives", "w-mse", "random", "--max-steps", 60, "-o", tmp_path]
    run(embeddings, monkeypatch, *small)
    files = sorted(path.name for path in tmp_path.iterdir())
    assert files == [
        "montezuma_revenge_40_0_random_1_0.pth",
        "montezuma_revenge_40_0_w-mse_1_0.pth",
        "montezuma_revenge_embeddings.png",
        "montezuma_revenge_embeddings.svg",
    ]
    first = (tmp_path / "montezuma_revenge_embeddings.png").read_bytes()
    monkeypatch.setattr(encoder_training, "train_encoder", None)
    monkeypatch.setattr(embeddings, "learned_play", None)
    run(embeddings, monkeypatch, *small)
    assert (tmp_path / "montezuma_revenge_embeddings.png").read_bytes() == first


def test_embeddings_of_recordings(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    run(play, monkeypatch, "--agent", "random", "-n", 50, "-o", tmp_path / "play.json")
    learned: list[Any] = []
    monkeypatch.setattr(encoder_training, "train_encoder", lambda seen, *rest: (learned.append(seen), encoder())[1])

    def encoder() -> Any:
        return encoder_training.ImageEncoder(encoder_training.IMAGES, encoder_training.LATENT_SIZE), {}

    both = ["--play", tmp_path / "play.json", tmp_path / "play.json", "--trajectory", tmp_path / "play.json"]
    run(embeddings, monkeypatch, *both, "--objectives", "random", "-o", tmp_path / "figures")
    assert len(learned) == 1 and len(learned[0].frames) == 2 * 51 and learned[0].episodes[-1] == 1
    assert (tmp_path / "figures" / "montezuma_revenge_embeddings.svg").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--env", "ALE/Freeway-v5", "--trajectory", FIRST_ROOM], "is a recording of montezuma_revenge, not of freeway"),
        (["--max-steps", 20], "trajectory of 20 steps is too short .* lower perplexity"),
        (["--trajectory", "nowhere.json"], "nowhere.json"),
    ],
)
def test_embeddings_refuse_before_training(
    arguments: list[object], message: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(embeddings, "cached_encoder", None)
    monkeypatch.setattr(embeddings, "TRAJECTORY_FRAMES", 100)
    with pytest.raises((ValueError, FileNotFoundError), match=message):
        run(embeddings, monkeypatch, *arguments, "-o", tmp_path)


def test_embeddings_without_a_package(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(sys.modules, "sklearn.manifold", None)
    with pytest.raises(ImportError, match=r"pip install 'sb3-lwm\[figures\]'"):
        run(embeddings, monkeypatch, "-o", tmp_path)

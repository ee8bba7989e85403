"""Curves, figures and videos of novelty: what they mark, how they grow, and that files appear whole."""

import sys
from pathlib import Path

import numpy as np
import pytest

from sb3_lwm.figures import WatchedEpisode, draw_novelty, find_spikes, save_figure, write_video
from sb3_lwm.figures.video import CURVE_HEIGHT, RIM, SPIKE_COLOUR, WIDTH, compose

cv2 = pytest.importorskip("cv2")
pytest.importorskip("imageio_ffmpeg")
Image = pytest.importorskip("PIL.Image")

T = 14
FRAMES = [np.full((31, 20, 3), 10 * step, dtype=np.uint8) for step in range(T)]
REWARDS = np.where(np.arange(T) == 9, 5.0, 0.1 * np.arange(T) % 0.3)
REWARDS[0] = np.nan
EPISODE = WatchedEpisode(FRAMES, REWARDS, -13.0)


def test_spikes() -> None:
    long = np.zeros(400)
    long[[100, 110, 300, 390]] = 3.0, 4.0, 5.0, 2.0
    # 100 is too near to 110, all others are no higher than the mean
    assert find_spikes(long) == [110, 300, 390]
    assert find_spikes(long, n_spikes=2) == [110, 300]
    # a short episode: not next to each other
    assert find_spikes([np.nan, 1.0, 5.0, 4.0, 0.0, 3.0]) == [2, 5]
    assert find_spikes(np.full(20, 0.5)) == find_spikes([np.nan]) == find_spikes([]) == []


@pytest.mark.parametrize("suffix", [".png", ".svg"])
def test_figure(suffix: str, tmp_path: Path) -> None:
    figure = draw_novelty(REWARDS, FRAMES, "A labyrinth", n_spikes=2)
    assert figure.axes[0].get_title() == "A labyrinth"
    spikes = find_spikes(REWARDS, 2)
    assert 9 in spikes
    assert [axes.get_title() for axes in figure.axes[1:]] == [f"{n}: step {spike}" for n, spike in enumerate(spikes, 1)]
    np.testing.assert_array_equal(figure.axes[1].images[0].get_array(), FRAMES[spikes[0]])
    path = tmp_path / "pictures" / f"episode{suffix}"
    save_figure(figure, path)
    assert path.read_bytes().startswith(b"\x89PNG" if suffix == ".png" else b"<?xml")
    assert [file.name for file in path.parent.iterdir()] == [path.name]
    # the same picture is the same file
    content = path.read_bytes()
    save_figure(draw_novelty(REWARDS, FRAMES, "A labyrinth", n_spikes=2), path)
    assert path.read_bytes() == content


def test_figure_without_spikes_and_of_grey_frames() -> None:
    assert len(draw_novelty([np.nan, 1.0], np.zeros((2, 84, 84), np.uint8), "").axes) == 1
    with pytest.raises(ValueError, match="14 rewards and 3 frames: give one frame for each reward"):
        draw_novelty(REWARDS, FRAMES[:3], "")


def test_the_curve_runs_along() -> None:
    pictures = list(compose(EPISODE, "title"))
    # 440 - 2 * 6 pixels have room for 13 times 31, and encoders ask for even sides
    assert {picture.shape for picture in pictures} == {(13 * 31 + 2 * RIM + 1 + CURVE_HEIGHT, WIDTH, 3)}
    panels = [picture[-CURVE_HEIGHT:].astype(int) for picture in pictures]
    drawn = [np.flatnonzero((panel != panels[0]).any(axis=(0, 2))) for panel in panels]
    # nothing of what comes is shown, and all of it in the end
    ends = [int(columns.max(initial=0)) for columns in drawn]
    assert ends == sorted(ends) and ends[1] > ends[0] and ends[-1] > 0.9 * WIDTH
    np.testing.assert_array_equal(panels[5][:, : ends[4]], panels[13][:, : ends[4]])
    with_rim = [step for step, picture in enumerate(pictures) if (picture[0] == SPIKE_COLOUR).all(axis=-1).any()]
    assert with_rim == find_spikes(REWARDS) and 9 in with_rim


def test_a_large_frame_is_made_smaller() -> None:
    episode = WatchedEpisode([np.zeros((500, 900, 3), np.uint8)], np.array([np.nan]), 0.0)
    (picture,) = compose(episode)
    assert picture.shape[1] == WIDTH and picture.shape[0] % 2 == 0


@pytest.mark.parametrize("suffix", [".mp4", ".gif"])
def test_video(suffix: str, tmp_path: Path) -> None:
    path = tmp_path / "videos" / f"episode{suffix}"
    write_video(EPISODE, path, fps=4.0)
    assert [file.name for file in path.parent.iterdir()] == [path.name]
    if suffix == ".gif":
        with Image.open(path) as video:
            assert (video.n_frames, video.info["duration"], video.info["loop"]) == (T, 250, 0)
    else:
        capture = cv2.VideoCapture(str(path))
        assert capture.get(cv2.CAP_PROP_FPS) == 4.0
        frames = [capture.read()[1][..., ::-1] for _ in range(T)]
        assert not capture.read()[0]
        capture.release()
        assert abs(frames[9].astype(int) - list(compose(EPISODE))[9]).mean() < 5


def test_bad_input(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ValueError, match=r"episode\.avi: a video is one of \.mp4, \.gif"):
        write_video(EPISODE, tmp_path / "episode.avi", 4.0)
    monkeypatch.setattr("imageio_ffmpeg.get_ffmpeg_exe", lambda: (_ for _ in ()).throw(RuntimeError("none")))
    with pytest.raises(ImportError, match=r"needs the program ffmpeg, .* pip install 'sb3-lwm\[figures\]'"):
        write_video(EPISODE, tmp_path / "episode.mp4", 4.0)
    for module, suffix in (("imageio", ".mp4"), ("matplotlib.figure", ".gif")):
        monkeypatch.setitem(sys.modules, module, None)
        with pytest.raises(ImportError, match=rf"need {module}: pip install 'sb3-lwm\[figures\]'"):
            write_video(EPISODE, tmp_path / f"episode{suffix}", 4.0)
    assert not list(tmp_path.iterdir())

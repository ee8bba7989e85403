"""Videos of an episode above the curve of its intrinsic reward; files appear whole."""

import sys
from pathlib import Path

import numpy as np
import pytest
from figure_helpers import EPISODE, N_FRAMES, REWARDS

from sb3_lwm.figures import WatchedEpisode, find_spikes, write_video
from sb3_lwm.figures.video import CURVE_HEIGHT, RIM, SPIKE_COLOUR, WIDTH, compose

cv2 = pytest.importorskip("cv2")
pytest.importorskip("imageio_ffmpeg")
Image = pytest.importorskip("PIL.Image")


def test_curve_grows_with_the_frames() -> None:
    pictures = list(compose(EPISODE, "title"))
    # 440 - 2 * 6 pixels have room for 13 times 31, and encoders ask for even sides
    assert {picture.shape for picture in pictures} == {(13 * 31 + 2 * RIM + 1 + CURVE_HEIGHT, WIDTH, 3)}
    panels = [picture[-CURVE_HEIGHT:].astype(int) for picture in pictures]
    drawn = [np.flatnonzero((panel != panels[0]).any(axis=(0, 2))) for panel in panels]
    # later rewards are not shown, and in the end all of them are
    ends = [int(columns.max(initial=0)) for columns in drawn]
    assert ends == sorted(ends) and ends[1] > ends[0] and ends[-1] > 0.9 * WIDTH
    np.testing.assert_array_equal(panels[5][:, : ends[4]], panels[13][:, : ends[4]])
    with_rim = [step for step, picture in enumerate(pictures) if (picture[0] == SPIKE_COLOUR).all(axis=-1).any()]
    assert with_rim == find_spikes(REWARDS) and 9 in with_rim


def test_large_frames_are_made_smaller() -> None:
    episode = WatchedEpisode([np.zeros((500, 900, 3), np.uint8)], np.array([np.nan]), 0.0)
    (picture,) = compose(episode)
    assert picture.shape[1] == WIDTH and picture.shape[0] % 2 == 0


@pytest.mark.parametrize("suffix", [".mp4", ".gif"])
def test_video_files(suffix: str, tmp_path: Path) -> None:
    path = tmp_path / "videos" / f"episode{suffix}"
    write_video(EPISODE, path, fps=4.0)
    assert [file.name for file in path.parent.iterdir()] == [path.name]
    if suffix == ".gif":
        with Image.open(path) as video:
            assert (video.n_frames, video.info["duration"], video.info["loop"]) == (N_FRAMES, 250, 0)
    else:
        capture = cv2.VideoCapture(str(path))
        assert capture.get(cv2.CAP_PROP_FPS) == 4.0
        frames = [capture.read()[1][..., ::-1] for _ in range(N_FRAMES)]
        assert not capture.read()[0]
        capture.release()
        assert abs(frames[9].astype(int) - list(compose(EPISODE))[9]).mean() < 5


def test_videos_that_cannot_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
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

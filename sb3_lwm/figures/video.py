"""A video of an episode: the frames, and below them the curve of the intrinsic reward up to each frame."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from tqdm import tqdm

from sb3_lwm.common.files import whole_file
from sb3_lwm.figures.episode import WatchedEpisode
from sb3_lwm.figures.novelty import draw_curve, find_spikes
from sb3_lwm.figures.requirements import INSTALL, require

# Lengths in pixels, even numbers as video encoders require; FRAME_HEIGHT is the maximum height of a frame
WIDTH, FRAME_HEIGHT, CURVE_HEIGHT, RIM = 480, 440, 176, 6
DPI = 100
SPIKE_COLOUR, CURSOR_COLOUR = (214, 39, 40), (120, 120, 120)
SUFFIXES = (".mp4", ".gif")
GIF_COLOURS = 64


def check_video_packages(suffix: str) -> None:
    """
    :param suffix: The suffix of a video's file
    :raises ImportError: If a package that it needs is not installed; the message names the extra
    """
    require("matplotlib.figure")
    require("PIL.Image")
    if suffix == ".mp4":
        require("imageio")
        try:
            require("imageio_ffmpeg").get_ffmpeg_exe()
        except RuntimeError as error:
            raise ImportError(f"An MP4 needs the program ffmpeg, which is part of imageio-ffmpeg: {INSTALL}.") from error


def write_video(episode: WatchedEpisode, path: Path, fps: float, title: str = "") -> None:
    """
    :param episode: The episode, with at least one frame
    :param path: The path of an MP4 or GIF file, which is written completely or not at all; its folder is created
    :param fps: The number of frames per second
    :param title: The title of the curve
    :raises ValueError: If the path has another suffix
    :raises ImportError: If a package that it needs is not installed; the message names the extra
    """
    suffix = path.suffix.lower()
    if suffix not in SUFFIXES:
        raise ValueError(f"{path}: a video is one of {', '.join(SUFFIXES)}.")
    check_video_packages(suffix)
    pictures = tqdm(
        compose(episode, title), desc=path.name, total=len(episode.frames), unit="frame", mininterval=1.0, disable=None
    )
    with whole_file(path) as temporary:
        (_write_gif if suffix == ".gif" else _write_mp4)(pictures, temporary, fps)


def _write_gif(pictures: Any, path: Path, fps: float) -> None:
    image = require("PIL.Image")
    # few colours and no dithering make small files, at least for pictures with flat areas
    parts = (image.fromarray(picture).quantize(GIF_COLOURS, dither=image.Dither.NONE) for picture in pictures)
    first = next(parts)
    first.save(path, save_all=True, append_images=parts, duration=round(1000 / fps), loop=0)


def _write_mp4(pictures: Any, path: Path, fps: float) -> None:
    with require("imageio.v2").get_writer(path, format="FFMPEG", fps=fps, macro_block_size=2) as writer:
        for picture in pictures:
            writer.append_data(picture)


def compose(episode: WatchedEpisode, title: str = "") -> Iterator[npt.NDArray[np.uint8]]:
    """
    :param episode: The episode, with at least one frame
    :param title: The title of the curve
    :return: A picture for each frame, (height, 480, 3) uint8, with a red border at spikes of the intrinsic reward, and the
        curve up to this step
    """
    spikes = find_spikes(episode.intrinsic_rewards)
    empty, whole, columns, rows = _draw_panels(episode, spikes, title)
    for step, frame in enumerate(episode.frames):
        panel, column = empty.copy(), columns[step] + 1
        panel[:, :column] = whole[:, :column]
        panel[rows, column] = CURSOR_COLOUR
        yield np.concatenate((_fit(frame, step in spikes), panel))


def _draw_panels(
    episode: WatchedEpisode, spikes: list[int], title: str
) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.uint8], npt.NDArray[np.int64], slice]:
    """
    Return the axes without and with the curve, (176, 480, 3) uint8 both, the column of each step (T,), and the rows inside
    the axes.
    """
    figure = require("matplotlib.figure").Figure(figsize=(WIDTH / DPI, CURVE_HEIGHT / DPI), dpi=DPI, layout="constrained")
    canvas = require("matplotlib.backends.backend_agg").FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    draw_curve(axes, episode.intrinsic_rewards, spikes, "intrinsic reward")
    axes.set_title(title, fontsize=9)
    axes.tick_params(labelsize=8)
    for label in (axes.xaxis.label, axes.yaxis.label):
        label.set_fontsize(8)
    n_steps = len(episode.frames)
    axes.set_xlim(-0.5, n_steps - 0.5)
    pictures = []
    for visible in (True, False):
        for artist in [*axes.lines, *axes.texts]:
            artist.set_visible(visible)
        canvas.draw()
        # the layout is fixed after the first drawing, so that hiding the curve does not change it
        figure.set_layout_engine("none")
        pictures.append(np.asarray(canvas.buffer_rgba())[..., :3].copy())
    steps = np.stack((np.arange(n_steps), np.zeros(n_steps)), axis=1)
    columns = np.rint(axes.transData.transform(steps)[:, 0]).astype(np.int64)
    inside = axes.get_window_extent()
    # matplotlib counts from the bottom
    rows = slice(CURVE_HEIGHT - int(inside.y1) + 1, CURVE_HEIGHT - int(inside.y0) - 1)
    return pictures[1], pictures[0], columns, rows


def _fit(frame: npt.NDArray[np.uint8], is_spike: bool) -> npt.NDArray[np.uint8]:
    """
    Return the frame in the middle of a white picture, (even height, 480, 3) uint8, enlarged by an integer factor if it fits,
    else reduced.
    """
    image, operations = require("PIL.Image"), require("PIL.ImageOps")
    fitted, size = image.fromarray(frame), (WIDTH - 2 * RIM, FRAME_HEIGHT - 2 * RIM)
    factor = min(size[0] // fitted.width, size[1] // fitted.height)
    # without interpolation, so that pixels stay sharp
    fitted = fitted.resize((fitted.width * factor, fitted.height * factor), 0) if factor else operations.contain(fitted, size)
    fitted = operations.expand(fitted, RIM, SPIKE_COLOUR if is_spike else "white")
    whole = image.new("RGB", (WIDTH, fitted.height + fitted.height % 2), "white")
    whole.paste(fitted, ((WIDTH - fitted.width) // 2, 0))
    return np.asarray(whole)

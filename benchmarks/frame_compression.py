"""
Lossless compression of Atari frames in blocks of consecutive frames of one environment, as in the replay::

    pip install lz4 zstandard blosc2
    OMP_NUM_THREADS=1 python benchmarks/frame_compression.py

The frames are 84x84 grey frames of random play in the six games of the paper; one thread is used. Prints for every game and
library the bytes of a frame, the speeds of compression and decompression, and the CPU milliseconds to draw 16 sequences of
125 frames beside those of the raw frames; writes them to ``benchmarks/results/frame_compression.csv``.
"""

import argparse
import csv
import importlib.metadata
import statistics
import time
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest import mock

import blosc2
import lz4.block
import numpy as np
import torch as th
import zstandard
from ale_py.vector_env import AtariVectorEnv
from gymnasium import spaces
from tqdm import tqdm

from sb3_lwm.replay import observation_storage
from sb3_lwm.replay.observation_storage import BLOCK_ROWS, CODECS, Codec, CompressedStorage, HostStorage

GAMES = ("freeway", "frostbite", "venture", "gravitar", "solaris", "montezuma_revenge")
SEQUENCES, LENGTH = 16, 125
DRAWS = 30
CPU = th.device("cpu")


def make_codecs() -> dict[str, Codec]:
    """:return: The codecs to compare by name, each with one thread"""
    lz4_of_blosc: dict[str, Any] = {"codec": blosc2.Codec.LZ4, "filters": [blosc2.Filter.NOFILTER], "nthreads": 1}
    return {
        "lz4": Codec(lz4.block.compress, lz4.block.decompress),
        "zstandard-1": CODECS["zstd"](),
        "zstandard-3": Codec(zstandard.ZstdCompressor(level=3).compress, zstandard.ZstdDecompressor().decompress),
        "blosc2-lz4": Codec(lambda block: blosc2.compress2(block, **lz4_of_blosc), blosc2.decompress2),
    }


def play(game: str, n_envs: int, steps: int) -> np.ndarray:
    """Return the frames of random play of a game, (steps, n_envs, 1, 84, 84) uint8."""
    env = AtariVectorEnv(
        game, n_envs, stack_num=1, reward_clipping=False, life_loss_info=True, autoreset_mode="SameStep", num_threads=1
    )
    observations, _ = env.reset(seed=0)
    env.action_space.seed(0)
    frames = [observations.copy()]
    for _ in tqdm(range(steps - 1), desc=f"{game}, playing", leave=False):
        observations, *_ = env.step(env.action_space.sample())
        frames.append(observations.copy())
    env.close()
    return np.stack(frames)


def seconds(function: Callable[[], object]) -> float:
    """Return the CPU seconds of one call, which other work of the machine changes less than the wall time."""
    start = time.process_time()
    function()
    return time.process_time() - start


def measure_codec(codec: Codec, frames: np.ndarray) -> dict[str, float]:
    """
    :param codec: The codec to measure
    :param frames: The frames of one game, (rows, n_envs, ...)
    :return: The bytes of a frame, and the MB of raw frames per second in both directions
    """
    by_env = frames.swapaxes(0, 1).reshape(frames.shape[1], -1, BLOCK_ROWS, *frames.shape[2:])
    blocks = list(np.ascontiguousarray(by_env).reshape(-1, *by_env.shape[2:]))
    packed: list[bytes] = []
    packing = seconds(lambda: packed.extend(map(codec.compress, blocks)))
    # a deque of length 0 drops the results, since the replay only keeps some of their rows
    unpacking = seconds(lambda: deque(map(codec.decompress, packed), maxlen=0))
    assert all(codec.decompress(block) == raw.tobytes() for block, raw in zip(packed, blocks, strict=True))
    megabytes = frames.nbytes / 1e6
    return {
        "bytes_per_frame": sum(map(len, packed)) / (frames.shape[0] * frames.shape[1]),
        "compress_mb_per_s": megabytes / packing,
        "decompress_mb_per_s": megabytes / unpacking,
    }


def measure_draws(codecs: dict[str, Codec], frames: np.ndarray) -> dict[str, float]:
    """
    :param codecs: The codecs to measure
    :param frames: The frames of one game, (rows, n_envs, ...)
    :return: The median milliseconds of one sample, for each codec and for ``"raw"``, measured in turns
    """
    rows, n_envs = frames.shape[:2]
    every_env = np.arange(n_envs)
    space = spaces.Box(0, 255, frames.shape[2:], np.uint8)
    rng = np.random.default_rng(0)
    samples: dict[str, list[float]] = {name: [] for name in ("raw", *codecs)}
    with mock.patch.dict(observation_storage.CODECS, {name: lambda codec=codec: codec for name, codec in codecs.items()}):
        compressed = {name: CompressedStorage(rows, n_envs, space, compression=name) for name in codecs}
        storages = {"raw": HostStorage(rows, n_envs, space), **compressed}
        for storage in storages.values():
            for row in range(rows):
                storage.write(np.full(n_envs, row), every_env, frames[row])
        for _ in range(DRAWS):
            starts = rng.integers(rows - LENGTH, size=SEQUENCES)
            places = (starts + np.arange(LENGTH)[:, None]) * n_envs + rng.integers(n_envs, size=SEQUENCES)
            for name, storage in storages.items():
                samples[name].append(seconds(lambda storage=storage, places=places: storage.take(places, CPU)))  # type: ignore[misc]
    return {name: 1e3 * statistics.median(times) for name, times in samples.items()}


def measure_game(game: str, n_envs: int, steps: int) -> list[dict[str, Any]]:
    """Return a line of the table for each library."""
    frames = play(game, n_envs, steps)
    codecs = make_codecs()
    draws = measure_draws(codecs, frames)
    return [
        {
            "game": game,
            "library": name,
            **{key: round(value, 1) for key, value in measure_codec(codec, frames).items()},
            "draw_ms": round(draws[name], 2),
            "raw_draw_ms": round(draws["raw"], 2),
            "frames": frames.shape[0] * frames.shape[1],
            **{package: importlib.metadata.version(package) for package in ("ale-py", "lz4", "zstandard", "blosc2")},
        }
        for name, codec in codecs.items()
    ]


def main() -> None:
    """Measure, print and write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--n-envs", type=int, default=8)
    parser.add_argument("--steps", type=int, default=1600, help="The steps of each environment, a multiple of 8")
    parser.add_argument("--output", type=Path, default=Path(__file__).parent / "results" / "frame_compression.csv")
    arguments = parser.parse_args()
    th.set_num_threads(1)
    lines = [line for game in tqdm(GAMES, desc="Games") for line in measure_game(game, arguments.n_envs, arguments.steps)]
    columns = [*lines[0]][:7]
    print("".join(f"{column:>22}" for column in columns))
    for line in lines:
        print("".join(f"{line[column]:>22}" for column in columns))
    with arguments.output.open("w", newline="") as file:
        writer = csv.DictWriter(file, lines[0].keys(), lineterminator="\n")
        writer.writeheader()
        writer.writerows(lines)


if __name__ == "__main__":
    main()

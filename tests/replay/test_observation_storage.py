"""Observations come back bit for bit, wherever and however they are stored."""

import pickle
import sys
import tracemalloc
from typing import Any

import numpy as np
import psutil
import pytest
import torch as th
from gymnasium import spaces
from helpers import SHORT, changed, make_random_envs, weights
from replay_helpers import N_ACTIONS, SPACES, STORAGES, Player, stored

from sb3_lwm import LWMDQN
from sb3_lwm.replay.observation_storage import (
    BLOCK_ROWS,
    CompressedStorage,
    HostStorage,
    ObservationStorage,
    TorchStorage,
    check_storage,
    make_storage,
    observation_bytes,
)
from sb3_lwm.replay.sequence_buffer import SequenceReplayBuffer

CPU = th.device("cpu")
# types that PyTorch cannot index among them
DTYPES = (np.uint8, np.uint16, np.int8, np.int64, np.float16, np.float32, np.float64)


def box(dtype: Any, shape: tuple[int, ...] = (2, 3)) -> spaces.Box:
    if np.dtype(dtype).kind == "f":
        return spaces.Box(-np.inf, np.inf, shape, dtype)
    return spaces.Box(np.iinfo(dtype).min, np.iinfo(dtype).max, shape, dtype)


class Writer:
    """
    Writes random bits into storages of every kind, a different number in each environment, and records them.

    :param space: The space of an observation
    :param rows: The number of rows of each environment
    :param n_envs: The number of environments
    :param seed: The seed of the bits
    """

    def __init__(self, space: spaces.Space, rows: int, n_envs: int, seed: int = 0) -> None:
        self.storages: dict[str, ObservationStorage] = {name: make(rows, n_envs, space) for name, make in STORAGES.items()}
        self.rows, self.n_envs = rows, n_envs
        self.rng = np.random.default_rng(seed)
        self.written = np.zeros(n_envs, dtype=np.int64)
        reference = self.storages["host"]
        self.shape, self.dtype = reference.shape, reference.dtype
        self.expected = np.zeros((rows, n_envs, *self.shape), self.dtype)

    def write(self, envs: np.ndarray) -> None:
        # any bits, those of NaN among them
        size = len(envs) * int(np.prod(self.shape)) * self.dtype.itemsize
        values = np.frombuffer(self.rng.bytes(size), self.dtype).reshape(len(envs), *self.shape)
        rows = self.written[envs] % self.rows
        for storage in self.storages.values():
            storage.write(rows, envs, values)
        self.expected[rows, envs] = values
        self.written[envs] += 1

    def write_some(self) -> None:
        self.write(np.flatnonzero(self.rng.random(self.n_envs) < 0.6))

    def check(self, *shape: int) -> None:
        """Take places of this shape, of rows that have been written or not, and some of them twice."""
        places = self.rng.integers(self.rows * self.n_envs, size=shape)
        expected = self.expected.reshape(-1, *self.shape)[places]
        for name, storage in self.storages.items():
            taken = storage.take(places, CPU).numpy()
            assert (taken.shape, taken.dtype) == (expected.shape, expected.dtype), name
            assert taken.tobytes() == expected.tobytes(), name

    def check_all(self) -> None:
        places = np.arange(self.rows * self.n_envs).reshape(self.rows, self.n_envs)
        for name, storage in self.storages.items():
            assert storage.take(places, CPU).numpy().tobytes() == self.expected.tobytes(), name


@pytest.mark.parametrize("rows", [1, 5, 8, 16, 21])
@pytest.mark.parametrize("seed", range(4))
def test_all_agree_with_plain_arrays(rows: int, seed: int) -> None:
    writer = Writer(box(np.uint8), rows, n_envs=1 + seed, seed=seed)
    writer.check_all()
    for _ in range(8 * rows + 8):
        writer.write_some()
        writer.check(int(writer.rng.integers(6)), 3)
        writer.check_all()
    # over and over again, with the cursor at every place of a block
    assert writer.written.max() > 3 * rows
    writer.check(50)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(1,), (2, 3)])
def test_every_dtype(dtype: Any, shape: tuple[int, ...]) -> None:
    writer = Writer(box(dtype, shape), rows=13, n_envs=3)
    for _ in range(40):
        writer.write_some()
    writer.check(4, 5)
    writer.check_all()


@pytest.mark.parametrize("name", [name for name in SPACES if name != "dict"])
def test_storage_of_every_space(name: str) -> None:
    space = SPACES[name]
    writer = Writer(space, rows=13, n_envs=2)
    observations = [np.stack([space.sample() for _ in range(2)]) for _ in range(13)]
    for row, values in enumerate(observations):
        for storage in writer.storages.values():
            storage.write(np.full(2, row), np.arange(2), values)
    for storage in writer.storages.values():
        taken = storage.take(np.arange(26).reshape(13, 2), CPU).numpy()
        assert taken.dtype == space.dtype
        np.testing.assert_array_equal(taken, np.stack(observations).reshape(taken.shape))
    assert storage.take(np.arange(1), CPU).numpy().nbytes == observation_bytes(space)


@pytest.mark.parametrize("kind", STORAGES)
def test_values_of_another_type_are_converted(kind: str) -> None:
    # some environments return float64 where their space says float32
    storage = STORAGES[kind](4, 2, box(np.float32, (3,)))
    values = np.arange(6, dtype=np.float64).reshape(2, 3)[:, ::-1] / 3
    storage.write(np.array([0, 0]), np.array([1, 0]), values)
    np.testing.assert_array_equal(storage.take(np.array([1, 0]), CPU).numpy(), values.astype(np.float32))
    storage.write(np.array([1, 1]), np.array([0, 1]), values.tolist())
    np.testing.assert_array_equal(storage.take(np.array([2, 3]), CPU).numpy(), values.astype(np.float32))


def test_old_rows_of_a_compressed_block_stay_until_they_are_overwritten() -> None:
    storage = CompressedStorage(2 * BLOCK_ROWS, 1, box(np.uint8, (1,)), compression="zstd")
    env = np.zeros(1, dtype=np.int64)
    every_row = np.arange(2 * BLOCK_ROWS)
    for number in range(2 * BLOCK_ROWS + 3):
        storage.write(np.array([number % (2 * BLOCK_ROWS)]), env, [[number]])
    expected = [16, 17, 18, *range(3, 16)]
    assert storage.take(every_row, CPU).ravel().tolist() == expected
    # after a reset the unfinished block is forgotten
    storage.write(np.array([0]), env, [[99]])
    assert storage.take(every_row, CPU).ravel().tolist() == [99, *range(1, 16)]


@pytest.mark.parametrize("n_written", [0, 3, 8, 29, 40])
def test_pickled_storage_continues(n_written: int) -> None:
    writer = Writer(box(np.float32), rows=20, n_envs=2)
    for _ in range(n_written):
        writer.write(np.arange(2))
    writer.storages = pickle.loads(pickle.dumps(writer.storages))
    writer.check_all()
    for _ in range(15):
        writer.write_some()
    writer.check_all()


@pytest.mark.parametrize("kind", STORAGES)
def test_taken_rows_are_copies(kind: str) -> None:
    storage = STORAGES[kind](8, 1, box(np.uint8, (1,)))
    for row in range(5):
        storage.write(np.array([row]), np.zeros(1, dtype=np.int64), [[row]])
    taken = storage.take(np.arange(5), CPU)
    taken.fill_(77)
    assert storage.take(np.arange(8), CPU).ravel().tolist() == [0, 1, 2, 3, 4, 0, 0, 0]


@pytest.mark.parametrize("kind", STORAGES)
def test_taking_rows_copies_only_these_rows(kind: str) -> None:
    rows, n_envs = 400, 4
    storage = STORAGES[kind](rows, n_envs, spaces.Box(0, 255, (1, 84, 84), np.uint8))
    for row in range(rows):
        storage.write(np.full(n_envs, row), np.arange(n_envs), np.full((n_envs, 1, 84, 84), row % 256))
    assert rows * n_envs * 7056 > 11e6
    tracemalloc.start()
    for first in range(20):
        storage.take(np.arange(first, first + 20)[:, None] * n_envs, CPU)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    # some blocks of 56 kB
    assert peak < 0.5e6


def test_bytes_in_use() -> None:
    storages = Writer(spaces.Box(0, 255, (1, 84, 84), np.uint8), rows=64, n_envs=2).storages
    raw = 64 * 2 * 7056
    assert storages["host"].nbytes == storages["torch"].nbytes == raw
    compressed = storages["zstd"]
    before = compressed.nbytes
    # two unfinished blocks, and the places of the others
    assert 2 * 8 * 7056 < before < 2 * 8 * 7056 + 1000
    for row in range(64):
        compressed.write(np.full(2, row), np.arange(2), np.full((2, 7056), row))
    assert 16 * 40 < compressed.nbytes - before < 16 * 400
    random = Writer(spaces.Box(0, 255, (1, 84, 84), np.uint8), rows=64, n_envs=2)
    for _ in range(64):
        random.write(np.arange(2))
    # what cannot be compressed
    assert raw < random.storages["zstd"].nbytes - before < 1.01 * raw


def test_compressed_blocks_leave_no_holes_in_memory() -> None:
    # what zstandard returns is cut out of a piece of 56 kB each; the holes between them would be more than the blocks
    rows, n_envs = 400, 64
    storage = CompressedStorage(rows, n_envs, spaces.Box(0, 255, (1, 84, 84), np.uint8), compression="zstd")
    frames = np.zeros((n_envs, 7056), np.uint8)
    frames[:, :300] = np.random.default_rng(0).integers(0, 256, (n_envs, 300))
    resident, counted = psutil.Process().memory_info().rss, storage.nbytes
    for row in range(rows):
        storage.write(np.full(n_envs, row), np.arange(n_envs), np.roll(frames, 37 * row, axis=1))
    resident = psutil.Process().memory_info().rss - resident - storage.pending.nbytes
    assert resident < 4 * (storage.nbytes - counted)


# --- In the replay and the agent ---


@pytest.mark.parametrize("space", ["image", "dict"])
@pytest.mark.parametrize("kind", ["torch", "zstd"])
def test_replay_samples_the_same_from_every_storage(kind: str, space: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def play() -> list[np.ndarray]:
        buffer = SequenceReplayBuffer(87, SPACES[space], spaces.Discrete(N_ACTIONS), "cpu", 3, sequence_length=7)
        player = Player(buffer, seed=1, end_chance=[0.0, 0.2, 0.7])
        np.random.seed(2)
        results = []
        for play in range(30):
            player.play(1 + play % 5)
            if play % 7 == 6:
                player.truncate()
            if buffer.can_sample():
                samples = buffer.sample(10)
                player.check(samples, 0)
                parts = samples.observations.values() if isinstance(samples.observations, dict) else [samples.observations]
                results += [part.numpy() for part in (*parts, samples.rewards, samples.finals)]
        assert buffer.full
        buffer.reset()
        player = Player(buffer, seed=3)
        player.play(9)
        for column in range(10):
            player.check(buffer.sample(10), column)
        return results

    expected = play()
    monkeypatch.setattr(
        "sb3_lwm.replay.sequence_buffer.make_storage", lambda rows, n_envs, space, *_: STORAGES[kind](rows, n_envs, space)
    )
    for result, other in zip(play(), expected, strict=True):
        np.testing.assert_array_equal(result, other)


@pytest.mark.parametrize("prioritized_replay", [False, True])
def test_agent_learns_the_same_with_compression(prioritized_replay: bool, tmp_path: Any) -> None:
    def learn(**kwargs: Any) -> LWMDQN:
        env = make_random_envs(n_envs=4)
        return LWMDQN("MlpPolicy", env, seed=0, prioritized_replay=prioritized_replay, **SHORT, **kwargs).learn(100)

    plain, compressed = learn(), learn(replay_buffer_kwargs={"compression": "zstd"})
    assert not changed(weights(plain.policy), weights(compressed.policy))
    assert plain.replay_buffer is not None and compressed.replay_buffer is not None
    assert isinstance(compressed.replay_buffer.observations, CompressedStorage)
    compressed.save_replay_buffer(tmp_path / "replay")
    compressed.load_replay_buffer(tmp_path / "replay")
    np.testing.assert_array_equal(*(stored(agent.replay_buffer, "observations") for agent in (plain, compressed)))


# --- Storages that are refused ---


def test_storage_for_each_device_and_compression() -> None:
    space = SPACES["image"]
    assert type(make_storage(4, 2, space, "cpu", None)) is HostStorage
    assert type(make_storage(4, 2, space, CPU, None)) is HostStorage
    assert type(make_storage(4, 2, space, "meta", None)) is TorchStorage
    assert type(make_storage(4, 2, space, "cpu", "zstd")) is CompressedStorage


def test_unknown_storages_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ValueError, match="storage_device='attic' is not a device: use 'cpu' or 'cuda'"):
        check_storage("attic", None)
    with pytest.raises(ValueError, match="compression='zip': use None or one of 'zstd'"):
        check_storage("cpu", "zip")
    monkeypatch.setattr(th.cuda, "is_available", lambda: False)
    with pytest.raises(ValueError, match="storage_device='cuda': PyTorch finds no GPU here, use 'cpu'"):
        check_storage("cuda", None)
    monkeypatch.setattr(th.cuda, "is_available", lambda: True)
    assert check_storage("cuda", None).type == "cuda"
    with pytest.raises(ValueError, match="'cuda' with compression='zstd': only host memory is compressed"):
        check_storage("cuda", "zstd")


def test_missing_compression_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "zstandard", None)
    with pytest.raises(
        ImportError, match=r"compression='zstd' needs the package zstandard: pip install sb3-lwm\[compression\]"
    ):
        make_storage(4, 2, SPACES["image"], "cpu", "zstd")


# --- On a GPU ---


@pytest.mark.skipif(not th.cuda.is_available(), reason="there is no GPU")
@pytest.mark.parametrize("kind", ["host", "zstd", "cuda"])
def test_storage_on_a_gpu(kind: str) -> None:
    device = th.device("cuda")
    writer = Writer(box(np.uint8), rows=20, n_envs=3)
    writer.storages["cuda"] = TorchStorage(20, 3, box(np.uint8), storage_device=device)
    for _ in range(33):
        writer.write_some()
    writer.storages = pickle.loads(pickle.dumps(writer.storages))
    writer.check_all()
    taken = writer.storages[kind].take(np.arange(60), device)
    assert taken.device.type == "cuda"
    assert taken.cpu().numpy().tobytes() == writer.expected.tobytes()

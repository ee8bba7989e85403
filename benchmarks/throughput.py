"""
Speed, as ratios against peers measured in the same run, interleaved, medians::

    OMP_NUM_THREADS=1 python benchmarks/throughput.py
    OMP_NUM_THREADS=1 python benchmarks/throughput.py --preset paper
    python benchmarks/throughput.py --preset paper --device cuda

Prints the milliseconds of one update against the same update as it would be written first, and the environment steps per
second of the whole run after the warm-up. The preset ``labyrinth`` compares the run with SB3's DQN; ``paper`` are the Atari
settings of ``hyperparams/atari.yml`` on Montezuma's Revenge, with and without stepping ahead.
"""

import argparse
import inspect
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any
from unittest import mock

import torch as th
import yaml
from stable_baselines3 import DQN
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.env_util import make_vec_env
from torch import nn
from torch.utils.flop_counter import FlopCounterMode
from tqdm import tqdm

from sb3_lwm import LWMDQN
from sb3_lwm.common.cnn import ImageCNN
from sb3_lwm.common.gru import ResettableGRU
from sb3_lwm.envs import AtariVecEnv

SETTINGS = Path(__file__).resolve().parents[1] / "hyperparams"
Tasks = dict[str, Callable[[], object]]


def read_settings(file: str, block: str) -> dict[str, Any]:
    """:return: arguments of LWMDQN in a block of our hyperparameters"""
    settings = yaml.safe_load((SETTINGS / file).read_text(encoding="utf-8"))[block]
    # the others are the Zoo's
    return {key: value for key, value in settings.items() if key in inspect.signature(LWMDQN).parameters and key != "policy"}


# --- The plain versions ---


def gru_cell_loop(self: ResettableGRU, inputs: th.Tensor, hidden: th.Tensor, resets: th.Tensor) -> th.Tensor:
    """The same memory: one call of the cell for each step."""
    memories = []
    for step_inputs, step_resets in zip(inputs, resets, strict=True):
        hidden = self.cell(step_inputs, hidden * ~step_resets.unsqueeze(-1))
        memories.append(hidden)
    return th.stack(memories)


def roll_loop(frames: th.Tensor, max_shift: int, generator: th.Generator | None = None) -> th.Tensor:
    """The same shifts: one frame at a time."""
    shifts = th.randint(-max_shift, max_shift + 1, (len(frames), 2), generator=generator, device=frames.device).tolist()
    return th.stack([frame.roll(tuple(shift), dims=(-2, -1)) for frame, shift in zip(frames, shifts, strict=True)])


def all_at_once(function: Callable[[th.Tensor], th.Tensor], images: th.Tensor) -> th.Tensor:
    """The same features: the convolutions of all images in one call."""
    return function(images)


@contextmanager
def straightforward() -> Iterator[None]:
    """Replace what was made fast."""
    with ExitStack() as stack:
        stack.enter_context(mock.patch.object(ResettableGRU, "forward", gru_cell_loop))
        stack.enter_context(mock.patch("sb3_lwm.world_model.objectives.random_shift", roll_loop))
        for module in ("lwm_dqn.q_network", "world_model.encoders"):
            stack.enter_context(mock.patch(f"sb3_lwm.{module}.in_chunks", all_at_once))
        yield


def lay_out_plainly(agent: LWMDQN) -> None:
    """Convolutions as SB3's NatureCNN has them: channels first, activations not in place."""
    for module in agent.policy.modules():
        if isinstance(module, ImageCNN):
            module.cnn.to(memory_format=th.contiguous_format)
            for layer in module.cnn:
                if isinstance(layer, nn.ReLU):
                    layer.inplace = False


# --- Measuring ---


def seconds(function: Callable[[], object]) -> tuple[float, float]:
    """:return: wall and CPU seconds of one call, with all that a GPU has to do for it"""
    wall, cpu = time.perf_counter(), time.process_time()
    function()
    if th.cuda.is_available():
        th.cuda.synchronize()
    return time.perf_counter() - wall, time.process_time() - cpu


def measure(tasks: Tasks, rounds: int, description: str) -> dict[str, tuple[float, float]]:
    """
    :param tasks: what to measure
    :param rounds: each does every task once, so that a busy moment of the machine hits all alike
    :param description: of the progress bar
    :return: median wall and CPU seconds of each task
    """
    samples: dict[str, list[tuple[float, float]]] = {name: [] for name in tasks}
    for _ in tqdm(range(rounds), desc=description):
        for name, task in tasks.items():
            samples[name].append(seconds(task))
    return {name: tuple(map(statistics.median, zip(*pairs, strict=True))) for name, pairs in samples.items()}  # type: ignore[misc]


def plainly(task: Callable[[], object]) -> Callable[[], object]:
    """:return: the task, as it would be written first"""

    def run() -> None:
        with straightforward():
            task()

    return run


def print_updates(pairs: dict[str, tuple[Callable[[], object], Callable[[], object]]], rounds: int) -> None:
    """
    Print milliseconds of one update, ours and the straightforward one.

    :param pairs: name: (ours, straightforward)
    :param rounds: of measurement
    """
    tasks = {
        f"{name}{label}": task for name, both in pairs.items() for label, task in zip(("", ", plainly"), both, strict=True)
    }
    medians = measure(tasks, rounds, "Updates")
    print(f"\n{'one update':<44}{'wall ms':>10}{'CPU ms':>10}{'plainly / ours (CPU, wall)':>30}")
    for name in pairs:
        (wall, cpu), (plain_wall, plain_cpu) = medians[name], medians[f"{name}, plainly"]
        print(f"{name:<44}{1e3 * wall:>10.1f}{1e3 * cpu:>10.1f}{plain_cpu / cpu:>22.2f}{plain_wall / wall:>8.2f}")
        print(f"{name + ', plainly':<44}{1e3 * plain_wall:>10.1f}{1e3 * plain_cpu:>10.1f}")


def print_runs(agents: dict[str, BaseAlgorithm], rounds: int, steps: int) -> None:
    """
    Print environment steps per second of ``learn`` after the warm-up; the first agent is the yardstick.

    :param agents: that have learned already
    :param rounds: of measurement
    :param steps: of each ``learn``
    """

    def go_on(agent: BaseAlgorithm) -> Callable[[], object]:
        return lambda: agent.learn(steps, reset_num_timesteps=False, log_interval=1000)

    medians = measure({name: go_on(agent) for name, agent in agents.items()}, rounds, "Runs")
    reference_wall, reference_cpu = next(iter(medians.values()))
    header = f"{'steps/wall s':>14}{'steps/CPU s':>14}{'ratio wall':>12}{'ratio CPU':>12}{'CPU min / 1e6':>15}"
    print(f"\n{'whole run after the warm-up':<44}{header}")
    for name, (wall, cpu) in medians.items():
        ratios = f"{reference_wall / wall:>12.3f}{reference_cpu / cpu:>12.3f}"
        print(f"{name:<44}{steps / wall:>14.0f}{steps / cpu:>14.0f}{ratios}{cpu / steps * 1e6 / 60:>15.1f}")


# --- Presets ---


def measure_labyrinth(arguments: argparse.Namespace) -> None:
    """The labyrinth's settings against SB3's DQN."""
    n_envs, warm_up = arguments.n_envs or 8, 10_000
    settings = {**read_settings("labyrinth-paper.yml", "POL-3x3-v0"), "seed": 0, "device": arguments.device}
    settings["pretraining_updates"] = 10  # no part of what is measured; a short one sets the normaliser
    shared = {key: settings[key] for key in ("train_freq", "learning_starts", "buffer_size", "seed", "device")}

    def make(agent: type[BaseAlgorithm], **kwargs: Any) -> BaseAlgorithm:
        env = make_vec_env("POL-3x3-v0", n_envs, seed=0)
        return agent("MlpPolicy", env, **kwargs).learn(warm_up + n_envs * settings["train_freq"] * 10)

    agents = {
        "SB3 DQN": make(DQN, **shared),
        "LWMDQN": make(LWMDQN, **settings),
        "LWMDQN, no world model": make(LWMDQN, **settings, use_world_model=False),
    }
    ours = {name: agent for name, agent in agents.items() if isinstance(agent, LWMDQN)}
    updates = {name: lambda agent=agent: agent.train(1, settings["batch_size"]) for name, agent in ours.items()}
    print_updates({name: (update, plainly(update)) for name, update in updates.items()}, arguments.rounds or 15)
    print_runs(agents, arguments.rounds or 15, arguments.steps or 1600)


def measure_paper(arguments: argparse.Namespace) -> None:
    """The whole program of the Atari experiments at its real sizes; on a CPU with fewer games, which no update notices."""
    on_gpu = arguments.device.startswith("cuda")
    n_envs = arguments.n_envs or (128 if on_gpu else 16)
    settings = {**read_settings("atari.yml", "atari"), "seed": 0, "device": arguments.device}
    settings.update(
        buffer_size=n_envs * 640, learning_starts=n_envs * 260, pretraining_updates=2, encoder_pretraining_updates=2
    )
    settings.update(storage_device=arguments.storage_device, compression=arguments.compression)
    settings.update(mixed_precision=arguments.mixed_precision, compile_networks=arguments.compile)

    def make(step_ahead: bool) -> LWMDQN:
        env = AtariVecEnv("MontezumaRevengeNoFrameskip-v4", n_envs, seed=0)
        agent = LWMDQN("CnnPolicy", env, **{**settings, "step_ahead": step_ahead})
        return agent.learn(settings["learning_starts"] + 2 * n_envs)

    agents: dict[str, BaseAlgorithm] = {"step after update": make(False), "step ahead": make(True)}
    ours, plain = agents["step after update"], make(False)
    assert isinstance(ours, LWMDQN)
    lay_out_plainly(plain)
    parts = {"agent and predictor": _update_agent, "encoder": _update_encoder, "all": _update_all}
    pairs = {name: (lambda part=part: part(ours), plainly(lambda part=part: part(plain))) for name, part in parts.items()}
    print_updates(pairs, arguments.rounds or 5)
    with FlopCounterMode(display=False) as counter:
        _update_all(plain)
    peak = matrix_peak(ours.device)
    operations = counter.get_total_flops()
    done = operations / statistics.median(seconds(lambda: _update_all(ours))[0 if on_gpu else 1] for _ in range(3))
    print(f"\nAn update has {operations / 1e9:.0f} GFLOP in products and convolutions, done at {done / 1e9:.0f} GFLOP/s:")
    print(f"{100 * done / peak:.0f} % of the {peak / 1e9:.0f} GFLOP/s of one large matrix product.")
    # whole updates per run, and frames: four to a step
    print_runs(agents, arguments.rounds or 5, arguments.steps or n_envs * (100 if on_gpu else 8))


def _update_agent(agent: LWMDQN) -> None:
    agent.train(1, agent.batch_size)


def _update_encoder(agent: LWMDQN) -> None:
    assert agent.world_model_trainer is not None and agent.replay_buffer is not None
    agent.world_model_trainer.update_encoder(agent.replay_buffer.sample_windows)


def _update_all(agent: LWMDQN) -> None:
    _update_encoder(agent)
    _update_agent(agent)


def matrix_peak(device: th.device, size: int = 2048) -> float:
    """:return: floating point operations per second in a product of large matrices, of CPU time or of a GPU's wall time"""
    matrix = th.rand(size, size, device=device)
    return (
        2 * size**3 / statistics.median(seconds(lambda: matrix @ matrix)[0 if device.type == "cuda" else 1] for _ in range(10))
    )


PRESETS = {"labyrinth": measure_labyrinth, "paper": measure_paper}


def main() -> None:
    """Measure and print the tables of a preset."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--preset", choices=PRESETS, default="labyrinth", help="what is measured")
    parser.add_argument("--device", default="cpu", help="of the networks")
    parser.add_argument("--rounds", type=int, help="repetitions of each measurement")
    parser.add_argument("--steps", type=int, help="environment steps of a repetition of the whole run")
    parser.add_argument("--n-envs", type=int, help="games or labyrinths")
    paper = parser.add_argument_group("preset paper")
    paper.add_argument("--storage-device", default="cpu", help="where the replay's frames lie")
    paper.add_argument("--compression", help="of the replay's frames")
    paper.add_argument("--mixed-precision", action="store_true", help="convolutions in bfloat16")
    paper.add_argument("--compile", action="store_true", help="torch.compile")
    arguments = parser.parse_args()
    if arguments.device == "cpu":
        th.set_num_threads(1)
    PRESETS[arguments.preset](arguments)


if __name__ == "__main__":
    main()

"""
Speed, as ratios against peers measured in the same run, interleaved, medians::

    OMP_NUM_THREADS=1 python benchmarks/throughput.py
    OMP_NUM_THREADS=1 python benchmarks/throughput.py --preset minigrid
    OMP_NUM_THREADS=1 python benchmarks/throughput.py --preset paper
    python benchmarks/throughput.py --preset paper --device cuda

Prints the milliseconds of one update and of the same update in a plain implementation, the environment steps per second of
the whole run after the warm-up, and on a CPU the times of the compiled GRU and of PyTorch's, and the peaks of the processor.
The presets ``labyrinth`` (the paper's settings), ``labyrinth-5x5`` and ``minigrid`` compare the run with SB3's DQN; ``paper``
is the whole Atari program of ``hyperparams/atari.yml`` on Montezuma's Revenge, with and without stepping ahead: the parts of
the time of a step, frames per second, and the hours for the paper's 50 million frames.
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
from rl_zoo3.utils import get_wrapper_class
from stable_baselines3 import DQN
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.env_util import make_vec_env
from torch import nn
from torch.utils.flop_counter import FlopCounterMode
from tqdm import tqdm

from sb3_lwm import LWMDQN
from sb3_lwm.common.cnn import ImageCNN
from sb3_lwm.common.gru import ResettableGRU
from sb3_lwm.common.gru_kernel import GRUKernel, load_kernel
from sb3_lwm.common.schedules import make_schedule
from sb3_lwm.envs import AtariVecEnv

SETTINGS = Path(__file__).resolve().parents[1] / "hyperparams"
Tasks = dict[str, Callable[[], object]]


# The file and the block of the settings of each small task
SMALL_TASKS = {
    "labyrinth": ("labyrinth-paper.yml", "POL-3x3-v0"),
    "labyrinth-5x5": ("labyrinth.yml", "POL-5x5-v0"),
    "minigrid": ("minigrid.yml", "MiniGrid-DoorKey-5x5-v0"),
}
# LWM, section 5: 50 million frames, four to a step
PAPER_FRAMES, FRAMES_PER_STEP = 50_000_000, 4
# Steps, sequences and hidden units of the compared GRUs: labyrinths of 3x3 and 5x5, predictor and agent of Atari
UNROLLS = ((32, 32, 128), (99, 16, 128), (80, 16, 256), (80, 16, 512))
GRU_INPUTS = 32


def read_block(file: str, block: str) -> dict[str, Any]:
    """Return a block of the package's hyperparameters."""
    return yaml.safe_load((SETTINGS / file).read_text(encoding="utf-8"))[block]


def agent_arguments(block: dict[str, Any]) -> dict[str, Any]:
    """Return the arguments of LWMDQN in a block of hyperparameters, without those of the Zoo."""
    names = inspect.signature(LWMDQN).parameters
    arguments = {key: value for key, value in block.items() if key in names and key != "policy"}
    return {**arguments, "learning_rate": make_schedule("learning_rate", arguments["learning_rate"], 1.0)}


# --- The plain versions ---


def gru_cell_loop(self: ResettableGRU, inputs: th.Tensor, hidden: th.Tensor, resets: th.Tensor) -> th.Tensor:
    """Compute the same hidden states by one call of the cell for each step."""
    memories = []
    for step_inputs, step_resets in zip(inputs, resets, strict=True):
        hidden = self.cell(step_inputs, hidden * ~step_resets.unsqueeze(-1))
        memories.append(hidden)
    return th.stack(memories)


def roll_loop(frames: th.Tensor, max_shift: int, generator: th.Generator | None = None) -> th.Tensor:
    """Compute the same shifts, one frame at a time."""
    shifts = th.randint(-max_shift, max_shift + 1, (len(frames), 2), generator=generator, device=frames.device).tolist()
    return th.stack([frame.roll(tuple(shift), dims=(-2, -1)) for frame, shift in zip(frames, shifts, strict=True)])


def all_at_once(function: Callable[[th.Tensor], th.Tensor], images: th.Tensor) -> th.Tensor:
    """Compute the same features by the convolutions of all images in one call."""
    return function(images)


@contextmanager
def straightforward() -> Iterator[None]:
    """Replace the optimised functions by plain ones."""
    with ExitStack() as stack:
        stack.enter_context(mock.patch.object(ResettableGRU, "forward", gru_cell_loop))
        stack.enter_context(mock.patch("sb3_lwm.world_model.objectives.random_shift", roll_loop))
        for module in ("lwm_dqn.q_network", "world_model.encoders"):
            stack.enter_context(mock.patch(f"sb3_lwm.{module}.in_chunks", all_at_once))
        yield


def lay_out_plainly(agent: LWMDQN) -> None:
    """Change convolutions to those of SB3's NatureCNN: channels first, activations not in place."""
    for module in agent.policy.modules():
        if isinstance(module, ImageCNN):
            module.cnn.to(memory_format=th.contiguous_format)
            for layer in module.cnn:
                if isinstance(layer, nn.ReLU):
                    layer.inplace = False


# --- Measuring ---


def seconds(function: Callable[[], object]) -> tuple[float, float]:
    """Return the wall and CPU seconds of one call, with its computations on a GPU."""
    wall, cpu = time.perf_counter(), time.process_time()
    function()
    if th.cuda.is_available():
        th.cuda.synchronize()
    return time.perf_counter() - wall, time.process_time() - cpu


def measure(tasks: Tasks, rounds: int, description: str) -> dict[str, tuple[float, float]]:
    """
    :param tasks: The tasks to measure
    :param rounds: The number of rounds, in each of which every task runs once, so that other work of the machine affects all
    :param description: The description of the progress bar
    :return: The median wall and CPU seconds of each task
    """
    samples: dict[str, list[tuple[float, float]]] = {name: [] for name in tasks}
    for _ in tqdm(range(rounds), desc=description):
        for name, task in tasks.items():
            samples[name].append(seconds(task))
    return {name: tuple(map(statistics.median, zip(*pairs, strict=True))) for name, pairs in samples.items()}  # type: ignore[misc]


def plainly(task: Callable[[], object]) -> Callable[[], object]:
    """Return the task with plain instead of optimised functions."""

    def run() -> None:
        with straightforward():
            task()

    return run


def print_updates(pairs: dict[str, tuple[Callable[[], object], Callable[[], object]]], rounds: int) -> None:
    """
    Print the milliseconds of one update, optimised and plain.

    :param pairs: The optimised and the plain update, by name
    :param rounds: The number of rounds
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


def print_runs(agents: dict[str, BaseAlgorithm], rounds: int, steps: int) -> dict[str, float]:
    """
    Print the environment steps per second of ``learn`` after the warm-up, also relative to the first agent.

    :param agents: The agents, which have already learned
    :param rounds: The number of rounds
    :param steps: The number of steps of each ``learn``
    :return: The environment steps per second of wall time
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
    return {name: steps / wall for name, (wall, _) in medians.items()}


# --- Presets ---


def measure_small(arguments: argparse.Namespace) -> None:
    """Measure the settings of a small task, and SB3's DQN."""
    file, env_id = SMALL_TASKS[arguments.preset]
    block = read_block(file, env_id)
    n_envs, wrapper = arguments.n_envs or block["n_envs"], get_wrapper_class(block)
    settings = {**agent_arguments(block), "seed": 0, "device": arguments.device}
    settings["pretraining_updates"] = 10  # not measured; a short pretraining sets the normaliser
    names = ("train_freq", "learning_starts", "buffer_size", "learning_rate", "seed", "device")
    shared = {key: settings[key] for key in names}
    rollout = n_envs * settings["train_freq"]

    def make(agent: type[BaseAlgorithm], **kwargs: Any) -> BaseAlgorithm:
        env = make_vec_env(env_id, n_envs, seed=0, env_kwargs=block.get("env_kwargs"), wrapper_class=wrapper)
        return agent("MlpPolicy", env, **kwargs).learn(settings["learning_starts"] + 10 * rollout)

    agents = {
        "SB3 DQN": make(DQN, **shared),
        "LWMDQN": make(LWMDQN, **settings),
        "LWMDQN, no world model": make(LWMDQN, **settings, use_world_model=False),
    }
    ours = {name: agent for name, agent in agents.items() if isinstance(agent, LWMDQN)}
    updates = {name: lambda agent=agent: agent.train(1, settings["batch_size"]) for name, agent in ours.items()}
    print_updates({name: (update, plainly(update)) for name, update in updates.items()}, arguments.rounds or 15)
    print_runs(agents, arguments.rounds or 15, arguments.steps or 50 * rollout)
    if arguments.device == "cpu":
        print_unrolls(arguments.rounds or 15)
        print_peaks(th.device("cpu"))


def measure_paper(arguments: argparse.Namespace) -> None:
    """The whole program of the Atari experiments at its real sizes: an update follows each step of all games."""
    on_gpu = arguments.device.startswith("cuda")
    n_envs = arguments.n_envs or 128
    settings = {**agent_arguments(read_block("atari.yml", "atari")), "seed": 0, "device": arguments.device}
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
    # with plain functions, since the products of the compiled GRU could not be counted
    with FlopCounterMode(display=False) as counter, straightforward():
        _update_all(plain)
    operations = counter.get_total_flops()
    done = operations / statistics.median(seconds(lambda: _update_all(ours))[0 if on_gpu else 1] for _ in range(3))
    print(f"\nAn update has {operations / 1e9:.0f} GFLOP in products and convolutions, done at {done / 1e9:.0f} GFLOP/s.")
    print_peaks(ours.device, done)
    # a run has a whole number of updates
    speeds = print_runs(agents, arguments.rounds or 5, arguments.steps or n_envs * (100 if on_gpu else 8))
    print(f"\n{'the program of the paper':<44}{'frames/wall s':>14}{'hours for 50 million frames':>30}")
    for name, speed in speeds.items():
        frames = FRAMES_PER_STEP * speed
        print(f"{name:<44}{frames:>14.0f}{PAPER_FRAMES / frames / 3600:>30.1f}")
    print_parts(ours, arguments.rounds or 5)
    if not on_gpu:
        print_unrolls(arguments.rounds or 15)


def print_parts(agent: LWMDQN, rounds: int) -> None:
    """
    Print the time of each part of one step of all environments, measured alone; afterwards the agent's observations are no
    longer those of its environments.

    :param agent: The agent, which has already learned
    :param rounds: The number of rounds
    """
    env, buffer = agent.env, agent.replay_buffer
    assert env is not None and buffer is not None
    actions = agent._sample_action(0, n_envs=env.num_envs)[0]
    parts: Tasks = {
        "environments": lambda: env.step(actions),
        "acting": lambda: agent._sample_action(0, n_envs=env.num_envs),
        "sampling": lambda: buffer.sample(agent.batch_size),
        "agent and predictor, with their sampling": lambda: _update_agent(agent),
        "encoder, with its sampling": lambda: _update_encoder(agent),
    }
    medians = measure(parts, rounds, "Parts")
    total = sum(wall for name, (wall, _) in medians.items() if name != "sampling")
    print(f"\n{'one step of all environments':<44}{'wall ms':>10}{'CPU ms':>10}{'share of the wall time':>26}")
    for name, (wall, cpu) in medians.items():
        print(f"{name:<44}{1e3 * wall:>10.1f}{1e3 * cpu:>10.1f}{100 * wall / total:>24.0f} %")


def _update_agent(agent: LWMDQN) -> None:
    agent.train(1, agent.batch_size)


def _update_encoder(agent: LWMDQN) -> None:
    assert agent.world_model_trainer is not None and agent.replay_buffer is not None
    agent.world_model_trainer.update_encoder(agent.replay_buffer.sample_windows)


def _update_all(agent: LWMDQN) -> None:
    _update_encoder(agent)
    _update_agent(agent)


# --- The compiled GRU and the processor ---


def unroll_tasks(steps: int, batch: int, size: int) -> dict[str, Tasks]:
    """Return the same unroll by the kernel, by the loop in PyTorch and by ``torch.nn.GRU``, without and with gradient."""
    layer, reference = ResettableGRU(GRU_INPUTS, size), nn.GRU(GRU_INPUTS, size)
    inputs, hidden = th.randn(steps, batch, GRU_INPUTS), th.zeros(batch, size)
    resets = th.zeros(steps, batch, dtype=th.bool)

    def without_kernel(task: Callable[[], object]) -> Callable[[], object]:
        def run() -> None:
            with mock.patch("sb3_lwm.common.gru.kernel_for", return_value=None):
                task()

        return run

    def ours() -> th.Tensor:
        return layer(inputs, hidden, resets)

    def theirs() -> th.Tensor:
        return reference(inputs, hidden.unsqueeze(0))[0]

    forward, backward = th.no_grad(), lambda function: lambda: function().sum().backward()
    return {
        name: {"compiled": kind(ours), "PyTorch": without_kernel(kind(ours)), "torch.nn.GRU": kind(theirs)}
        for name, kind in (("forward", forward), ("with gradients", backward))
    }


def print_unrolls(rounds: int) -> None:
    """Print the CPU milliseconds of the GRU over time, by the compiled kernel and by the loop in PyTorch that replaces it."""
    kernel = load_kernel()
    if kernel is None:
        print("\nThe compiled GRU is missing or switched off.")
        return
    columns = f"{'compiled':>10}{'PyTorch':>10}{'nn.GRU':>10}{'PyTorch, nn.GRU / compiled':>30}"
    print(f"\n{f'GRU, CPU ms, {kernel.level}':<56}{columns}")
    for sizes in UNROLLS:
        for direction, tasks in unroll_tasks(*sizes).items():
            medians = measure(tasks, rounds, "GRU")
            ours, loop, reference = (1e3 * cpu for _, cpu in medians.values())
            name = "{} steps, {} sequences, {} units, {}".format(*sizes, direction)
            print(f"{name:<56}{ours:>10.2f}{loop:>10.2f}{reference:>10.2f}{loop / ours:>20.2f}{reference / ours:>10.2f}")


def matrix_peak(device: th.device, size: int = 2048) -> float:
    """Return the floating point operations of a large matrix product per second of CPU time, or of a GPU's wall time."""
    matrix = th.rand(size, size, device=device)
    return (
        2 * size**3 / statistics.median(seconds(lambda: matrix @ matrix)[0 if device.type == "cuda" else 1] for _ in range(10))
    )


def core_peak(kernel: GRUKernel, repetitions: int = 2_000_000) -> float:
    """Return the floating point operations per CPU second of multiplications and additions in registers, the best of ten."""
    operations = kernel.multiply_and_add(repetitions)
    return operations / min(seconds(lambda: kernel.multiply_and_add(repetitions))[1] for _ in range(10))


def print_peaks(device: th.device, done: float | None = None) -> None:
    """
    Print the maximum speed of PyTorch's matrix products, and that of the core, which not every library reaches.

    :param device: The device of the products
    :param done: The floating point operations per second of an update, for a comparison
    """
    peaks = {"one large matrix product": matrix_peak(device)}
    kernel = load_kernel()
    if device.type == "cpu" and kernel is not None:
        peaks[f"multiplications and additions in registers ({kernel.level})"] = core_peak(kernel)
    print()
    for name, peak in peaks.items():
        share = "" if done is None else f", of which the update reaches {100 * done / peak:.0f} %"
        print(f"Peak of {name}: {peak / 1e9:.0f} GFLOP/s{share}")


PRESETS = {**dict.fromkeys(SMALL_TASKS, measure_small), "paper": measure_paper}


def main() -> None:
    """Measure and print the tables of a preset."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--preset", choices=PRESETS, default="labyrinth", help="The program to measure")
    parser.add_argument("--device", default="cpu", help="The device of the networks")
    parser.add_argument("--rounds", type=int, help="The number of repetitions of each measurement")
    parser.add_argument("--steps", type=int, help="The environment steps of a repetition of the whole run")
    parser.add_argument("--n-envs", type=int, help="The number of environments")
    paper = parser.add_argument_group("preset paper")
    paper.add_argument("--storage-device", default="cpu", help="The device that holds the replay's frames")
    paper.add_argument("--compression", help="The compression of the replay's frames")
    paper.add_argument("--mixed-precision", action="store_true", help="Run convolutions in bfloat16")
    paper.add_argument("--compile", action="store_true", help="Use torch.compile")
    arguments = parser.parse_args()
    if arguments.device == "cpu":
        th.set_num_threads(1)
    PRESETS[arguments.preset](arguments)


if __name__ == "__main__":
    main()

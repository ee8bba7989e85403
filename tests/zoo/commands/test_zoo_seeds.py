"""``seeds`` trains several seeds with one command, and the Zoo's plots draw them."""

import importlib.util
import json
import os
import re
import signal
import threading
import time
from pathlib import Path

import pytest
import yaml
from zoo_commands import LABYRINTH, QUICK, SHORT_EPISODES, Installation, made_once

from sb3_lwm.zoo.commands import seeds

DQN = ["--algo", "dqn", "--env", "POL-3x3-v0"]
OPTIONS = [*SHORT_EPISODES, "-n", "400", "--eval-freq", "200", "--eval-episodes", "2"]
# What a display would show: a dictionary of figures, each of labelled curves
WRITING_BACKEND = """
import json
from matplotlib import pyplot as plt
from matplotlib.backends.backend_agg import FigureCanvasAgg as FigureCanvas

def show(*args, **kwargs):
    figures = {figure.get_label() or str(figure.number): figure for figure in map(plt.figure, plt.get_fignums())}
    curves = lambda figure: {line.get_label(): line.get_ydata().tolist() for axes in figure.axes for line in axes.lines}
    with open("shown.json", "w") as file:
        json.dump({name: curves(figure) for name, figure in figures.items()}, file)
"""


@pytest.fixture(scope="module")
def trained_seeds(installation: Installation, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The working directory of two trainings each of lwm_dqn and dqn."""

    def train(folder: Path) -> None:
        # settings in a module, which is found in the working directory
        (folder / "my_settings.py").write_text(
            "hyperparams = {'default': dict(policy='MlpPolicy', n_timesteps=400, n_envs=2, learning_starts=200)}\n"
        )
        command = ["-m", "sb3_lwm.zoo", "seeds", "--seeds", "1", "2", *OPTIONS]
        outputs = [
            installation.run(folder, *command, *LABYRINTH, "-params", *QUICK),
            installation.run(folder, *command, *DQN, "-conf", "my_settings"),
        ]
        (folder / "outputs.json").write_text(json.dumps(outputs))

    return made_once(tmp_path_factory, "seeds", train)


def test_every_seed_has_a_run_and_a_file(trained_seeds: Path) -> None:
    for algorithm, output in zip(("lwm_dqn", "dqn"), json.loads((trained_seeds / "outputs.json").read_text()), strict=True):
        assert re.search(r"seeds .*2/2", output) and "400 steps" in output and "failed" not in output
        runs = trained_seeds / "logs" / algorithm
        arguments = [yaml.unsafe_load(path.read_text()) for path in sorted(runs.glob("POL-3x3-v0_[12]/*/args.yml"))]
        assert sorted(run["seed"] for run in arguments) == [1, 2]
        assert len(list(runs.glob("*/POL-3x3-v0.zip"))) == 2
        logs = sorted((trained_seeds / "logs/output").glob(f"{algorithm}-POL-3x3-v0-*-seed-[12].txt"))
        assert [re.findall(r"Seed: (\d)", log.read_text()) for log in logs] == [["1"], ["2"]]


@pytest.mark.skipif(importlib.util.find_spec("rliable") is None, reason="needs the extra 'plots'")
def test_plots(installation: Installation, trained_seeds: Path, tmp_path: Path) -> None:
    options = ["-a", "lwm_dqn", "dqn", "-e", "POL-3x3", "-f", "logs", "--no-million"]
    table = installation.run(trained_seeds, "-m", "rl_zoo3.plots.all_plots", *options, "--no-display", "-o", "scores")
    assert re.search(r"\|POL-3x3 *\|-7 \+/- 0\|-7 \+/- 0\|", table)
    options = ["-i", "scores", "-r", "-vs", "-iqm", "--figures", "pictures/of seeds"]
    installation.run(trained_seeds, "-m", "sb3_lwm.zoo", "plot_from_file", *options)
    pictures = {path.name for path in (trained_seeds / "pictures/of seeds").iterdir()}
    assert pictures == {
        *("Results_POL-3x3.png", "Rliable_metrics.png", "Performance_profiles.png", "Probability_of_Improvement.png"),
        *("IQM_Normalized_Score_-_Sample_Efficiency_Curve.png", "Sensitivity_plot.png"),
    }
    # the literal commands
    (tmp_path / "writing_backend.py").write_text(WRITING_BACKEND)
    variables = {"MPLBACKEND": "module://writing_backend", "PYTHONPATH": str(tmp_path)}

    def shown(script: str, *options: str) -> tuple[str, dict[str, dict[str, list[float]]]]:
        output = installation.run(trained_seeds, "-m", f"rl_zoo3.plots.{script}", *options, **variables)
        return output, json.loads((trained_seeds / "shown.json").read_text())

    output, figures = shown("plot_from_file", "-i", "scores", "-l", "world model", "plain")
    assert "keys: ['LWM_DQN-logs', 'DQN-logs']" in output
    # an evaluation each at 200 and 400 steps
    assert figures["Results POL-3x3"] == {"world model": [-7.0, -7.0], "plain": [-7.0, -7.0]}
    _, figures = shown("plot_train", "-a", "lwm_dqn", "-e", "POL-3x3", "-f", "logs", "-w", "2")
    curves = figures["Training Episodic Reward"]
    assert sorted(curves) == ["POL-3x3-v0_1", "POL-3x3-v0_2"]
    assert all(len(curve) > 50 and set(curve) == {-7.0} for curve in curves.values())


def test_a_seed_that_fails_is_named_and_the_others_go_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    # a training that takes no time
    script = (
        "import sys; print(sys.argv[1:]); seed = int(sys.argv[-1]);"
        "print('|    total_timesteps  | 1234 |'); sys.exit('no [bold] luck' if seed == 2 else 0)"
    )
    monkeypatch.setattr(seeds, "TRAIN", ["-c", script])
    monkeypatch.setattr(
        "sys.argv", ["seeds", "--seeds", "3", "2", "1", "--jobs", "2", "-f", str(tmp_path), "-params", "tau:1"]
    )
    with pytest.raises(SystemExit) as exit_info:
        seeds.main()
    output = capsys.readouterr().out
    assert exit_info.value.code == 1
    assert "Seed 2 failed with exit code 1" in output and "no [bold] luck" in output and "1 of 3 seeds failed." in output
    assert output.count("Seed ") == 1 and "1,234 steps" in output
    logs = {path.name.split("-")[-1]: path.read_text() for path in (tmp_path / "output").iterdir()}
    common = ["--algo", "ppo", "--env", "CartPole-v1", "--log-folder", str(tmp_path), "-params", "tau:1", "--seed"]
    assert {name: text.splitlines()[0] for name, text in logs.items()} == {
        f"{seed}.txt": str([*common, str(seed)]) for seed in (1, 2, 3)
    }


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGHUP])
def test_interruption_reaches_every_training_once(
    number: signal.Signals, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    script = """if True:
        import time
        try:
            print("ready", flush=True)
            time.sleep(600)
        except KeyboardInterrupt:
            time.sleep(0.3)
            print("saved")
    """
    monkeypatch.setattr(seeds, "TRAIN", ["-c", script])
    monkeypatch.setattr("sys.argv", ["seeds", "--seeds", "5", "6", "7", "--jobs", "2", "-f", str(tmp_path)])

    def interrupt() -> None:
        while [path.read_text() for path in (tmp_path / "output").glob("*.txt")] != ["ready\n"] * 2:
            time.sleep(0.05)
        os.kill(os.getpid(), number)

    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    handlers = [signal.getsignal(number) for number in numbers]
    # the tests themselves may have been started with nohup, which a training would respect
    signal.signal(signal.SIGHUP, signal.SIG_DFL)
    thread = threading.Thread(target=interrupt)
    thread.start()
    try:
        with pytest.raises(SystemExit) as exit_info:
            seeds.main()
    finally:
        thread.join()
        for changed, handler in zip(numbers, handlers, strict=True):
            signal.signal(changed, handler)
    output = capsys.readouterr().out
    assert exit_info.value.code == 130 and "Stopping seed 5, seed 6." in output and "Killed" not in output
    assert [path.read_text() for path in (tmp_path / "output").glob("*.txt")] == ["ready\nsaved\n"] * 2


def test_the_same_command_twice_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(seeds, "TRAIN", ["-c", ""])
    monkeypatch.setattr(seeds.time, "strftime", lambda _: "20260101-000000")
    options, of_train = seeds.parse(["--seeds", "1", "-f", str(tmp_path)])
    assert [seeds.run_all(options, of_train, [], seeds.Console()) for _ in range(2)] == [0, 0]
    assert len(list((tmp_path / "output").iterdir())) == 2


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "the following arguments are required: --seeds"),
        (["--seeds", "1", "1"], "--seeds 1 1: they must be different."),
        (["--seeds", "-1"], "argument --seeds: -1 is too small, it must be at least 0"),
        (["--seeds", "1", "--jobs", "0"], "argument --jobs: 0 is too small, it must be at least 1"),
        (["--seeds", "1", "--seed", "2"], "--seed is an option of a single training: name all seeds with --seeds"),
        (["--seeds", "1", "--seed=2"], "--seed is an option of a single training: name all seeds with --seeds"),
    ],
)
def test_bad_input(arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as exit_info:
        seeds.parse(arguments)
    assert exit_info.value.code == 2 and message in capsys.readouterr().err


def test_options_of_train_are_left_as_they_are() -> None:
    options, of_train = seeds.parse(["-P", "--seeds", "4", "5", "-n", "10", "-params", "a:1", "b:-2", "--env=X", "-uuid"])
    assert options.seeds == [4, 5] and options.jobs is None
    assert of_train[:6] == ["--algo", "ppo", "--env", "X", "--log-folder", "logs"]
    assert of_train[6:] == ["-P", "-n", "10", "-params", "a:1", "b:-2", "-uuid"]

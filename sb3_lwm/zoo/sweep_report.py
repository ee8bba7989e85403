"""
``python -m sb3_lwm.zoo sweep_report``: what a search for hyperparameters has found, as pictures, a table and settings.

The pictures are Optuna's, by plotly as HTML and by matplotlib as PNG. ``best.yml`` has the best trial as a block for the Zoo,
and the command that trains it again, with its seed to the same score.
"""

import argparse
import shlex
import warnings
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import optuna
import yaml
from optuna.importance import get_param_importances
from optuna.trial import FrozenTrial, TrialState

from sb3_lwm.common.files import whole_file
from sb3_lwm.zoo.search_space import convert_lwm_dqn_params, merge
from sb3_lwm.zoo.storage import INSTALL, KINDS, experimental, load_study, open_storage
from sb3_lwm.zoo.sweep_study import best_trial, describe
from sb3_lwm.zoo.trials import SETTINGS, find_trial

# Parallel coordinates and slices of more are not readable; the most important ones are taken
MOST_PARAMETERS = 8
PICTURES = {
    "history": "plot_optimization_history",
    "importances": "plot_param_importances",
    "parallel_coordinates": "plot_parallel_coordinate",
    "slices": "plot_slice",
}
SIZE = (14.0, 6.0)  # inches of a PNG


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """
    :param arguments: of the command line, by default ``sys.argv``
    :return: the options
    """
    parser = argparse.ArgumentParser(
        prog="python -m sb3_lwm.zoo sweep_report", description="Pictures, table and best settings of a sweep."
    )
    parser.add_argument("--storage", required=True, help=KINDS)
    parser.add_argument("--study-name", required=True)
    parser.add_argument("--trial-id", type=int, help="the trial whose settings are written, by default the best")
    parser.add_argument("-o", "--output", type=Path, default=Path("sweep_report"), help="a folder")
    return parser.parse_args(arguments)


def write_whole(path: Path, write: Callable[[Path], Any]) -> None:
    """
    :param path: of a file, replaced if there is one
    :param write: writes it
    """
    with whole_file(path) as temporary:
        write(temporary)
    print(f"Wrote {path}")


def rank_parameters(study: optuna.Study) -> list[str]:
    """
    :param study: with trials
    :return: names of parameters of complete trials, the most important first; alphabetically if Optuna cannot tell
    """
    trials = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
    names = sorted({name for trial in trials for name in trial.params})
    if len({trial.value for trial in trials}) < 2:
        print(f"No importances: they need two complete trials with different values, there are {len(trials)} complete trials.")
        return names
    with warnings.catch_warnings(record=True) as remarks:
        warnings.simplefilter("always")
        importances = get_param_importances(study)
    for remark in sorted({str(remark.message) for remark in remarks}):
        print(f"Importances: {remark}")
    return sorted(names, key=lambda name: -importances.get(name, 0.0))


def draw(study: optuna.Study, folder: Path) -> None:
    """
    Write the pictures that the trials are enough for.

    :param study: of Optuna
    :param folder: that exists
    :raises ImportError: if plotly or matplotlib is not installed
    """
    try:
        import matplotlib
        import optuna.visualization.matplotlib as matplotlib_plots
        import plotly  # noqa: F401
    except ImportError as error:
        raise ImportError(f"The pictures need {error.name}: {INSTALL}.") from error
    matplotlib.use("Agg")
    n_values = len({trial.value for trial in study.trials if trial.state == TrialState.COMPLETE})
    if n_values == 0:
        print("No pictures: they need a complete trial.")
        return
    ranked = rank_parameters(study)
    for name, function in PICTURES.items():
        if name == "importances" and n_values < 2:
            continue
        kwargs: dict[str, Any] = {"target_name": "mean reward"}
        if name not in ("history", "importances"):
            kwargs["params"] = ranked[:MOST_PARAMETERS]
        with experimental(), warnings.catch_warnings():
            # what rank_parameters has said, and matplotlib's remarks on a layout that the PNG shows
            warnings.simplefilter("ignore", UserWarning)
            figure = getattr(optuna.visualization, function)(study, **kwargs)
            # plotly itself lies beside them, so that they open without a network
            write_whole(folder / f"{name}.html", partial(figure.write_html, include_plotlyjs="directory"))
            getattr(matplotlib_plots, function)(study, **kwargs)
            _write_png(folder / f"{name}.png", is_row=name == "slices", is_parallel=name == "parallel_coordinates")


def _write_png(path: Path, is_row: bool, is_parallel: bool) -> None:
    """
    :param path: of the file, which gets the picture that matplotlib has in hand
    :param is_row: whether it is a row of pictures, whose labels need room
    :param is_parallel: whether it has axes over axes, whose grids would hide the lines
    """
    import matplotlib.pyplot as plt
    from matplotlib.ticker import NullFormatter

    figure = plt.gcf()
    figure.set_size_inches(*SIZE)
    for axes in figure.axes:
        if is_row:
            axes.set_xlabel(axes.get_xlabel(), rotation=15, horizontalalignment="right", fontsize="small")
            axes.xaxis.set_minor_formatter(NullFormatter())
        if is_parallel:
            axes.grid(False)
            axes.spines["right"].set_visible(True)
            axes.spines["right"].set_color("white")
            for label in axes.get_yticklabels():
                label.set_bbox({"facecolor": "0.9", "alpha": 0.7, "edgecolor": "none", "pad": 0.5})
    write_whole(path, lambda temporary: figure.savefig(temporary, format="png", dpi=100, bbox_inches="tight"))
    plt.close(figure)


def write_settings(study: optuna.Study, trial: FrozenTrial, path: Path) -> None:
    """
    Write a trial's settings as a block for the Zoo, below the command that trains it.

    :param study: that ``sweep`` has begun
    :param trial: with parameters
    :param path: of a yml file
    """
    settings = study.user_attrs[SETTINGS]
    hyperparams = merge(settings["hyperparams"], convert_lwm_dqn_params(trial.params))
    block = yaml.safe_dump({settings["env"]: dict(sorted(hyperparams.items()))}, sort_keys=False)
    comments = [
        f"Trial {trial.number} of the study {study.study_name}: {trial.state.name.lower()}, mean reward {trial.value!r}.",
        "Trained again, to the same mean reward at the last evaluation where the machine and the versions are the same:",
        training_command(settings, trial, path),
    ]
    text = "".join(f"# {comment}\n" for comment in comments) + block
    write_whole(path, lambda temporary: temporary.write_text(text, encoding="utf-8"))


def training_command(settings: dict[str, Any], trial: FrozenTrial, path: Path) -> str:
    """
    :param settings: of the study
    :param trial: one of its trials
    :param path: of its settings
    :return: the command that trains the trial once more
    """
    command = ["python", "-m", "rl_zoo3.train", "--algo", settings["algo"], "--env", settings["env"]]
    command += ["--conf-file", str(path), "--seed", str(trial.user_attrs["seed"])]
    for name in ("num_threads", "device"):
        if name in trial.user_attrs:
            command += [f"--{name.replace('_', '-')}", str(trial.user_attrs[name])]
    command += ["--eval-freq", str(int(settings["hyperparams"]["n_timesteps"] / settings["n_evaluations"]))]
    command += ["--eval-episodes", str(settings["eval_episodes"]), "--n-eval-envs", str(settings["n_eval_envs"])]
    command += ["--vec-env", settings["vec_env"]]
    if settings["gym_packages"]:
        command += ["--gym-packages", *settings["gym_packages"]]
    for name in ("env_kwargs", "eval_env_kwargs"):
        if settings[name]:
            command += [f"--{name.replace('_', '-')}", *(f"{key}:{value!r}" for key, value in settings[name].items())]
    return shlex.join(command)


def main() -> None:
    """Write the report."""
    options = parse()
    study = load_study(open_storage(options.storage, create=False), options.study_name)
    print(describe(study))
    trial = None if options.trial_id is None else find_trial(study, options.trial_id)
    options.output.mkdir(parents=True, exist_ok=True)
    table = study.trials_dataframe()
    write_whole(options.output / "trials.csv", lambda path: table.to_csv(path, index=False))
    draw(study, options.output)
    if trial is None:
        if not any(trial.state == TrialState.COMPLETE for trial in study.get_trials(deepcopy=False)):
            return
        trial = best_trial(study)
    if SETTINGS not in study.user_attrs:
        print(f"No settings: `sweep` has not begun this study. Load the trial with rl_zoo3.train --trial-id {trial.number}.")
        return
    path = options.output / ("best.yml" if options.trial_id is None else f"trial_{trial.number}.yml")
    write_settings(study, trial, path)
    print(f"Train it again: {training_command(study.user_attrs[SETTINGS], trial, path)}")


if __name__ == "__main__":
    main()

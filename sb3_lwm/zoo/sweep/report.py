"""
``python -m sb3_lwm.zoo sweep_report``: the results of a search for hyperparameters as plots, a table and settings.

The plots are Optuna's, as HTML. ``best.yml`` contains the best trial as a block for the Zoo, and the command that trains it
again with the same seed, to the same score.
"""

import argparse
import shlex
from pathlib import Path
from typing import Any

import optuna
import yaml
from optuna import visualization as plots
from optuna.importance import get_param_importances
from optuna.trial import FrozenTrial, TrialState

from sb3_lwm.zoo.sweep.search_space import convert_lwm_dqn_params, merge
from sb3_lwm.zoo.sweep.study import KINDS, SETTINGS, describe, find_trial, load_study

TARGET = "mean reward"
MOST_PARAMETERS = 8  # the maximum number of parameters in parallel coordinates and slices


def _draw(study: optuna.Study) -> dict[str, Any]:
    """Return the plots for which there are enough trials: figures of plotly by name."""
    complete = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
    names = sorted({name for trial in complete for name in trial.params})
    figures = {"history": plots.plot_optimization_history(study, target_name=TARGET)}
    if len({trial.value for trial in complete}) > 1:
        importances = get_param_importances(study)
        names.sort(key=lambda name: -importances.get(name, 0.0))
        figures["importances"] = plots.plot_param_importances(study, target_name=TARGET)
    else:
        print("No importances: they need two complete trials with different values.")
    names = names[:MOST_PARAMETERS]
    figures["parallel_coordinates"] = plots.plot_parallel_coordinate(study, names, target_name=TARGET)
    return {**figures, "slices": plots.plot_slice(study, names, target_name=TARGET)}


def _training_command(settings: dict[str, Any], trial: FrozenTrial, path: Path) -> str:
    """Return the command that trains the trial again with the settings of a file."""
    options = {name: settings[name] for name in ("algo", "env", "eval_episodes", "n_eval_envs", "vec_env")}
    options |= {name: trial.user_attrs[name] for name in ("seed", "num_threads", "device") if name in trial.user_attrs}
    options |= {"conf_file": path, "eval_freq": int(settings["hyperparams"]["n_timesteps"] / settings["n_evaluations"])}
    words = {name: [str(value)] for name, value in options.items()}
    words["gym_packages"] = settings["gym_packages"]
    words["eval_env_kwargs"] = [f"{key}:{value!r}" for key, value in (settings["eval_env_kwargs"] or {}).items()]
    given = [word for name, values in words.items() if values for word in (f"--{name.replace('_', '-')}", *values)]
    return shlex.join(["python", "-m", "rl_zoo3.train", *given])


def _write_settings(study: optuna.Study, trial: FrozenTrial, path: Path) -> None:
    """Write the settings of a trial as a block for the Zoo, below the command that trains it again."""
    settings = study.user_attrs[SETTINGS]
    command = _training_command(settings, trial, path)
    hyperparams = merge(settings["hyperparams"], convert_lwm_dqn_params(trial.params))
    path.write_text(
        f"# Trial {trial.number} of the study {study.study_name}: {trial.state.name.lower()}, mean reward {trial.value!r}.\n"
        "# On the same machine with the same versions, this command trains it again to the same mean reward:\n"
        f"# {command}\n" + yaml.safe_dump({settings["env"]: dict(sorted(hyperparams.items()))}, sort_keys=False),
        encoding="utf-8",
    )
    print(f"Wrote {path}. Train the trial again: {command}")


def main() -> None:
    """Write the report."""
    parser = argparse.ArgumentParser(prog="python -m sb3_lwm.zoo sweep_report", description="Report the results of a sweep.")
    parser.add_argument("--storage", required=True, help=KINDS)
    parser.add_argument("--study-name", required=True)
    parser.add_argument("--trial-id", type=int, help="The trial whose settings are written, by default the best")
    parser.add_argument("-o", "--output", type=Path, default=Path("sweep_report"), help="The folder of the report")
    options = parser.parse_args()
    study = load_study(options.storage, options.study_name)
    print(describe(study))
    trial = find_trial(study, options.trial_id)
    options.output.mkdir(parents=True, exist_ok=True)
    study.trials_dataframe().to_csv(options.output / "trials.csv", index=False)
    for name, figure in _draw(study).items():
        # plotly is written beside the plots, which then need no network
        figure.write_html(options.output / f"{name}.html", include_plotlyjs="directory")
    if SETTINGS not in study.user_attrs:
        print(f"No settings: `sweep` did not create this study. Load the trial with rl_zoo3.train --trial-id {trial.number}.")
        return
    _write_settings(study, trial, options.output / ("best.yml" if options.trial_id is None else f"trial_{trial.number}.yml"))


if __name__ == "__main__":
    main()

"""``python -m sb3_lwm.zoo <script> ...``: the scripts of rl_zoo3 with ``lwm_dqn`` registered, and this package's commands."""

import argparse
import runpy
import sys
import warnings
from collections.abc import Callable
from typing import NamedTuple

from sb3_lwm.zoo import upstream_fixes as fixes
from sb3_lwm.zoo.commands.figures import figures_kept_in
from sb3_lwm.zoo.registration import register


class Script(NamedTuple):
    """A module that runs as a program, and the fixes to apply before."""

    module: str
    fixes: tuple[Callable[[], None], ...] = ()


COMMANDS = ("embeddings", "evaluate", "play", "record", "resume", "seeds", "watch")
SWEEPS = {"sweep": "sb3_lwm.zoo.sweep", "sweep_report": "sb3_lwm.zoo.sweep.report"}
OWN_SCRIPTS = sorted((*COMMANDS, *SWEEPS))

VIDEOS = (fixes.require_a_run, fixes.make_output_folder_absolute, fixes.run_children_through_this_entry, fixes.provide_ffmpeg)
CARDS = (fixes.provide_model_card_metadata, fixes.name_this_entry_on_the_model_card, fixes.provide_ffmpeg)
SCRIPTS = {
    "train": Script("rl_zoo3.train", (fixes.give_runs_folders_of_their_own,)),
    "enjoy": Script("rl_zoo3.enjoy", (fixes.report_missing_files,)),
    "record_video": Script("rl_zoo3.record_video", (fixes.pass_env_kwargs_of_the_yml,)),
    "record_training": Script("rl_zoo3.record_training", VIDEOS),
    "push_to_hub": Script("rl_zoo3.push_to_hub", (*CARDS, fixes.pass_env_kwargs_of_the_yml)),
    "load_from_hub": Script("rl_zoo3.load_from_hub", (fixes.report_missing_files,)),
    "benchmark": Script("rl_zoo3.benchmark", (fixes.report_missing_files, fixes.run_children_through_this_entry)),
    "plot_train": Script("rl_zoo3.plots.plot_train"),
    "plot_from_file": Script("rl_zoo3.plots.plot_from_file", (fixes.require_results,)),
    "all_plots": Script("rl_zoo3.plots.all_plots"),
    **{name: Script(f"sb3_lwm.zoo.commands.{name}") for name in COMMANDS},
    **{name: Script(module) for name, module in SWEEPS.items()},
}


def main() -> None:
    """Register ``lwm_dqn`` with the Zoo and run the script that the command line names."""
    parser = argparse.ArgumentParser(
        prog="python -m sb3_lwm.zoo",
        usage="%(prog)s [-h] script [options of the script]",
        description="Run a script of rl_zoo3 with the algorithm lwm_dqn registered, or one of sb3-lwm "
        f"({', '.join(OWN_SCRIPTS)}).",
        epilog="Options of a script: python -m sb3_lwm.zoo train --help. The three scripts that plot have one more option: "
        "--figures FOLDER writes all their figures there as PNG instead of showing them.",
    )
    parser.add_argument("script", choices=SCRIPTS, help="one of %(choices)s")
    # only the first word is an argument of this program; the others belong to the script
    script = SCRIPTS[parser.parse_args(sys.argv[1:2]).script]
    del sys.argv[1]
    register()
    for apply in script.fixes:
        apply()
    # runpy warns that rl_zoo3.plots has imported its own scripts, as it does for python -m rl_zoo3.plots.all_plots
    warnings.filterwarnings("ignore", message=".*found in sys.modules after import of package", category=RuntimeWarning)
    with figures_kept_in(take_figures_option() if script.module.startswith("rl_zoo3.plots.") else None):
        runpy.run_module(script.module, run_name="__main__", alter_sys=True)


def take_figures_option() -> str | None:
    """
    :return: The value of ``--figures``, which is removed from ``sys.argv``
    """
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument("--figures")
    options, sys.argv[1:] = parser.parse_known_args(sys.argv[1:])
    return options.figures


if __name__ == "__main__":
    main()

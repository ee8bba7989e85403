"""
``python -m sb3_lwm.zoo <script> ...``: rl_zoo3's scripts, with their own options and ``lwm_dqn`` known to them, and those of
this package.
"""

import argparse
import runpy
import sys
import warnings
from collections.abc import Callable
from typing import NamedTuple

from sb3_lwm.zoo import workarounds
from sb3_lwm.zoo.figures import figures_kept_in
from sb3_lwm.zoo.registration import register


class Script(NamedTuple):
    """A module that runs as a program, and what it needs before it does."""

    module: str
    workarounds: tuple[Callable[[], None], ...] = ()


SCRIPTS = {
    "train": Script("rl_zoo3.train"),
    "enjoy": Script("rl_zoo3.enjoy", (workarounds.report_missing_files,)),
    "record_video": Script("rl_zoo3.record_video", (workarounds.pass_env_kwargs_of_the_yml,)),
    "record_training": Script(
        "rl_zoo3.record_training",
        (
            workarounds.require_a_run,
            workarounds.make_output_folder_absolute,
            workarounds.run_children_through_this_entry,
            workarounds.provide_ffmpeg,
        ),
    ),
    "push_to_hub": Script(
        "rl_zoo3.push_to_hub",
        (
            workarounds.provide_model_card_metadata,
            workarounds.name_this_entry_on_the_model_card,
            workarounds.pass_env_kwargs_of_the_yml,
            workarounds.provide_ffmpeg,
        ),
    ),
    "load_from_hub": Script("rl_zoo3.load_from_hub", (workarounds.report_missing_files,)),
    "benchmark": Script("rl_zoo3.benchmark", (workarounds.report_missing_files, workarounds.run_children_through_this_entry)),
    "plot_train": Script("rl_zoo3.plots.plot_train"),
    "plot_from_file": Script("rl_zoo3.plots.plot_from_file", (workarounds.require_results,)),
    "all_plots": Script("rl_zoo3.plots.all_plots"),
    # of this package
    "embeddings": Script("sb3_lwm.zoo.embeddings"),
    "evaluate": Script("sb3_lwm.zoo.evaluate"),
    "play": Script("sb3_lwm.zoo.play"),
    "record": Script("sb3_lwm.zoo.record"),
    "seeds": Script("sb3_lwm.zoo.seeds"),
    "resume": Script("sb3_lwm.zoo.resume"),
    "sweep": Script("sb3_lwm.zoo.sweep"),
    "sweep_report": Script("sb3_lwm.zoo.sweep.report"),
    "watch": Script("sb3_lwm.zoo.watch"),
}


OWN_SCRIPTS = [name for name, script in SCRIPTS.items() if script.module.startswith("sb3_lwm.")]


def main() -> None:
    """Register ``lwm_dqn`` with the Zoo and run the script that the command line names."""
    parser = argparse.ArgumentParser(
        prog="python -m sb3_lwm.zoo",
        usage="%(prog)s [-h] script [options of the script]",
        description="Run a script of rl_zoo3 with the algorithm lwm_dqn registered, or one of sb3-lwm "
        f"({', '.join(OWN_SCRIPTS)}).",
        epilog="Options of a script: python -m sb3_lwm.zoo train --help. The three scripts that plot have one more here: "
        "--figures FOLDER writes all their figures there as PNG instead of showing them.",
    )
    parser.add_argument("script", choices=SCRIPTS, help="one of %(choices)s")
    # Only the first word is ours; all that follows belongs to the script.
    script = SCRIPTS[parser.parse_args(sys.argv[1:2]).script]
    del sys.argv[1]
    register()
    for apply in script.workarounds:
        apply()
    # rl_zoo3.plots imports its own scripts, which runpy remarks on; it is the same under python -m rl_zoo3.plots.all_plots.
    warnings.filterwarnings("ignore", message=".*found in sys.modules after import of package", category=RuntimeWarning)
    if script.module.startswith("rl_zoo3.plots."):
        with figures_kept_in(take_figures_option()):
            runpy.run_module(script.module, run_name="__main__", alter_sys=True)
    else:
        runpy.run_module(script.module, run_name="__main__", alter_sys=True)


def take_figures_option() -> str | None:
    """
    :return: the value of ``--figures``, which is taken off ``sys.argv``
    """
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument("--figures")
    options, sys.argv[1:] = parser.parse_known_args(sys.argv[1:])
    return options.figures


if __name__ == "__main__":
    main()

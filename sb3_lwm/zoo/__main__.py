"""``python -m sb3_lwm.zoo <script> ...``: rl_zoo3's scripts with their own options and ``lwm_dqn`` known to them, and ours."""

import argparse
import runpy
import sys
import warnings

from sb3_lwm.zoo.registration import register

SCRIPTS = {
    "train": "rl_zoo3.train",
    "enjoy": "rl_zoo3.enjoy",
    "record_video": "rl_zoo3.record_video",
    "plot_train": "rl_zoo3.plots.plot_train",
    "plot_from_file": "rl_zoo3.plots.plot_from_file",
    "all_plots": "rl_zoo3.plots.all_plots",
    "evaluate": "sb3_lwm.zoo.evaluate",
    "resume": "sb3_lwm.zoo.resume",
}


def main() -> None:
    """Register ``lwm_dqn`` with the Zoo and run the script that the command line names."""
    parser = argparse.ArgumentParser(
        prog="python -m sb3_lwm.zoo",
        usage="%(prog)s [-h] script [options of the script]",
        description="Run a script of rl_zoo3 with the algorithm lwm_dqn registered.",
        epilog="Options of a script: python -m sb3_lwm.zoo train --help",
    )
    parser.add_argument("script", choices=SCRIPTS, help="one of %(choices)s")
    # Only the first word is ours; all that follows belongs to the script.
    script = parser.parse_args(sys.argv[1:2]).script
    del sys.argv[1]
    register()
    # rl_zoo3.plots imports its own scripts, which runpy remarks on; it is the same under python -m rl_zoo3.plots.all_plots.
    warnings.filterwarnings("ignore", message=".*found in sys.modules after import of package", category=RuntimeWarning)
    runpy.run_module(SCRIPTS[script], run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()

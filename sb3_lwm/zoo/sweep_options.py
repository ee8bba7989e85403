"""The options of ``python -m sb3_lwm.zoo sweep``."""

import argparse
from collections.abc import Sequence

from rl_zoo3.utils import StoreDict

from sb3_lwm.zoo.storage import KINDS


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """
    :param arguments: of the command line, by default ``sys.argv``
    :return: the options
    """
    parser = argparse.ArgumentParser(
        prog="python -m sb3_lwm.zoo sweep", description="Start or join a search for hyperparameters."
    )
    _add_study(parser.add_argument_group("study"))
    _add_workers(parser.add_argument_group("workers"))
    _add_trials(parser.add_argument_group("trials, as rl_zoo3.train"))
    options = parser.parse_args(arguments)
    for name, lowest in (("max_total_trials", 1), ("workers", 1), ("heartbeat", 1), ("extend", 0), ("seed", 0)):
        if getattr(options, name) < lowest:
            parser.error(f"--{name.replace('_', '-')} {getattr(options, name)}: it must be at least {lowest}")
    return options


def _add_study(study: argparse._ArgumentGroup) -> None:
    study.add_argument("--storage", required=True, help=KINDS)
    study.add_argument("--study-name", required=True, help="the study to begin, or to join if there is one")
    study.add_argument("--max-total-trials", type=int, default=100, help="of the whole study")
    study.add_argument(
        "--extend", type=int, default=0, help="add so many trials to the study, which there must be; every call does"
    )
    study.add_argument("--sampler", default="tpe", choices=["tpe", "random"])
    study.add_argument("--pruner", default="median", choices=["median", "halving", "none"])
    study.add_argument("--n-startup-trials", type=int, default=10, help="random ones, before the sampler and the pruner begin")
    study.add_argument(
        "--seed", type=int, default=0, help="of the study; a trial has it plus the number under which it was queued first"
    )
    study.add_argument("--heartbeat", type=int, default=60, help="seconds; a worker that misses three is dead")


def _add_workers(worker: argparse._ArgumentGroup) -> None:
    worker.add_argument("--workers", type=int, default=1, help="processes on this machine")
    worker.add_argument("--n-trials", type=int, help="of each worker, which goes on to the end by default")
    worker.add_argument("--num-threads", type=int, default=1, help="of PyTorch, of each worker; -1 for its default")
    worker.add_argument("--device", default="auto", help="of the networks")
    worker.add_argument("-f", "--log-folder", default="logs/sweeps", help="gets a folder for each worker")
    worker.add_argument("--optimization-log-path", help="folder for the evaluations and the best model of each trial")


def _add_trials(trial: argparse._ArgumentGroup) -> None:
    trial.add_argument("--algo", default="lwm_dqn", choices=["lwm_dqn"])
    trial.add_argument("--env", required=True, help="id of the environment")
    trial.add_argument("-n", "--n-timesteps", type=int, default=-1, help="of a trial, by default the settings'")
    trial.add_argument("--n-evaluations", type=int, help="of a trial, by default one per 100 000 steps")
    trial.add_argument("--eval-episodes", type=int, default=5)
    trial.add_argument("--n-eval-envs", type=int, default=1)
    trial.add_argument("--vec-env", default="dummy", choices=["dummy", "subproc"])
    trial.add_argument("--env-kwargs", nargs="+", action=StoreDict, default={})
    trial.add_argument("--eval-env-kwargs", nargs="+", action=StoreDict)
    trial.add_argument("-params", "--hyperparams", nargs="+", action=StoreDict, help="fixed, and so not searched")
    trial.add_argument("-conf", "--conf-file", help="settings that the trials start from")
    trial.add_argument("--gym-packages", nargs="+", default=[], help="to import")
    trial.add_argument("--verbose", type=int, default=1)

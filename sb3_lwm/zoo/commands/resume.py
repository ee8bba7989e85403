"""``python -m sb3_lwm.zoo resume <run folder>``: continue a run of the Zoo from its newest complete training state."""

import argparse
import importlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import rl_zoo3.import_envs  # noqa: F401  registers the Atari games
import torch as th
import yaml
from stable_baselines3.common.vec_env import VecEnv

from sb3_lwm.lwm_dqn import LWMDQN
from sb3_lwm.zoo.experiment import LWMExperimentManager, saving_on_exit
from sb3_lwm.zoo.registration import ALGORITHM


class _Loader(yaml.SafeLoader):
    """Loads the types that the Zoo writes, and no others, which could execute code."""


def _ordered_dict(loader: yaml.SafeLoader, node: yaml.SequenceNode) -> dict[str, Any]:
    return dict(loader.construct_sequence(node, deep=True)[0])


def _tuple(loader: yaml.SafeLoader, node: yaml.SequenceNode) -> tuple[Any, ...]:
    return tuple(loader.construct_sequence(node, deep=True))


_Loader.add_constructor("tag:yaml.org,2002:python/object/apply:collections.OrderedDict", _ordered_dict)
_Loader.add_constructor("tag:yaml.org,2002:python/tuple", _tuple)


def read_settings(folder: Path) -> tuple[argparse.Namespace, dict[str, Any]]:
    """
    :param folder: The folder of a run
    :return: The options of its command line, and its hyperparameters
    :raises ValueError: If it is not a run of this algorithm
    """
    found = sorted(folder.glob("*/args.yml"))
    if len(found) != 1:
        raise ValueError(
            f"{folder} is not the folder of a run: it has {len(found)} files */args.yml. Use logs/lwm_dqn/<env>_<n>."
        )
    try:
        options = yaml.load(found[0].read_text(encoding="utf-8"), Loader=_Loader)
        hyperparameters = yaml.load(found[0].with_name("config.yml").read_text(encoding="utf-8"), Loader=_Loader)
    except yaml.YAMLError as error:
        raise ValueError(f"The settings beside {found[0]} cannot be read: {error}") from error
    if options["algo"] != ALGORITHM or options["optimize_hyperparameters"]:
        raise ValueError(f"{folder} is not a training of {ALGORITHM}: only such a training can be resumed.")
    return argparse.Namespace(**options), hyperparameters


class ResumedExperiment(LWMExperimentManager):
    """
    Continues a run in its own folder, with its own settings.

    :param folder: The folder of the run
    :param show_progress: Whether to show a progress bar; if False it is shown if the run had one
    :raises ValueError: If it is not the folder of a run of ``lwm_dqn``
    """

    def __init__(self, folder: Path, show_progress: bool = False) -> None:
        options, self._run_hyperparameters = read_settings(folder)
        for module in options.gym_packages:
            importlib.import_module(module)
        if options.num_threads > 0:
            th.set_num_threads(options.num_threads)
        names = {"log_folder", "tensorboard_log", "n_timesteps", "eval_freq", "save_freq", "env_kwargs", "eval_env_kwargs"}
        names |= {"seed", "log_interval", "save_replay_buffer", "verbose", "n_eval_envs", "device"}
        super().__init__(
            options,
            options.algo,
            options.env,
            n_eval_episodes=options.eval_episodes,
            vec_env_type=options.vec_env,
            show_progress=show_progress or options.progress,
            **{name: getattr(options, name) for name in names},
        )
        self.save_path = str(folder)
        self.params_path = str(folder / self.env_name)
        # makes the Zoo load the agent by `_load_pretrained_agent`
        self.continue_training = True

    def read_hyperparameters(self) -> tuple[dict[str, Any], dict[str, Any]]:
        return dict(self._run_hyperparameters), self._run_hyperparameters

    def create_envs(self, n_envs: int, eval_env: bool = False, no_log: bool = False) -> VecEnv:
        # the files of the Monitor are continued
        self.monitor_kwargs = {**self.monitor_kwargs, "override_existing": False}
        return super().create_envs(n_envs, eval_env, no_log)

    def _load_pretrained_agent(self, hyperparams: dict[str, Any], env: VecEnv) -> LWMDQN:
        return LWMDQN.load_training_state(self.save_path, env, device=self.device)

    def create_log_folder(self) -> None:
        """Do nothing, since the run already has its folder."""

    def _save_config(self, saved_hyperparams: dict[str, Any]) -> None:
        """Do nothing, since the run already has its files of settings."""

    def learn(self, model: LWMDQN) -> None:  # type: ignore[override]
        interval = {} if self.log_interval == -1 else {"log_interval": self.log_interval if self.log_interval > 0 else None}
        with saving_on_exit(self, model):
            try:
                model.learn(model.remaining_timesteps, self.callbacks, reset_num_timesteps=False, **interval)  # type: ignore[arg-type]
            except KeyboardInterrupt:
                # the caller saves the model, as the Zoo does
                pass
            finally:
                # `learn` ends the callback, which may be the progress bar, only if no exception was raised
                self.callbacks[0].on_training_end()
                assert model.env is not None
                model.env.close()


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """
    :param arguments: The arguments of the command line, by default ``sys.argv``
    :return: The options
    """
    parser = argparse.ArgumentParser(prog="python -m sb3_lwm.zoo resume", description="Continue a run that was stopped.")
    parser.add_argument("folder", type=Path, help="The folder of the run, such as logs/lwm_dqn/POL-3x3-v0_1")
    parser.add_argument("-P", "--progress", action="store_true", help="Show a progress bar")
    return parser.parse_args(arguments)


def main() -> None:
    """Train up to the total number of steps of the run, and save the model as the Zoo does."""
    options = parse()
    experiment = ResumedExperiment(options.folder, options.progress)
    found = experiment.setup_experiment()
    assert found is not None
    model = found[0]
    assert isinstance(model, LWMDQN)
    print(f"Resumed from {model.last_training_state}: {model.remaining_timesteps} steps remain")
    experiment.learn(model)
    experiment.save_trained_model(model)


if __name__ == "__main__":
    main()

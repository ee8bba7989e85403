"""
What Optuna may choose for ``lwm_dqn``, and how what it has chosen becomes hyperparameters.

The space is laid around the settings that the trials start from: what ``-params`` fixes is not chosen, sequences fit the
warm-up and the replay, and what a setting has switched off (world model, images, a ladder of epsilons) has no parameters.
What is chosen replaces a setting whole: a learning rate is constant in every trial, even where the settings have ``lin_...``.
"""

import importlib
import inspect
from collections.abc import Mapping
from contextvars import ContextVar
from typing import Any, NamedTuple

import optuna

from sb3_lwm.lwm_dqn import LWMDQN

# Where the chosen sizes go in policy_kwargs
SIZES: dict[str, tuple[str, ...]] = {
    "gru_hidden_size": ("gru_hidden_size",),
    "image_latent_size": ("world_model_kwargs", "image_latent_size"),
    "world_model_gru_hidden_size": ("world_model_kwargs", "predictor_kwargs", "gru_hidden_size"),
}
SHORTEST_UNROLL_POW, LONGEST_UNROLL_POW = 3, 6
LONGEST_BURN_IN, BURN_IN_STEP = 40, 4
LONGEST_N_STEPS = 5


class TrialContext(NamedTuple):
    """What the Zoo does not tell a sampler."""

    hyperparams: Mapping[str, Any] = {}  # that the trial starts from
    fixed: frozenset[str] = frozenset()  # names that the user has given values on the command line


CONTEXT: ContextVar[TrialContext] = ContextVar("trial_context")


class _Space:
    """
    Asks a trial for what is not fixed.

    :param trial: of Optuna
    :param context: of the trial
    """

    def __init__(self, trial: optuna.Trial, context: TrialContext) -> None:
        self.trial = trial
        self.hyperparams = context.hyperparams
        self.fixed = context.fixed
        self.chosen: dict[str, Any] = {}

    def is_fixed(self, name: str) -> bool:
        return name in self.fixed or (name in SIZES and "policy_kwargs" in self.fixed)

    def setting(self, name: str) -> Any:
        """:return: the value of the settings, else the constructor's default"""
        return self.hyperparams.get(name, inspect.signature(LWMDQN).parameters[name].default)

    def floating(self, name: str, low: float, high: float, log: bool = True) -> None:
        if not self.is_fixed(name.removeprefix("one_minus_")):
            self.chosen[name] = self.trial.suggest_float(name, low, high, log=log)

    def integer(self, name: str, low: int, high: int, step: int = 1) -> None:
        if not self.is_fixed(name):
            self.chosen[name] = self.trial.suggest_int(name, low, high, step=step)

    def power(self, name: str, low: int, high: int) -> None:
        """A power of two."""
        if not self.is_fixed(name):
            self.chosen[f"{name}_pow"] = self.trial.suggest_int(f"{name}_pow", low, high)

    def choice(self, name: str, choices: list[Any]) -> Any:
        """:return: what was chosen, None if it is fixed"""
        if not self.is_fixed(name):
            self.chosen[name] = self.trial.suggest_categorical(name, choices)
        return self.chosen.get(name)


def sample_lwm_dqn_params(trial: optuna.Trial, n_actions: int, n_envs: int, additional_args: dict[str, Any]) -> dict[str, Any]:
    """
    Choose the hyperparameters of a trial; the Zoo's sampler of ``lwm_dqn``.

    :param trial: of Optuna
    :param n_actions: not used
    :param n_envs: number of environments
    :param additional_args: not used
    :return: arguments of :class:`~sb3_lwm.LWMDQN` that replace those of the settings; ``policy_kwargs`` are merged with
        theirs
    :raises ValueError: if no sequence of the space fits the warm-up or the replay
    """
    context = CONTEXT.get(TrialContext())
    space = _Space(trial, context)
    _sample_learning(space)
    _sample_sequences(space, n_envs)
    _sample_replay(space)
    _sample_exploration(space)
    _sample_networks(space)
    chosen = convert_lwm_dqn_params(space.chosen)
    return {name: value for name, value in merge(context.hyperparams, chosen).items() if name in chosen}


def _sample_learning(space: _Space) -> None:
    space.floating("learning_rate", 5e-5, 2e-3)
    space.floating("one_minus_gamma", 1e-3, 0.05)
    space.floating("tau", 2e-3, 0.1)
    space.power("batch_size", 3, 6)
    space.power("train_freq", 0, 3)
    space.floating("max_grad_norm", 0.5, 50.0)


def _sample_sequences(space: _Space, n_envs: int) -> None:
    """
    Any choice fits: ``burn_in + unroll + n_steps`` rows of each environment are there at the end of the warm-up, and
    ``n_steps < unroll``. The bounds do not depend on other choices, so that they are those of every trial.
    """
    learning_starts, buffer_size = space.setting("learning_starts"), space.setting("buffer_size")
    # whole sequences, for which a replay by priority needs up to two unrolls more
    rows = min(learning_starts, buffer_size // 3) // n_envs
    burn_in = space.setting("burn_in") if space.is_fixed("burn_in") else 0
    n_steps = space.setting("n_steps") if space.is_fixed("n_steps") else LONGEST_N_STEPS
    shortest = max(SHORTEST_UNROLL_POW, n_steps.bit_length())
    longest = min(LONGEST_UNROLL_POW, max(rows - burn_in - n_steps, 1).bit_length() - 1)
    if not space.is_fixed("unroll") and shortest > LONGEST_UNROLL_POW:
        raise ValueError(
            f"n_steps={n_steps} needs a longer unroll than the {2**LONGEST_UNROLL_POW} of the space: fix unroll, too."
        )
    if space.is_fixed("unroll"):
        longest_unroll = space.setting("unroll")
        n_steps = min(n_steps, longest_unroll - 1)
    elif longest < shortest:
        raise ValueError(
            f"learning_starts={learning_starts}, buffer_size={buffer_size}: {rows} rows of each of {n_envs} environments can"
            f"not hold the shortest sequence, {burn_in + 2**shortest + n_steps}. Raise them (a replay holds three sequences), "
            "or fix burn_in, unroll and n_steps with -params."
        )
    else:
        space.power("unroll", shortest, longest)
        longest_unroll = 2**longest
    space.integer("n_steps", 1, max(n_steps, 1))
    longest_burn_in = max(min(LONGEST_BURN_IN, rows - longest_unroll - n_steps), 0)
    space.integer("burn_in", 0, longest_burn_in - longest_burn_in % BURN_IN_STEP, BURN_IN_STEP)


def _sample_replay(space: _Space) -> None:
    is_prioritized = space.setting("prioritized_replay")
    # a class of the user's decides by itself
    if space.setting("replay_buffer_class") is None and not space.is_fixed("prioritized_replay"):
        is_prioritized = space.choice("prioritized_replay", [False, True])
    if is_prioritized:
        space.floating("priority_exponent", 0.3, 1.0, log=False)
        space.floating("importance_exponent", 0.0, 1.0, log=False)
        space.floating("priority_max_weight", 0.0, 1.0, log=False)


def _sample_exploration(space: _Space) -> None:
    if space.setting("exploration_eps_base") is not None:
        space.floating("exploration_eps_base", 0.2, 0.6, log=False)
        space.floating("exploration_eps_alpha", 3.0, 10.0, log=False)
        return
    space.floating("exploration_final_eps", 1e-3, 0.1)
    # without annealing the initial epsilon is the final one that was chosen
    is_fixed = space.is_fixed("exploration_initial_eps") or space.is_fixed("exploration_final_eps")
    if not is_fixed and space.choice("exploration_anneals", [False, True]):
        space.floating("exploration_fraction", 0.05, 0.5, log=False)


def _sample_networks(space: _Space) -> None:
    is_image = space.setting("policy") == "CnnPolicy"
    space.power("gru_hidden_size", 7 if is_image else 5, 9 if is_image else 8)
    policy_kwargs = as_mapping(space.hyperparams.get("policy_kwargs"))
    if not space.setting("use_world_model") or policy_kwargs.get("world_model_kwargs", {}) is None:
        return
    space.power("world_model_gru_hidden_size", 6 if is_image else 5, 8)
    if is_image:
        space.power("image_latent_size", 4, 6)
    space.floating("world_model_learning_rate", 1e-4, 2e-3)
    if space.is_fixed("intrinsic_reward_scale") and not space.setting("intrinsic_reward_scale"):
        return
    space.floating("intrinsic_reward_scale", 0.01, 3.0)
    space.floating("one_minus_intrinsic_reward_momentum", 1e-3, 0.1)
    space.choice("intrinsic_reward_clip", [None, 2.0, 5.0, 10.0])
    space.choice("intrinsic_reward_input", [True, False])


def convert_lwm_dqn_params(sampled_params: Mapping[str, Any]) -> dict[str, Any]:
    """
    Make hyperparameters of a trial's parameters; the Zoo's converter of ``lwm_dqn``.

    :param sampled_params: ``trial.params``
    :return: arguments of :class:`~sb3_lwm.LWMDQN`
    """
    hyperparams: dict[str, Any] = {}
    for name, value in sampled_params.items():
        if name.startswith("one_minus_"):
            hyperparams[name.removeprefix("one_minus_")] = 1.0 - value
        elif name.endswith("_pow"):
            hyperparams[name.removesuffix("_pow")] = 2**value
        else:
            hyperparams[name] = value
    if hyperparams.pop("exploration_anneals", False):
        hyperparams["exploration_initial_eps"] = 1.0
    elif "exploration_anneals" in sampled_params:
        hyperparams["exploration_initial_eps"] = hyperparams["exploration_final_eps"]
    for name, path in SIZES.items():
        if name in hyperparams:
            nested = hyperparams.setdefault("policy_kwargs", {})
            for key in path[:-1]:
                nested = nested.setdefault(key, {})
            nested[path[-1]] = hyperparams.pop(name)
    return hyperparams


def merge(hyperparams: Mapping[str, Any], chosen: Mapping[str, Any]) -> dict[str, Any]:
    """
    Put chosen values over settings; the parts of ``policy_kwargs`` that were not chosen stay as they are.

    :param hyperparams: the settings, which are not changed
    :param chosen: see :func:`convert_lwm_dqn_params`
    :return: both
    """
    merged = {**hyperparams, **chosen}
    if "policy_kwargs" in chosen:
        merged["policy_kwargs"] = _merge_deeply(as_mapping(hyperparams.get("policy_kwargs")), chosen["policy_kwargs"])
    return merged


def _merge_deeply(settings: Mapping[str, Any], chosen: Mapping[str, Any]) -> dict[str, Any]:
    merged = dict(settings)
    for key, value in chosen.items():
        merged[key] = _merge_deeply(settings.get(key) or {}, value) if isinstance(value, Mapping) else value
    return merged


def as_mapping(policy_kwargs: Mapping[str, Any] | str | None) -> Mapping[str, Any]:
    """
    :param policy_kwargs: of a block of hyperparameters
    :return: a dictionary
    """
    if isinstance(policy_kwargs, str):
        # as ExperimentManager._preprocess_hyperparams does with the same string
        return eval(policy_kwargs, vars(importlib.import_module("rl_zoo3.exp_manager")))
    return policy_kwargs or {}

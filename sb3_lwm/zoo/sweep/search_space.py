"""
The search space of ``lwm_dqn``: the hyperparameters that Optuna chooses, and their conversion to arguments of the algorithm.

The space depends on the settings of the sweep: it excludes hyperparameters that ``-params`` fixes or that belong to a disabled
part, and sequences that do not fit the warm-up and the replay. A chosen value replaces the whole setting, so that a chosen
learning rate has no schedule.
"""

import inspect
from collections.abc import Iterable, Mapping
from contextvars import ContextVar
from typing import Any

import optuna

from sb3_lwm.lwm_dqn import LWMDQN

# The places of the searched sizes in policy_kwargs
SIZES: dict[str, tuple[str, ...]] = {
    "gru_hidden_size": ("gru_hidden_size",),
    "image_latent_size": ("world_model_kwargs", "image_latent_size"),
    "world_model_gru_hidden_size": ("world_model_kwargs", "predictor_kwargs", "gru_hidden_size"),
}
SHORTEST_UNROLL_POW, LONGEST_UNROLL_POW = 3, 6
LONGEST_BURN_IN, BURN_IN_STEP, LONGEST_N_STEPS = 40, 4, 5


# The settings of a trial, and the names of the fixed ones, which the Zoo does not pass to a sampler
CONTEXT: ContextVar[tuple[Mapping[str, Any], Iterable[str]]] = ContextVar("trial_context", default=({}, ()))


class _Space:
    """Chooses the hyperparameters of a trial that are not fixed."""

    def __init__(self, trial: optuna.Trial) -> None:
        self.trial = trial
        self.hyperparams, self.fixed = CONTEXT.get()
        self.chosen: dict[str, Any] = {}

    def is_fixed(self, name: str) -> bool:
        return name in self.fixed or (name in SIZES and "policy_kwargs" in self.fixed)

    def setting(self, name: str) -> Any:
        """Return the value in the settings, by default that of the constructor."""
        return self.hyperparams.get(name, inspect.signature(LWMDQN).parameters[name].default)

    def number(self, name: str, low: float, high: float, **kwargs: Any) -> None:
        """Choose a float if the bounds are floats, else an integer."""
        if not self.is_fixed(name.removeprefix("one_minus_").removesuffix("_pow")):
            suggest: Any = self.trial.suggest_float if isinstance(low, float) else self.trial.suggest_int
            self.chosen[name] = suggest(name, low, high, **kwargs)

    def choice(self, name: str, choices: list[Any]) -> Any:
        """Choose one of several values; return it, or the setting if it is fixed."""
        if not self.is_fixed(name):
            self.chosen[name] = self.trial.suggest_categorical(name, choices)
        return self.chosen[name] if name in self.chosen else self.setting(name)


def sample_lwm_dqn_params(trial: optuna.Trial, n_actions: int, n_envs: int, additional_args: dict[str, Any]) -> dict[str, Any]:
    """
    Choose the hyperparameters of a trial: the Zoo's sampler of ``lwm_dqn``. The settings of the trial are in ``CONTEXT``.

    :param trial: The trial of Optuna
    :param n_actions: The number of actions, not used
    :param n_envs: The number of environments
    :param additional_args: Additional arguments, not used
    :return: The arguments of :class:`~sb3_lwm.LWMDQN` that replace those of the settings. ``policy_kwargs`` also contain the
        parts of the settings that were not chosen.
    :raises ValueError: If no sequence of the space fits the warm-up or the replay
    """
    space = _Space(trial)
    space.number("learning_rate", 5e-5, 2e-3, log=True)
    space.number("one_minus_gamma", 1e-3, 0.05, log=True)
    space.number("tau", 2e-3, 0.1, log=True)
    space.number("batch_size_pow", 3, 6)
    space.number("train_freq_pow", 0, 3)
    space.number("max_grad_norm", 0.5, 50.0, log=True)
    _sample_sequences(space, n_envs)
    # with a replay_buffer_class of the user, prioritized_replay has no effect
    if space.setting("replay_buffer_class") is None and space.choice("prioritized_replay", [False, True]):
        space.number("priority_exponent", 0.3, 1.0)
        space.number("importance_exponent", 0.0, 1.0)
        space.number("priority_max_weight", 0.0, 1.0)
    _sample_exploration(space)
    _sample_networks(space)
    chosen = convert_lwm_dqn_params(space.chosen)
    return {name: value for name, value in merge(space.hyperparams, chosen).items() if name in chosen}


def _sample_sequences(space: _Space, n_envs: int) -> None:
    """Choose lengths within bounds that do not depend on other choices, such that every combination fits."""
    # a third of the replay, since a prioritized one stores whole sequences and needs up to two more unrolls
    rows = min(space.setting("learning_starts"), space.setting("buffer_size") // 3) // n_envs
    burn_in = space.setting("burn_in") if space.is_fixed("burn_in") else 0
    n_steps = space.setting("n_steps") if space.is_fixed("n_steps") else LONGEST_N_STEPS
    if space.is_fixed("unroll"):
        longest_unroll = space.setting("unroll")
        n_steps = min(n_steps, longest_unroll - 1)
    else:
        # n_steps < unroll, and burn_in + unroll + n_steps <= rows
        shortest = max(SHORTEST_UNROLL_POW, n_steps.bit_length())
        longest = min(LONGEST_UNROLL_POW, max(rows - burn_in - n_steps, 1).bit_length() - 1)
        if longest < shortest:
            raise ValueError(
                f"No unroll of {2**SHORTEST_UNROLL_POW} to {2**LONGEST_UNROLL_POW} fits n_steps={n_steps}, burn_in={burn_in} "
                f"and {rows} rows of each of {n_envs} environments (learning_starts, and a third of buffer_size): raise these "
                "two, or fix burn_in, unroll and n_steps with -params."
            )
        space.number("unroll_pow", shortest, longest)
        longest_unroll = 2**longest
    space.number("n_steps", 1, max(n_steps, 1))
    longest_burn_in = max(min(LONGEST_BURN_IN, rows - longest_unroll - n_steps), 0)
    space.number("burn_in", 0, longest_burn_in - longest_burn_in % BURN_IN_STEP, step=BURN_IN_STEP)


def _sample_exploration(space: _Space) -> None:
    if space.setting("exploration_eps_base") is not None:
        space.number("exploration_eps_base", 0.2, 0.6)
        space.number("exploration_eps_alpha", 3.0, 10.0)
        return
    space.number("exploration_final_eps", 1e-3, 0.1, log=True)
    # without annealing, the initial epsilon is the chosen final one
    is_fixed = space.is_fixed("exploration_initial_eps") or space.is_fixed("exploration_final_eps")
    if not is_fixed and space.choice("exploration_anneals", [False, True]):
        space.number("exploration_fraction", 0.05, 0.5)


def _sample_networks(space: _Space) -> None:
    is_image = space.setting("policy") == "CnnPolicy"
    space.number("gru_hidden_size_pow", 7 if is_image else 5, 9 if is_image else 8)
    policy_kwargs = space.hyperparams.get("policy_kwargs") or {}
    if not space.setting("use_world_model") or policy_kwargs.get("world_model_kwargs", {}) is None:
        return
    space.number("world_model_gru_hidden_size_pow", 6 if is_image else 5, 8)
    if is_image:
        space.number("image_latent_size_pow", 4, 6)
    space.number("world_model_learning_rate", 1e-4, 2e-3, log=True)
    if space.is_fixed("intrinsic_reward_scale") and not space.setting("intrinsic_reward_scale"):
        return
    space.number("intrinsic_reward_scale", 0.01, 3.0, log=True)
    space.number("one_minus_intrinsic_reward_momentum", 1e-3, 0.1, log=True)
    space.choice("intrinsic_reward_clip", [None, 2.0, 5.0, 10.0])
    space.choice("intrinsic_reward_input", [True, False])


def convert_lwm_dqn_params(sampled_params: Mapping[str, Any]) -> dict[str, Any]:
    """
    Convert the parameters of a trial to hyperparameters: the Zoo's converter of ``lwm_dqn``.

    :param sampled_params: The parameters of a trial, ``trial.params``
    :return: The arguments of :class:`~sb3_lwm.LWMDQN`
    """
    hyperparams: dict[str, Any] = {}
    for name, value in sampled_params.items():
        if name.startswith("one_minus_"):
            hyperparams[name.removeprefix("one_minus_")] = 1.0 - value
        elif name.endswith("_pow"):
            hyperparams[name.removesuffix("_pow")] = 2**value
        else:
            hyperparams[name] = value
    if "exploration_anneals" in hyperparams:
        anneals = hyperparams.pop("exploration_anneals")
        hyperparams["exploration_initial_eps"] = 1.0 if anneals else hyperparams["exploration_final_eps"]
    for name, (*path, key) in SIZES.items():
        if name in hyperparams:
            nested = hyperparams.setdefault("policy_kwargs", {})
            for step in path:
                nested = nested.setdefault(step, {})
            nested[key] = hyperparams.pop(name)
    return hyperparams


def merge(settings: Mapping[str, Any], chosen: Mapping[str, Any]) -> dict[str, Any]:
    """
    Merge chosen hyperparameters into settings. Mappings such as ``policy_kwargs`` keep the parts that were not chosen.

    :param settings: The settings, which are not changed
    :param chosen: The hyperparameters that override them
    :return: The merged hyperparameters
    :raises ValueError: If a setting to merge is a string of Python code instead of a mapping
    """
    merged = {**settings, **chosen}
    for name, value in chosen.items():
        if isinstance(value, Mapping):
            setting = settings.get(name) or {}
            if isinstance(setting, str):
                raise ValueError(
                    f"{name}={setting!r} is Python code, with which a trial cannot be merged: write a mapping of YAML."
                )
            merged[name] = merge(setting, value)
    return merged

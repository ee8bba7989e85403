"""Agents with short sequences, and samples of them."""

from typing import Any

import numpy as np
import torch as th
from helpers import SHORT, make_random_envs

from sb3_lwm import LWMDQN
from sb3_lwm.common.type_aliases import SequenceSamples

BURN_IN, UNROLL, N_ACTIONS = 1, 4, 3
SMALL: dict[str, Any] = {**SHORT, "burn_in": BURN_IN, "unroll": UNROLL, "gamma": 0.5}


def make_model(**kwargs: Any) -> LWMDQN:
    return LWMDQN("MlpPolicy", make_random_envs(), seed=0, **{**SMALL, **kwargs})


def make_samples(n_steps: int, n_batch: int = 3) -> SequenceSamples:
    """Return random rows: an unbroken sequence, one with a termination inside, and one with a time-out inside."""
    n_rows = BURN_IN + UNROLL + n_steps
    generator = th.Generator().manual_seed(n_steps)
    finals = th.zeros(n_rows, n_batch, dtype=th.bool)
    finals[3, 1] = finals[3, 2] = True
    terminations = finals.clone()
    terminations[:, 2] = False
    episode_starts = finals.roll(1, dims=0)
    episode_starts[0] = True
    actions = th.randint(N_ACTIONS, (n_rows, n_batch), generator=generator)
    return SequenceSamples(
        observations=th.rand(n_rows, n_batch, 3, generator=generator),
        # a final row has neither action nor reward
        actions=actions.masked_fill(finals, 0),
        rewards=th.randn(n_rows, n_batch, generator=generator).masked_fill(finals, 0.0),
        episode_starts=episode_starts,
        finals=finals,
        terminations=terminations,
        initial_states=None,
        importance_weights=th.ones(n_batch),
        sequence_ids=np.arange(n_batch),
        intrinsic_rewards=th.randn(n_rows, n_batch, generator=generator),
    )

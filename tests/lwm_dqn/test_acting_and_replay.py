"""What the networks return while acting is what they return for the same steps in the replay."""

import numpy as np
import pytest
import torch as th
from acting_helpers import check_acting_and_replay_agree
from helpers import NETWORKS, make_labyrinths

from sb3_lwm import LWMDQN


@pytest.mark.parametrize("seed", [0, 1])
def test_acting_and_replay_agree_across_resets(seed: int) -> None:
    check_acting_and_replay_agree(seed)


def test_acting_and_replay_agree_without_the_intrinsic_reward_as_an_input() -> None:
    check_acting_and_replay_agree(0, intrinsic_reward_input=False)


def test_predict_is_the_same_path_as_act() -> None:
    env = make_labyrinths(n_envs=2)
    model = LWMDQN("MlpPolicy", env, seed=3, policy_kwargs=NETWORKS)
    observations, state, starts = env.reset(), None, np.ones(2, dtype=bool)
    tensors = model.policy.initial_state(2)
    for _ in range(30):
        actions, state = model.predict(observations, state, starts, deterministic=True)
        acted, tensors = model.policy.act(th.as_tensor(observations), tensors, th.as_tensor(starts))
        np.testing.assert_array_equal(actions, acted)
        for part, tensor in zip(state, tensors, strict=True):
            np.testing.assert_array_equal(part, tensor.numpy())
        observations, _, starts, _ = env.step(actions)

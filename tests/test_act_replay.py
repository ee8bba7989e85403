"""The golden test: what the networks say while acting is what they say of the same steps in the replay."""

from typing import Any

import numpy as np
import pytest
import torch as th
from helpers import NETWORKS, make_labyrinths

from sb3_lwm import LWMDQN
from sb3_lwm.common.type_aliases import RecurrentState
from sb3_lwm.lwm_dqn.policies import LWMPolicy
from sb3_lwm.replay.prioritized_buffer import PrioritizedSequenceReplayBuffer

STEPS = 60


@th.no_grad()
def head(policy: LWMPolicy, hidden: th.Tensor) -> th.Tensor:
    return policy.q_net.head(hidden)


def check_acting_and_replay_agree(seed: int, policy_class: str = "MlpPolicy", **kwargs: Any) -> None:
    env = make_labyrinths(n_envs=3, seed=seed)
    model = LWMDQN(policy_class, env, seed=seed, policy_kwargs=NETWORKS, **kwargs)
    policy, world_model = model.policy, model.policy.world_model
    assert world_model is not None
    world_model.normalizer.update(th.rand(10))
    stride, length = 8, 20
    buffer = PrioritizedSequenceReplayBuffer(
        3 * 200, env.observation_space, env.action_space, "cpu", 3, stride=stride, sequence_length=length
    )

    acted: dict[tuple[int, int], tuple[th.Tensor, float]] = {}
    observations, state, starts = env.reset(), policy.initial_state(3), np.ones(3, dtype=bool)
    n_resets = 0
    for _ in range(STEPS):
        tensor_starts = th.as_tensor(starts)
        tensors, _ = policy.obs_to_tensor(observations)
        with th.no_grad():
            _, rewards = world_model.observe(tensors, state.predicted_latents, tensor_starts)
        # played at random half of the time, so that actions differ from the greedy ones
        actions, next_state = policy.act(tensors, state, tensor_starts, 0.5)
        for index in range(3):
            acted[index, int(buffer.written[index])] = (
                head(policy, next_state.hidden[index]),
                rewards[index].item(),
            )
        next_observations, env_rewards, dones, infos = env.step(actions)
        finals = np.array(
            [
                info["terminal_observation"] if done else row
                for row, done, info in zip(next_observations, dones, infos, strict=True)
            ]
        )
        buffer.add(observations, finals, actions, env_rewards, dones, infos, state, next_state)
        observations, state, starts = next_observations, next_state, dones
        n_resets += int(dones.sum())
    assert n_resets >= 3

    sequence_ids = buffer.unrated_sequences()
    samples = buffer.sequences(sequence_ids)
    callback = model._init_callback(None) and model._world_model_callback
    assert callback is not None
    paid = callback.relabel(samples)
    initial = samples.initial_states
    assert isinstance(initial, RecurrentState)
    last_actions = th.cat((initial.last_actions.unsqueeze(0), samples.actions[:-1]))
    with th.no_grad():
        q_values = policy.q_net.q_values(paid, initial.hidden, last_actions, burn_in=5)

    compared = 0
    for column, sequence_id in enumerate(sequence_ids):
        slot, index = divmod(int(sequence_id), 3)
        for row in range(length):
            key = (index, slot * stride + row)
            assert (key in acted) != bool(samples.finals[row, column])
            if key in acted:
                expected_q_values, expected_reward = acted[key]
                assert paid.intrinsic_rewards[row, column].item() == pytest.approx(expected_reward, abs=2e-5)
                if row >= 5:
                    th.testing.assert_close(q_values[row - 5, column], expected_q_values, atol=2e-6, rtol=2e-5)
                    compared += 1
    assert compared > 200


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

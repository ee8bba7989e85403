"""Check that the networks have the same outputs while acting and for the same steps in the replay."""

from typing import Any, NamedTuple

import numpy as np
import pytest
import torch as th
from helpers import NETWORKS, make_labyrinths
from stable_baselines3.common.vec_env import VecEnv

from sb3_lwm import LWMDQN, PrioritizedSequenceReplayBuffer

N_ENVS, N_STEPS = 3, 180
STRIDE, SEQUENCE_LENGTH, BURN_IN = 8, 20, 5


class Acted(NamedTuple):
    """Outputs of the networks while acting."""

    q_values: th.Tensor  # (A,) float
    intrinsic_reward: float


def play(model: LWMDQN, env: VecEnv, buffer: PrioritizedSequenceReplayBuffer) -> dict[tuple[int, int], Acted]:
    """
    Play into an empty buffer, with half of the actions at random, so that they differ from the greedy ones.

    :return: The outputs by environment and row
    """
    policy, world_model = model.policy, model.policy.world_model
    assert world_model is not None
    acted: dict[tuple[int, int], Acted] = {}
    observations, state, starts = env.reset(), policy.initial_state(N_ENVS), np.ones(N_ENVS, dtype=bool)
    n_resets = 0
    for _ in range(N_STEPS):
        tensor_starts = th.as_tensor(starts)
        tensors, _ = policy.obs_to_tensor(observations)
        with th.no_grad():
            _, rewards = world_model.observe(tensors, state.predicted_latents, tensor_starts)
            actions, next_state = policy.act(tensors, state, tensor_starts, 0.5)
            q_values = policy.q_net.head(next_state.hidden)
        for index in range(N_ENVS):
            acted[index, int(buffer.written[index])] = Acted(q_values[index], rewards[index].item())
        next_observations, env_rewards, dones, infos = env.step(actions)
        finals = next_observations.copy()
        for index in np.flatnonzero(dones):
            finals[index] = infos[index]["terminal_observation"]
        buffer.add(observations, finals, actions, env_rewards, dones, infos, state, next_state)
        observations, state, starts = next_observations, next_state, dones
        n_resets += int(dones.sum())
    assert n_resets >= N_ENVS
    return acted


def check_acting_and_replay_agree(seed: int, policy_class: str = "MlpPolicy", burn_in: int = BURN_IN, **kwargs: Any) -> None:
    """
    Compare Q-values and intrinsic rewards across the ends of episodes.

    :param seed: The seed of the environments and the agent
    :param policy_class: The policy of the agent
    :param burn_in: The number of rows without Q-values
    :param kwargs: Further arguments of the agent
    """
    env = make_labyrinths(n_envs=N_ENVS, seed=seed)
    model = LWMDQN(policy_class, env, seed=seed, policy_kwargs=NETWORKS, **kwargs)
    assert model.policy.world_model is not None and model.world_model_trainer is not None
    # intrinsic rewards that are not 0
    model.policy.world_model.normalizer.update(th.rand(10))
    buffer = PrioritizedSequenceReplayBuffer(
        N_ENVS * 200,
        env.observation_space,
        env.action_space,
        "cpu",
        N_ENVS,
        stride=STRIDE,
        sequence_length=SEQUENCE_LENGTH,
        priority_exponent=0.9,
        importance_exponent=0.6,
    )
    acted = play(model, env, buffer)
    sequence_ids = buffer.take_without_priority(n_waiting=1)
    samples = model.world_model_trainer.relabel(buffer.sequences(sequence_ids))
    assert samples.initial_states is not None
    with th.no_grad():
        q_values = model.q_net.q_values(samples, burn_in)
    compared = 0
    for column, sequence_id in enumerate(sequence_ids):
        slot, index = divmod(int(sequence_id), N_ENVS)
        for row in range(SEQUENCE_LENGTH):
            expected = acted.get((index, slot * STRIDE + row))
            assert (expected is None) == bool(samples.finals[row, column])
            if expected is None:
                continue
            reward = samples.intrinsic_rewards[row, column].item()
            assert reward == pytest.approx(expected.intrinsic_reward, abs=2e-5)
            if row >= burn_in:
                th.testing.assert_close(q_values[row - burn_in, column], expected.q_values, atol=2e-6, rtol=2e-5)
                compared += 1
    assert compared > 200

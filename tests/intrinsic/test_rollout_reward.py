"""The intrinsic reward of rollouts and its advantages, against tables by hand and against one long unroll."""

from typing import Any

import numpy as np
import pytest
import torch as th
from gymnasium import spaces
from helpers import RandomEnv
from stable_baselines3 import PPO
from stable_baselines3.common.env_util import make_vec_env

from sb3_lwm import IntrinsicRewardCallback
from sb3_lwm.common.finite_guard import FiniteGuard
from sb3_lwm.common.type_aliases import Transitions
from sb3_lwm.intrinsic.critic import IntrinsicCritic, continuing_advantages
from sb3_lwm.intrinsic.on_policy import RolloutReward

VECTOR = spaces.Box(-1.0, 1.0, (3,))
SMALL: dict[str, Any] = {"predictor_kwargs": {"input_size": 8, "gru_hidden_size": 12, "head_size": 8}}
GAMMA, LAMBDA = 0.5, 0.5
CRITIC_GAMMA = 0.75


class Recorder(IntrinsicRewardCallback):
    """Keeps what each rollout held, before and after the callback, and its intrinsic rewards."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(world_model_kwargs=SMALL, gamma=CRITIC_GAMMA, **kwargs)
        self.rollouts: list[dict[str, Any]] = []

    def _on_rollout_end(self) -> None:
        buffer, reward = self.model.rollout_buffer, self._reward  # type: ignore[attr-defined]
        assert isinstance(reward, RolloutReward)
        record: dict[str, Any] = {"finals": dict(reward._finals), "last_obs": self.model._last_obs.copy()}  # type: ignore
        names = ("observations", "actions", "rewards", "episode_starts", "values", "returns", "advantages")
        record |= {name: getattr(buffer, name).copy() for name in names}
        add_advantages = reward._add_advantages

        def note(rewards: th.Tensor, latents: th.Tensor, scale: float) -> None:
            # the values before the critic learns from this rollout
            record.update(intrinsic_rewards=rewards.numpy(), intrinsic_values=reward.critic(latents).detach().numpy())
            add_advantages(rewards, latents, scale)

        reward._add_advantages = note  # type: ignore[method-assign]
        super()._on_rollout_end()
        reward._add_advantages = add_advantages  # type: ignore[method-assign]
        record |= {f"{name} after": getattr(buffer, name).copy() for name in names}
        self.rollouts.append(record)


def train(
    n_steps: int,
    n_rollouts: int,
    n_envs: int = 1,
    space: spaces.Space = VECTOR,
    recorder_class: type[Recorder] = Recorder,
    **kwargs: Any,
) -> Recorder:
    env = make_vec_env(RandomEnv, n_envs, seed=0, env_kwargs={"observation_space": space})
    settings = {"n_epochs": 1, "batch_size": n_steps * n_envs, "gamma": GAMMA, "gae_lambda": LAMBDA, "learning_rate": 0.0}
    model = PPO("MlpPolicy", env, n_steps=n_steps, seed=0, device="cpu", policy_kwargs={"net_arch": [8]}, **settings)
    recorder = recorder_class(**kwargs)
    model.learn(n_steps * n_envs * n_rollouts, callback=recorder)
    return recorder


def test_advantages_by_hand() -> None:
    rewards, values = th.tensor([[1.0], [0.0], [2.0]]), th.tensor([[0.5], [1.0], [0.0], [4.0]])
    # differences r + gamma v' - v: 1 + 0.5 - 0.5 = 1; 0 + 0 - 1 = -1; 2 + 2 - 0 = 4
    # advantages: 4; -1 + 0.25 * 4 = 0; 1 + 0.25 * 0 = 1
    assert continuing_advantages(rewards, values, 0.5, 0.5)[:, 0].tolist() == [1.0, 0.0, 4.0]


def test_the_advantages_of_the_intrinsic_reward_continue_through_a_reset_and_are_added() -> None:
    # episodes of seven steps: the third rollout of three steps has a reset inside
    rollout = train(n_steps=3, n_rollouts=3, intrinsic_reward_scale=2.0).rollouts[2]
    assert rollout["episode_starts"][:, 0].tolist() == [0.0, 1.0, 0.0]
    rewards, values = rollout["intrinsic_rewards"][:, 0], rollout["intrinsic_values"][:, 0]
    assert np.abs(rewards).max() > 0.0
    third = rewards[2] + CRITIC_GAMMA * values[3] - values[2]
    second = rewards[1] + CRITIC_GAMMA * values[2] - values[1] + CRITIC_GAMMA * LAMBDA * third
    first = rewards[0] + CRITIC_GAMMA * values[1] - values[0] + CRITIC_GAMMA * LAMBDA * second
    added = (rollout["advantages after"] - rollout["advantages"])[:, 0]
    assert added == pytest.approx([2.0 * first, 2.0 * second, 2.0 * third], abs=1e-6)


def test_rewards_values_and_returns_remain_those_of_the_environment() -> None:
    (rollout,) = train(n_steps=14, n_rollouts=1, intrinsic_reward_scale=1.0).rollouts
    for name in ("rewards", "values", "returns"):
        assert np.array_equal(rollout[f"{name} after"], rollout[name])
    assert not np.allclose(rollout["advantages after"], rollout["advantages"])


def test_errors_below_the_average_give_the_lowest_reward_and_the_mean_is_zero() -> None:
    rollout = train(n_steps=14, n_rollouts=2, intrinsic_reward_scale=1.0).rollouts[1]
    rewards = rollout["intrinsic_rewards"]
    assert rewards.mean() == pytest.approx(0.0, abs=1e-6)
    assert (rewards == rewards.min()).sum() > 1 and (rewards > rewards.min()).any()


@pytest.mark.parametrize("chunk_length", [1, 3, 5])
def test_errors_along_rollouts_are_those_of_one_long_unroll(chunk_length: int) -> None:
    # flags are not standardised, and an untrained world model stays the same
    kwargs = {"intrinsic_reward_scale": 1.0, "intrinsic_reward_clip": None}
    recorder = train(5, 4, 2, spaces.MultiBinary(4), n_passes=0, chunk_length=chunk_length, **kwargs)
    assert recorder.trainer is not None
    world_model, rollouts = recorder.trainer.world_model, recorder.rollouts
    names = ("observations", "actions", "episode_starts")
    observations, actions, starts = (np.concatenate([rollout[name] for rollout in rollouts]) for name in names)
    next_observations = np.concatenate([observations[1:], rollouts[-1]["last_obs"][None]])
    for number, rollout in enumerate(rollouts):
        for (row, env), final in rollout["finals"].items():
            next_observations[5 * number + row, env] = final
    latents, next_latents = (world_model.encode(th.as_tensor(part)) for part in (observations, next_observations))
    transitions = Transitions(latents, th.as_tensor(actions[..., 0]), th.as_tensor(starts).bool(), next_latents)
    errors, _, _ = world_model.transition_errors(transitions, world_model.initial_hidden(2))
    # the weights of four rollouts are 1, 2/3, 2/4 and 2/5: together 0.1, 0.2, 0.3 and 0.4
    shares = th.tensor([0.1, 0.2, 0.3, 0.4])
    parts = errors.reshape(4, 5, 2)
    mean = (shares * parts.mean(dim=(1, 2))).sum()
    deviation = (shares * parts.flatten(1).std(dim=1)).sum()
    expected = ((parts[3] - mean) / deviation).clamp(min=0.0)
    assert rollouts[-1]["intrinsic_rewards"] == pytest.approx((expected - expected.mean()).numpy(), abs=1e-4)


def test_a_final_observation_that_is_not_known_gives_no_reward() -> None:
    class NoFinals(Recorder):
        def _on_step(self) -> bool:
            for info in self.locals["infos"]:
                info.pop("terminal_observation", None)
            return super()._on_step()

    (rollout,) = train(14, 1, 1, intrinsic_reward_scale=1.0, recorder_class=NoFinals).rollouts
    assert rollout["intrinsic_rewards"][[6, 13], 0].tolist() == [0.0, 0.0]
    assert (rollout["intrinsic_rewards"][:6, 0] != 0.0).all()


def test_the_critic_learns_the_returns() -> None:
    th.manual_seed(0)
    critic = IntrinsicCritic(2, gamma=0.99, learning_rate=0.01, finite_guard=FiniteGuard(lambda: ""))
    latents = th.eye(2).repeat(50, 1)
    returns = th.tensor([1.0, -2.0]).repeat(50)
    for _ in range(30):
        loss = critic.learn(latents, returns)
    assert loss < 1e-3
    assert critic(th.eye(2)).tolist() == pytest.approx([1.0, -2.0], abs=0.05)

"""The intrinsic reward of rollouts, against tables by hand and against one long unroll."""

from typing import Any

import numpy as np
import pytest
import torch as th
from gymnasium import spaces
from helpers import RandomEnv
from stable_baselines3 import PPO
from stable_baselines3.common.env_util import make_vec_env

from sb3_lwm import IntrinsicRewardCallback
from sb3_lwm.common.type_aliases import Transitions
from sb3_lwm.intrinsic.on_policy import RolloutReward

VECTOR = spaces.Box(-1.0, 1.0, (3,))
SMALL: dict[str, Any] = {"predictor_kwargs": {"input_size": 8, "gru_hidden_size": 12, "head_size": 8}}
GAMMA, LAMBDA = 0.5, 0.5


class Recorder(IntrinsicRewardCallback):
    """Keeps what each rollout held, before and after the bonus."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(world_model_kwargs=SMALL, **kwargs)
        self.rollouts: list[dict[str, Any]] = []

    def _on_rollout_end(self) -> None:
        buffer = self.model.rollout_buffer  # type: ignore[attr-defined]
        before = {name: getattr(buffer, name).copy() for name in ("observations", "actions", "rewards", "episode_starts")}
        assert isinstance(self._reward, RolloutReward)
        record = {**before, "finals": dict(self._reward._finals), "last_obs": self.model._last_obs.copy()}  # type: ignore
        super()._on_rollout_end()
        record |= {"bonus": buffer.rewards - before["rewards"], "advantages": buffer.advantages.copy()}
        record |= {"values": buffer.values.copy(), "returns": buffer.returns.copy(), "total": buffer.rewards.copy()}
        self.rollouts.append(record)


def train(
    n_steps: int,
    n_rollouts: int,
    n_envs: int = 1,
    space: spaces.Space = VECTOR,
    recorder_class: type[Recorder] = Recorder,
    **kwargs: Any,
) -> tuple[PPO, Recorder]:
    env = make_vec_env(RandomEnv, n_envs, seed=0, env_kwargs={"observation_space": space})
    settings = {"n_epochs": 1, "batch_size": n_steps * n_envs, "gamma": GAMMA, "gae_lambda": LAMBDA, "learning_rate": 0.0}
    model = PPO("MlpPolicy", env, n_steps=n_steps, seed=0, device="cpu", policy_kwargs={"net_arch": [8]}, **settings)
    recorder = recorder_class(**kwargs)
    model.learn(n_steps * n_envs * n_rollouts, callback=recorder)
    return model, recorder


def test_advantages_of_a_rollout_with_a_reset_are_those_of_the_rewards_with_the_bonus() -> None:
    # episodes of seven steps: the third rollout of three steps has a reset inside
    model, recorder = train(n_steps=3, n_rollouts=3, intrinsic_reward_scale=1.0)
    rollout = recorder.rollouts[2]
    starts = rollout["episode_starts"][:, 0]
    assert starts.tolist() == [0.0, 1.0, 0.0]
    assert np.abs(rollout["bonus"]).max() > 0.0
    with th.no_grad():
        last_value = model.policy.predict_values(th.as_tensor(rollout["last_obs"]))[0, 0].item()
    values, rewards = [*rollout["values"][:, 0], last_value], rollout["total"][:, 0]
    # generalised advantage estimation by hand: the first transition ends an episode
    third = rewards[2] + GAMMA * values[3] - values[2]
    second = rewards[1] + GAMMA * values[2] - values[1] + GAMMA * LAMBDA * third
    first = rewards[0] - values[0]
    assert rollout["advantages"][:, 0] == pytest.approx([first, second, third], abs=1e-6)
    assert rollout["returns"][:, 0] == pytest.approx(rollout["advantages"][:, 0] + values[:3], abs=1e-6)


def test_the_bonus_comes_on_top_of_the_bootstrap_of_a_time_out() -> None:
    # every second episode of seven steps ends by a time-out
    model, recorder = train(n_steps=14, n_rollouts=1, intrinsic_reward_scale=1.0)
    (rollout,) = recorder.rollouts
    ((_, _), (row, env)) = rollout["finals"]
    assert (row, env) == (13, 0)
    final = th.as_tensor(rollout["finals"][13, 0]).unsqueeze(0)
    with th.no_grad():
        bootstrap = GAMMA * model.policy.predict_values(final)[0, 0].item()
    reward = float(rollout["actions"][13, 0, 0] == 0)
    assert rollout["rewards"][13, 0] == pytest.approx(reward + bootstrap, abs=1e-6)
    assert rollout["total"][13, 0] == pytest.approx(reward + bootstrap + rollout["bonus"][13, 0], abs=1e-6)


@pytest.mark.parametrize("chunk_length", [1, 3, 5])
def test_errors_along_rollouts_are_those_of_one_long_unroll(chunk_length: int) -> None:
    # flags are not standardised, an untrained world model stays the same, and statistics are those of the last rollout
    kwargs = {"intrinsic_reward_momentum": 0.0, "intrinsic_reward_scale": 1.0, "intrinsic_reward_clip": None}
    _, recorder = train(5, 4, 2, spaces.MultiBinary(4), n_passes=0, chunk_length=chunk_length, **kwargs)
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
    last = errors[15:]
    expected = (last - last.mean()) / last.std()
    assert rollouts[-1]["bonus"] == pytest.approx(expected.numpy(), abs=1e-4)


def test_a_final_observation_that_is_not_known_gives_no_reward() -> None:
    class NoFinals(Recorder):
        def _on_step(self) -> bool:
            for info in self.locals["infos"]:
                info.pop("terminal_observation", None)
            return super()._on_step()

    _, recorder = train(14, 1, 1, intrinsic_reward_scale=1.0, recorder_class=NoFinals)
    (rollout,) = recorder.rollouts
    assert rollout["bonus"][[6, 13], 0].tolist() == [0.0, 0.0]
    assert (rollout["bonus"][:6, 0] != 0.0).all()

"""Switches of the world model and its reward: without them the agent is a plain recurrent DQN, and nothing else changes."""

import csv
from copy import deepcopy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch as th
from helpers import NETWORKS, SHORT, changed, make_random_envs, weights
from stable_baselines3.common.logger import configure

from sb3_lwm import LWMDQN
from sb3_lwm.common.type_aliases import SequenceSamples

WITHOUT: dict[str, dict[str, Any]] = {
    "switch": {"use_world_model": False},
    "policy_kwargs": {"policy_kwargs": {**NETWORKS, "world_model_kwargs": None}},
}


def learn_and_record(monkeypatch: pytest.MonkeyPatch, **kwargs: Any) -> tuple[LWMDQN, list[tuple[SequenceSamples, th.Tensor]]]:
    """Return a trained agent, and the batches of its TD errors with the environment's rewards."""
    model = LWMDQN("MlpPolicy", make_random_envs(n_envs=2), seed=0, **{**SHORT, **kwargs})
    batches: list[tuple[SequenceSamples, th.Tensor]] = []
    td_errors = LWMDQN._td_errors

    def spy(self: LWMDQN, samples: SequenceSamples) -> th.Tensor:
        buffer = self.replay_buffer
        assert buffer is not None
        # an id of a uniformly drawn window is the place of its first row
        first_rows, envs = np.divmod(samples.sequence_ids, self.n_envs)
        rows = (first_rows + np.arange(len(samples.rewards))[:, None]) % buffer.buffer_size
        batches.append((samples, th.as_tensor(buffer.rewards[rows, envs])))
        return td_errors(self, samples)

    monkeypatch.setattr(LWMDQN, "_td_errors", spy)
    model.learn(150)
    assert len(batches) == model._n_updates > 5
    return model, batches


@pytest.mark.parametrize("way", WITHOUT)
def test_without_world_model(way: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    given = deepcopy(WITHOUT[way])
    model, batches = learn_and_record(monkeypatch, **WITHOUT[way])
    assert WITHOUT[way] == given
    assert model.policy.world_model is None
    assert not any("world_model" in name for name in model.policy.state_dict())
    assert set(model.get_parameters()) == {"policy", "policy.optimizer"}
    for samples, environment_rewards in batches:
        assert th.equal(samples.rewards, environment_rewards)
        assert not samples.intrinsic_rewards.any()

    model.set_logger(configure(str(tmp_path), ["csv"]))
    model.learn(150)
    model.logger.close()
    with open(tmp_path / "progress.csv", encoding="utf-8") as file:
        names = set(next(csv.reader(file)))
    assert "train/loss" in names and not any(name.startswith("world_model/") for name in names)
    # load() knows the switch before it builds the networks
    model.save(tmp_path / "model")
    assert LWMDQN.load(tmp_path / "model").policy.world_model is None


@pytest.mark.parametrize("scale", [0.0, 0.5])
def test_scale_of_the_intrinsic_reward(scale: float, monkeypatch: pytest.MonkeyPatch) -> None:
    model, batches = learn_and_record(monkeypatch, intrinsic_reward_scale=scale)
    world_model = model.policy.world_model
    assert world_model is not None and int(world_model.n_updates) == SHORT["pretraining_updates"] + len(batches)
    for samples, environment_rewards in batches:
        bonus = samples.rewards - environment_rewards
        if scale == 0.0:
            assert th.equal(samples.rewards, environment_rewards) and not samples.intrinsic_rewards.any()
        else:
            # the reward of a step includes that of the next observation, which is unknown at the last row
            th.testing.assert_close(bonus[:-1], samples.intrinsic_rewards[1:], atol=1e-6, rtol=1e-5)
            assert not bonus[-1].any()
            assert not samples.intrinsic_rewards[samples.episode_starts].any()
            assert samples.intrinsic_rewards[~samples.episode_starts].abs().min() > 0.0


@pytest.mark.parametrize("is_input", [True, False])
def test_intrinsic_reward_as_an_input(is_input: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    model, batches = learn_and_record(monkeypatch, intrinsic_reward_input=is_input)
    samples, environment_rewards = batches[-1]
    # part of the learned return in any case
    th.testing.assert_close((samples.rewards - environment_rewards)[:-1], samples.intrinsic_rewards[1:], atol=1e-6, rtol=1e-5)
    others = samples._replace(intrinsic_rewards=samples.intrinsic_rewards + 1.0)
    with th.no_grad():
        q_values = [model.q_net.q_values(each, burn_in=0) for each in (samples, others)]
    assert th.equal(*q_values) != is_input


def test_clip_of_the_intrinsic_reward(monkeypatch: pytest.MonkeyPatch) -> None:
    _, batches = learn_and_record(monkeypatch, intrinsic_reward_clip=0.5, intrinsic_reward_scale=2.0)
    largest = [samples.intrinsic_rewards.abs().max().item() for samples, _ in batches]
    assert max(largest) == 1.0


def test_momentum_of_the_intrinsic_reward() -> None:
    model = LWMDQN("MlpPolicy", make_random_envs(), **{**SHORT, "intrinsic_reward_momentum": 0.25})
    assert model.policy.world_model is not None
    normalizer = model.policy.world_model.normalizer
    normalizer.update(th.tensor([1.0, 3.0]))
    normalizer.update(th.tensor([5.0, 7.0]))
    assert normalizer.mean.item() == pytest.approx(0.25 * 2.0 + 0.75 * 6.0)


@pytest.mark.parametrize("optimizer", ["q_net", "world_model"])
def test_learning_rates_are_separate(optimizer: str) -> None:
    # a rate too small to move a number in single precision
    rates = {"learning_rate": 1e-3, "world_model_learning_rate": 1e-3}
    rates["learning_rate" if optimizer == "world_model" else "world_model_learning_rate"] = 1e-30
    model = LWMDQN("MlpPolicy", make_random_envs(), seed=0, **SHORT, **rates)
    assert model.policy.world_model is not None
    q_net, predictor = weights(model.q_net), weights(model.policy.world_model.predictor)
    model.learn(100)
    assert bool(changed(q_net, weights(model.q_net))) == (optimizer == "q_net")
    assert bool(changed(predictor, weights(model.policy.world_model.predictor))) == (optimizer == "world_model")


def test_arguments_of_the_policy_are_not_changed_in_place() -> None:
    # the Zoo shares nested dictionaries between trials
    given = deepcopy(NETWORKS)
    model = LWMDQN("MlpPolicy", make_random_envs(), intrinsic_reward_scale=0.25, **{**SHORT, "policy_kwargs": given})
    model.learn(80)
    assert given == NETWORKS
    assert model.policy.world_model is not None and model.policy.world_model.normalizer.scale == 0.25
    explicit = {**NETWORKS, "world_model_kwargs": {**NETWORKS["world_model_kwargs"], "intrinsic_reward_scale": 3.0}}
    model = LWMDQN("MlpPolicy", make_random_envs(), intrinsic_reward_scale=0.25, **{**SHORT, "policy_kwargs": explicit})
    assert model.policy.world_model is not None and model.policy.world_model.normalizer.scale == 3.0

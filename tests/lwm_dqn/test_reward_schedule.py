"""The intrinsic reward of LWMDQN along a training: its scale, and its normaliser."""

from pathlib import Path
from typing import Any

import pytest
import torch as th
from helpers import SHORT, make_labyrinths
from stable_baselines3.common.utils import LinearSchedule

from sb3_lwm import LWMDQN
from sb3_lwm.world_model import WorldModelTrainer


def factors_of(monkeypatch: pytest.MonkeyPatch, **kwargs: Any) -> tuple[LWMDQN, list[float]]:
    """Return a trained agent, and the factors of its intrinsic rewards at its updates."""
    factors: list[float] = []
    update = WorldModelTrainer.update

    def spy(self: WorldModelTrainer, samples: Any) -> Any:
        relabelled = update(self, samples)
        expected = samples.rewards[:-1] + self.reward_factor * relabelled.intrinsic_rewards[1:]
        assert th.equal(relabelled.rewards[:-1], expected)
        factors.append(self.reward_factor)
        return relabelled

    monkeypatch.setattr(WorldModelTrainer, "update", spy)
    settings = {**SHORT, "pretraining_updates": 0, "seed": 0, **kwargs}
    return LWMDQN("MlpPolicy", make_labyrinths(), **settings).learn(200), factors


def test_a_constant_scale_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    model, factors = factors_of(monkeypatch, intrinsic_reward_scale=0.5)
    assert set(factors) == {1.0}
    assert model.policy.world_model is not None and model.policy.world_model.normalizer.scale == 0.5


@pytest.mark.parametrize("scale", ["lin_0.5", LinearSchedule(0.5, 0.0, 1.0)])
def test_a_linear_scale_falls_with_the_progress(scale: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    model, factors = factors_of(monkeypatch, intrinsic_reward_scale=scale)
    # updates begin after 60 of 200 steps; the last one comes before the last rollout has ended
    assert factors[0] == pytest.approx(0.68, abs=0.05) and factors[-1] == pytest.approx(0.0, abs=0.05)
    assert factors == sorted(factors, reverse=True)
    # the input of the Q-network keeps the first scale
    assert model.policy.world_model is not None and model.policy.world_model.normalizer.scale == 0.5


def test_a_linear_scale_may_fall_in_a_part_of_the_training(monkeypatch: pytest.MonkeyPatch) -> None:
    _, factors = factors_of(monkeypatch, intrinsic_reward_scale="lin_0.5", intrinsic_reward_fraction=0.5)
    assert factors[0] > 0.2 and factors[-1] == 0.0


def test_a_schedule_may_rise_from_zero(monkeypatch: pytest.MonkeyPatch) -> None:
    model, factors = factors_of(monkeypatch, intrinsic_reward_scale=LinearSchedule(0.0, 2.0, 1.0))
    assert factors[-1] == pytest.approx(2.0, abs=0.1)
    assert model.policy.world_model is not None and model.policy.world_model.normalizer.scale == 1.0


def test_the_long_run_normaliser_is_an_argument(tmp_path: Path) -> None:
    model = LWMDQN("MlpPolicy", make_labyrinths(), intrinsic_reward_normalizer="long-run", **SHORT).learn(100)
    assert model.policy.world_model is not None and model.policy.world_model.normalizer.n_batches > 0
    model.save(tmp_path / "model")
    loaded = LWMDQN.load(tmp_path / "model")
    assert loaded.policy.world_model is not None
    assert loaded.policy.world_model.normalizer.n_batches == model.policy.world_model.normalizer.n_batches


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"intrinsic_reward_scale": -1.0}, "intrinsic_reward_scale=-1.0"),
        ({"intrinsic_reward_scale": "log_1"}, "intrinsic_reward_scale='log_1'"),
        ({"intrinsic_reward_normalizer": "none"}, "intrinsic_reward_normalizer='none'"),
        ({"intrinsic_reward_fraction": 0.0}, "intrinsic_reward_fraction=0.0"),
    ],
)
def test_values_that_cannot_work_are_refused(kwargs: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        LWMDQN("MlpPolicy", make_labyrinths(), **{**SHORT, **kwargs})

"""The training of the world model in an agent: when it is pretrained, and how its image encoder is trained and saved."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch as th
from gymnasium import spaces
from helpers import NETWORKS, SHORT, VECTOR, changed, make_random_envs, weights
from stable_baselines3.common.callbacks import CallbackList, StopTrainingOnMaxEpisodes

from sb3_lwm import LWMDQN, LatentWorldModelCallback, SequenceReplayBuffer
from sb3_lwm.common.type_aliases import SequenceSamples
from sb3_lwm.world_model import LatentWorldModel, WorldModelTrainer
from sb3_lwm.world_model.normalizer import IntrinsicRewardNormalizer

IMAGE = spaces.Box(0, 255, (1, 36, 36), np.uint8)
SMALL: dict[str, dict[str, int]] = {
    "w-mse": {"batch_size": 8},
    "inverse-dynamics": {"batch_size": 4},
    "cpc": {"batch_size": 4, "sequence_length": 5},
    "random": {},
}


def make_model(objective: str = "w-mse", space: spaces.Space = IMAGE, **kwargs: Any) -> LWMDQN:
    """Make an agent with small networks, 3 updates of the encoder before and one after each of the later rollouts."""
    objective_kwargs = kwargs.pop("objective_kwargs", SMALL[objective])
    world_model_kwargs = {
        **NETWORKS["world_model_kwargs"],
        "image_latent_size": 4,
        "encoder_objective_kwargs": objective_kwargs,
    }
    policy_kwargs = {**NETWORKS, "world_model_kwargs": world_model_kwargs}
    policy = "MultiInputPolicy" if isinstance(space, spaces.Dict) else "CnnPolicy"
    if isinstance(space, spaces.Box) and len(space.shape) == 1:
        policy = "MlpPolicy"
    settings = {
        **SHORT,
        "policy_kwargs": policy_kwargs,
        "encoder_pretraining_updates": 3,
        "train_freq": 4,
        "seed": 0,
        **kwargs,
    }
    return LWMDQN(policy, make_random_envs(space, n_envs=2), encoder_objective=objective, **settings)


def world_model(model: LWMDQN) -> LatentWorldModel:
    assert model.policy.world_model is not None
    return model.policy.world_model


# --- When ---


def test_own_callback_is_the_first_and_the_only_one() -> None:
    model = LWMDQN("MlpPolicy", make_random_envs(), **SHORT)
    user = StopTrainingOnMaxEpisodes(100)
    for given in (None, user, [user], CallbackList([user]), lambda *_: True, [lambda *_: True]):
        callback = model._init_callback(given)
        assert isinstance(callback, CallbackList)
        assert isinstance(callback.callbacks[0], LatentWorldModelCallback)
        assert [type(other) for other in callback.callbacks].count(LatentWorldModelCallback) == 1
        assert len(callback.callbacks) == (1 if given is None else 2)
    plain = LWMDQN("MlpPolicy", make_random_envs(), use_world_model=False, **SHORT)
    assert plain._init_callback(user) is user


def test_world_model_is_pretrained_exactly_once(monkeypatch: pytest.MonkeyPatch) -> None:
    drawn: list[tuple[int, int]] = []
    sample_windows = SequenceReplayBuffer.sample_windows

    def spy(self: SequenceReplayBuffer, batch_size: int, sequence_length: int, *args: Any, **kwargs: Any) -> Any:
        drawn.append((batch_size, sequence_length))
        return sample_windows(self, batch_size, sequence_length, *args, **kwargs)

    monkeypatch.setattr(SequenceReplayBuffer, "sample_windows", spy)
    model = LWMDQN("MlpPolicy", make_random_envs(), **{**SHORT, "pretraining_batch_size": 5})
    world_model = model.policy.world_model
    assert world_model is not None
    model.learn(60)
    assert drawn == [] and int(world_model.n_updates) == 0
    model.learn(4, reset_num_timesteps=False)
    pretraining, update = (5, SHORT["pretraining_sequence_length"]), (4, model.sequence_length)
    # only the pretraining draws windows of its size, before the first update of the agent; the fourth sets the averages
    assert drawn == [pretraining] * 4 + [update]
    model.learn(100, reset_num_timesteps=False)
    model.learn(100)
    assert drawn.count(pretraining) == 4
    assert int(world_model.n_updates) == 3 + model._n_updates == len(drawn) - 1


# --- The encoder of images ---


@pytest.mark.parametrize("objective", ["w-mse", "inverse-dynamics", "cpc"])
def test_every_objective_trains_the_encoder_and_its_own_layers(objective: str) -> None:
    model = make_model(objective)
    encoder, objectives = world_model(model).encoder, world_model(model).objectives
    before, layers = weights(encoder), weights(objectives)
    model.learn(56)
    assert changed(before, weights(encoder)) == set() and int(world_model(model).n_encoder_updates) == 0
    model.learn(16, reset_num_timesteps=False)
    # pretraining at the first rollout after the warm-up, one update after the next
    assert int(world_model(model).n_encoder_updates) == 3 + 1
    names = changed(before, weights(encoder))
    assert {name for name in before if name.endswith("weight")} <= names
    assert changed(layers, weights(objectives)) == set(layers)


def test_random_encoder_is_not_trained() -> None:
    model = make_model("random")
    before = weights(world_model(model).encoder)
    model.learn(100)
    assert int(world_model(model).n_updates) > 3 and int(world_model(model).n_encoder_updates) == 0
    assert changed(before, weights(world_model(model).encoder)) == set()
    assert model.policy.encoder_optimizer is None
    assert set(model.get_parameters()) == {"policy", "policy.optimizer", "policy.world_model_optimizer"}


def test_predictor_gives_the_encoder_no_gradient() -> None:
    model = make_model()
    model.learn(80)
    assert model.world_model_trainer is not None and model.replay_buffer is not None
    before = weights(world_model(model).encoder)
    model.world_model_trainer.update(model.replay_buffer.sample(4))
    assert changed(before, weights(world_model(model).encoder)) == set()


def test_vectors_have_no_encoder_to_train() -> None:
    model = make_model("w-mse", VECTOR)
    model.learn(80)
    assert int(world_model(model).n_encoder_updates) == 0 and not world_model(model).encoder_objectives()


def test_each_image_of_a_dictionary_is_trained() -> None:
    model = make_model("inverse-dynamics", spaces.Dict({"left": IMAGE, "right": IMAGE, "vector": VECTOR}))
    before = weights(world_model(model).encoder)
    model.learn(80)
    names = changed(before, weights(world_model(model).encoder))
    assert {name.split(".")[1] for name in names if name.endswith("weight")} == {"left", "right"}
    left, right = (world_model(model).objectives[key].classifier[1].weight for key in ("left", "right"))
    assert not th.equal(left, right)


def test_encoder_and_its_optimizer_are_saved(tmp_path: Path) -> None:
    model = make_model("inverse-dynamics").learn(80)
    model.save(tmp_path / "model")
    loaded = LWMDQN.load(tmp_path / "model", env=make_random_envs(IMAGE, n_envs=2))
    assert changed(weights(world_model(model)), weights(world_model(loaded))) == set()
    states = [agent.policy.encoder_optimizer.state_dict()["state"] for agent in (model, loaded)]
    assert len(states[0]) > 0 and states[0].keys() == states[1].keys()
    assert all(th.equal(states[0][key]["exp_avg_sq"], states[1][key]["exp_avg_sq"]) for key in states[0])
    done = int(world_model(loaded).n_encoder_updates)
    # one rollout more: no second pretraining
    loaded.learn(8, reset_num_timesteps=False)
    assert int(world_model(loaded).n_encoder_updates) == done


def test_loss_is_logged_and_shown(capsys: pytest.CaptureFixture[str]) -> None:
    model = make_model(verbose=1, encoder_pretraining_updates=20).learn(80, log_interval=1000)
    assert "encoder_ill_conditioned" in str(model.logger.name_to_value)
    assert np.isfinite(model.logger.name_to_value["world_model/encoder_loss"])
    out = capsys.readouterr().out
    assert "Pretraining the encoder: loss" in out and "in the last 2 of 20" in out and "A replay of 1000 rows needs" in out


def test_unknown_objective() -> None:
    with pytest.raises(ValueError, match=r"encoder_objective='bert'.*w-mse, inverse-dynamics, cpc, random"):
        LWMDQN("MlpPolicy", make_random_envs(), encoder_objective="bert")


def test_same_seed_same_encoder() -> None:
    first, second = (make_model().learn(80) for _ in range(2))
    assert changed(weights(first.policy), weights(second.policy)) == set()
    third = make_model(seed=1).learn(80)
    assert changed(weights(first.policy), weights(third.policy)) != set()


def test_encoder_loss_that_is_not_finite_names_the_step() -> None:
    model = make_model().learn(80)
    with th.no_grad():
        next(world_model(model).encoder.parameters()).fill_(th.nan)
    before = weights(world_model(model).objectives)
    assert model.world_model_trainer is not None and model.replay_buffer is not None
    with pytest.raises(ValueError, match=r"encoder's loss is nan: .*\(Step 80, update \d+\.\)"):
        model.world_model_trainer.update_encoder(model.replay_buffer.sample_windows)
    assert changed(before, weights(world_model(model).objectives)) == set()


def test_averages_restart_after_the_pretraining_only(monkeypatch: pytest.MonkeyPatch) -> None:
    restarts, rewards = [], []
    model = make_model(prioritized_replay=True)
    monkeypatch.setattr(IntrinsicRewardNormalizer, "restart", lambda self: restarts.append(int(world_model(model).n_updates)))
    relabel = WorldModelTrainer.relabel

    def spy(self: WorldModelTrainer, samples: SequenceSamples) -> SequenceSamples:
        relabelled = relabel(self, samples)
        rewards.append(relabelled.intrinsic_rewards.abs().mean().item())
        return relabelled

    monkeypatch.setattr(WorldModelTrainer, "relabel", spy)
    model.learn(100)
    assert restarts == [SHORT["pretraining_updates"]]
    # the priorities of the warm-up's sequences count their intrinsic rewards
    assert len(rewards) > 2 and min(rewards) > 0.1
    model.learn(16, reset_num_timesteps=False)
    assert len(restarts) == 1


def test_interrupted_pretraining_waits_for_a_new_warm_up(tmp_path: Path) -> None:
    model = make_model().learn(56)
    world_model(model).n_encoder_updates += 1
    model.save(tmp_path / "model")
    loaded = LWMDQN.load(tmp_path / "model", env=make_random_envs(IMAGE, n_envs=2))
    loaded.learn(40, reset_num_timesteps=False)
    assert int(world_model(loaded).n_encoder_updates) == 1 and loaded._n_updates > 0
    loaded.learn(24, reset_num_timesteps=False)
    assert int(world_model(loaded).n_encoder_updates) >= 3

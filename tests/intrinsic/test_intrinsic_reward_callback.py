"""The callback that adds the intrinsic reward to other algorithms, used as a user would."""

from copy import deepcopy
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch as th
from gymnasium import spaces
from helpers import NETWORKS, RandomEnv, make_labyrinths, make_random_envs
from sb3_contrib import ARS, QRDQN, TQC, TRPO, MaskablePPO, RecurrentPPO
from stable_baselines3 import A2C, DQN, PPO, SAC, TD3
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.vec_env import VecNormalize

from sb3_lwm import LWMDQN, IntrinsicRewardCallback
from sb3_lwm.intrinsic.off_policy import ReplayReward

SMALL: dict[str, Any] = {"predictor_kwargs": {"input_size": 8, "gru_hidden_size": 12, "head_size": 8}}
POLICY: dict[str, Any] = {"policy_kwargs": {"net_arch": [8]}, "device": "cpu", "seed": 0}
ROLLOUTS: dict[str, Any] = {"n_steps": 20, **POLICY}
PPO_KWARGS: dict[str, Any] = {"batch_size": 20, "n_epochs": 1, **ROLLOUTS}
REPLAY: dict[str, Any] = {"learning_starts": 40, "buffer_size": 500, "batch_size": 8, "train_freq": 8, **POLICY}

VECTOR = spaces.Box(-1.0, 1.0, (3,))
MULTI_DISCRETE, MULTI_BINARY = spaces.MultiDiscrete([2, 3]), spaces.MultiBinary(2)
CONTINUOUS = spaces.Box(np.array([-2.0, 0.0], np.float32), np.array([2.0, 1.0], np.float32))
DICT = spaces.Dict({"sight": VECTOR, "hint": spaces.Discrete(4)})


class MaskedEnv(RandomEnv):
    """Random observations; the first action is never valid."""

    def action_masks(self) -> np.ndarray:
        return np.array([False, True, True])


def envs(
    observation_space: spaces.Space = VECTOR, action_space: spaces.Space | None = None, cls: type[gym.Env] = RandomEnv
) -> Any:
    return make_vec_env(cls, 2, seed=0, env_kwargs={"observation_space": observation_space, "action_space": action_space})


def make(algorithm: Any, policy: str, env: Any, kwargs: dict[str, Any]) -> Any:
    # a copy, since some algorithms write into their policy_kwargs
    return algorithm(policy, env, **deepcopy(kwargs))


def callback(**kwargs: Any) -> IntrinsicRewardCallback:
    return IntrinsicRewardCallback(**{"world_model_kwargs": SMALL, **kwargs})


def weights(model: BaseAlgorithm) -> list[np.ndarray]:
    return [part.detach().numpy().copy() for part in model.policy.state_dict().values()]


ON_POLICY = [
    pytest.param(A2C, "MlpPolicy", None, {**POLICY, "n_steps": 5}, id="A2C"),
    pytest.param(PPO, "MlpPolicy", None, PPO_KWARGS, id="PPO-Discrete"),
    pytest.param(PPO, "MlpPolicy", CONTINUOUS, PPO_KWARGS, id="PPO-Box"),
    pytest.param(PPO, "MlpPolicy", MULTI_DISCRETE, PPO_KWARGS, id="PPO-MultiDiscrete"),
    pytest.param(PPO, "MlpPolicy", MULTI_BINARY, PPO_KWARGS, id="PPO-MultiBinary"),
    pytest.param(TRPO, "MlpPolicy", CONTINUOUS, {**ROLLOUTS, "batch_size": 20}, id="TRPO"),
    pytest.param(RecurrentPPO, "MlpLstmPolicy", None, PPO_KWARGS, id="RecurrentPPO"),
]
OFF_POLICY = [
    pytest.param(DQN, None, REPLAY, id="DQN"),
    pytest.param(QRDQN, None, REPLAY, id="QRDQN"),
    pytest.param(SAC, CONTINUOUS, REPLAY, id="SAC"),
    pytest.param(TD3, CONTINUOUS, REPLAY, id="TD3"),
    pytest.param(TQC, CONTINUOUS, REPLAY, id="TQC"),
]


@pytest.mark.parametrize(("algorithm", "policy", "action_space", "kwargs"), ON_POLICY)
def test_on_policy_algorithms_learn_with_the_intrinsic_reward(
    algorithm: Any, policy: str, action_space: spaces.Space | None, kwargs: dict[str, Any]
) -> None:
    model = make(algorithm, policy, envs(action_space=action_space), kwargs)
    bonus = callback()
    model.learn(2000 if algorithm is A2C else 400, callback=bonus)
    assert bonus.trainer is not None and bonus.trainer.world_model.n_updates > 0
    assert bonus.trainer.world_model.normalizer.initialized


def test_maskable_ppo_learns_with_the_intrinsic_reward() -> None:
    bonus = callback()
    make(MaskablePPO, "MlpPolicy", envs(cls=MaskedEnv), PPO_KWARGS).learn(200, callback=bonus)
    assert bonus.trainer is not None and bonus.trainer.world_model.n_updates > 0


@pytest.mark.parametrize(("algorithm", "action_space", "kwargs"), OFF_POLICY)
def test_off_policy_algorithms_learn_with_the_intrinsic_reward(
    algorithm: Any, action_space: spaces.Space | None, kwargs: dict[str, Any]
) -> None:
    model = make(algorithm, "MlpPolicy", envs(action_space=action_space), kwargs)
    bonus = callback(warm_up=4)
    model.learn(200, callback=bonus)
    assert bonus.trainer is not None and bonus.trainer.world_model.n_updates > 0
    # the replay is what it was, and holds the rewards of the environment
    assert type(model.replay_buffer).__name__ == "ReplayBuffer"
    assert set(np.unique(model.replay_buffer.rewards)) <= {0.0, 1.0}


def test_the_update_interval_leaves_updates_out_and_rewards_every_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    batches: list[th.Tensor] = []
    rewards = ReplayReward.rewards

    def count(*args: Any) -> th.Tensor:
        batches.append(rewards(*args))
        return batches[-1]

    monkeypatch.setattr(ReplayReward, "rewards", count)
    bonus = callback(warm_up=4, update_interval=3, intrinsic_reward_scale=1.0)
    make(DQN, "MlpPolicy", envs(), REPLAY).learn(200, callback=bonus)
    assert bonus.trainer is not None and len(batches) > 6
    assert bonus.trainer.world_model.n_updates == -(-len(batches) // 3)
    assert all(batch.abs().sum() > 0.0 for batch in batches[1:])


@pytest.mark.parametrize("algorithm", [PPO, DQN])
def test_dict_observations(algorithm: Any) -> None:
    model = make(algorithm, "MultiInputPolicy", envs(DICT), (PPO_KWARGS if algorithm is PPO else REPLAY))
    bonus = callback()
    model.learn(100, callback=bonus)
    assert bonus.trainer is not None and bonus.trainer.world_model.latent_size == 7


@pytest.mark.parametrize("algorithm", [PPO, DQN])
@pytest.mark.parametrize("space", [spaces.Discrete(5), spaces.MultiDiscrete([2, 3]), spaces.MultiBinary(4)])
def test_discrete_observations(algorithm: Any, space: spaces.Space) -> None:
    model = make(algorithm, "MlpPolicy", envs(space), (PPO_KWARGS if algorithm is PPO else REPLAY))
    bonus = callback()
    model.learn(100, callback=bonus)
    assert bonus.trainer is not None and bonus.trainer.world_model.latent_size in (4, 5)


@pytest.mark.parametrize("algorithm", [PPO, DQN])
@pytest.mark.parametrize("objective", ["w-mse", "inverse-dynamics", "cpc", "random"])
def test_the_encoder_of_images_is_trained(algorithm: Any, objective: str) -> None:
    kwargs = {**(PPO_KWARGS if algorithm is PPO else REPLAY), "policy_kwargs": {}}
    model = make(algorithm, "CnnPolicy", envs(spaces.Box(0, 255, (36, 36, 1), np.uint8)), kwargs)
    # windows that fit into episodes of seven steps
    objective_kwargs = {"batch_size": 8, "sequence_length": 3}
    bonus = callback(
        encoder_objective=objective,
        encoder_updates=1,
        warm_up=2,
        world_model_kwargs={**SMALL, "encoder_objective_kwargs": objective_kwargs},
    )
    model.learn(80, callback=bonus)
    assert bonus.trainer is not None
    assert (bonus.trainer.world_model.n_encoder_updates > 0) == (objective != "random")


def test_the_model_sees_normalised_observations_of_vec_normalize() -> None:
    env = VecNormalize(envs(spaces.Box(100.0, 200.0, (3,))))
    bonus = callback()
    make(PPO, "MlpPolicy", env, PPO_KWARGS).learn(200, callback=bonus)
    assert bonus.trainer is not None
    mean = bonus.trainer.world_model.encoder.encoders["observation"].standardizer.mean
    assert mean.abs().max() < 5.0


@pytest.mark.parametrize(
    ("algorithm", "policy", "kwargs"),
    [(PPO, "MlpPolicy", PPO_KWARGS), (RecurrentPPO, "MlpLstmPolicy", PPO_KWARGS), (A2C, "MlpPolicy", POLICY)],
)
def test_a_scale_of_zero_leaves_the_training_as_it_is_to_the_last_bit(
    algorithm: Any, policy: str, kwargs: dict[str, Any]
) -> None:
    plain = make(algorithm, policy, envs(), kwargs).learn(200)
    with_callback = make(algorithm, policy, envs(), kwargs).learn(200, callback=callback(intrinsic_reward_scale=0.0))
    assert all(np.array_equal(one, other) for one, other in zip(weights(plain), weights(with_callback), strict=True))


def test_maskable_ppo_with_a_scale_of_zero_is_the_same_to_the_last_bit() -> None:
    plain = make(MaskablePPO, "MlpPolicy", envs(cls=MaskedEnv), PPO_KWARGS).learn(100)
    other = make(MaskablePPO, "MlpPolicy", envs(cls=MaskedEnv), PPO_KWARGS).learn(
        100, callback=callback(intrinsic_reward_scale=0)
    )
    assert all(np.array_equal(one, two) for one, two in zip(weights(plain), weights(other), strict=True))


@pytest.mark.parametrize("algorithm", [DQN, PPO])
def test_same_seed_same_training(algorithm: Any) -> None:
    kwargs = PPO_KWARGS if algorithm is PPO else REPLAY
    first, second = (make(algorithm, "MlpPolicy", envs(), kwargs).learn(200, callback=callback()) for _ in range(2))
    assert all(np.array_equal(one, other) for one, other in zip(weights(first), weights(second), strict=True))


@pytest.mark.parametrize(("algorithm", "kwargs"), [(PPO, PPO_KWARGS), (DQN, REPLAY)])
def test_saved_weights_are_taken_up_again(algorithm: Any, kwargs: dict[str, Any], tmp_path: Path) -> None:
    bonus = callback()
    model = make(algorithm, "MlpPolicy", envs(), kwargs).learn(100, callback=bonus)
    bonus.save(tmp_path / "world_model.pth")
    loaded = callback()
    loaded.load(tmp_path / "world_model.pth")
    assert bonus.trainer is not None
    n_updates = int(bonus.trainer.world_model.n_updates)
    model.learn(100, callback=loaded, reset_num_timesteps=False)
    assert loaded.trainer is not None and loaded.trainer.world_model.n_updates > n_updates


def test_the_value_function_of_the_intrinsic_reward_is_saved_and_loaded(tmp_path: Path) -> None:
    bonus = callback()
    make(PPO, "MlpPolicy", envs(), PPO_KWARGS).learn(40, callback=bonus)
    bonus.save(tmp_path / "world_model.pth")
    loaded, other = callback(), callback()
    loaded.load(tmp_path / "world_model.pth")
    for each in (loaded, other):
        each.init_callback(make(PPO, "MlpPolicy", envs(), PPO_KWARGS))
        each.on_training_start({}, {})
    assert bonus.critic is not None and loaded.critic is not None and other.critic is not None
    values = [critic(th.ones(3)).item() for critic in (bonus.critic, loaded.critic, other.critic)]
    assert values[0] == values[1] != values[2]
    assert len(loaded.critic.optimizer.state_dict()["state"]) > 0


def test_a_file_of_something_else_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "other.pth"
    th.save({"weights": 1}, path)
    with pytest.raises(ValueError, match=r"other\.pth is not a world model"):
        callback().load(path)


def test_a_world_model_of_other_sizes_is_refused(tmp_path: Path) -> None:
    bonus = callback()
    make(PPO, "MlpPolicy", envs(), PPO_KWARGS).learn(40, callback=bonus)
    bonus.save(tmp_path / "world_model.pth")
    other = callback()
    other.load(tmp_path / "world_model.pth")
    with pytest.raises(ValueError, match="does not fit"):
        make(PPO, "MlpPolicy", envs(spaces.Box(-1.0, 1.0, (5,))), PPO_KWARGS).learn(40, callback=other)


def test_save_before_the_first_training_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="before the first training"):
        callback().save(tmp_path / "world_model.pth")


def test_the_replay_is_pickled_as_the_buffer_that_it_was(tmp_path: Path) -> None:
    class SavesReplay(IntrinsicRewardCallback):
        def _on_rollout_end(self) -> None:
            super()._on_rollout_end()
            with open(tmp_path / "replay.pkl", "wb") as file:
                self.model.save_replay_buffer(file)  # type: ignore[attr-defined]

    model = make(DQN, "MlpPolicy", envs(), REPLAY).learn(100, callback=SavesReplay(world_model_kwargs=SMALL))
    with open(tmp_path / "replay.pkl", "rb") as file:
        model.load_replay_buffer(file)
    assert model.replay_buffer is not None and type(model.replay_buffer).__name__ == "ReplayBuffer"
    assert not hasattr(model.replay_buffer, "intrinsic_reward")


def test_scalars_and_the_return_of_the_environment(capsys: pytest.CaptureFixture[str]) -> None:
    model = make(PPO, "MlpPolicy", envs(), {**PPO_KWARGS, "verbose": 1})
    model.learn(80, callback=callback(intrinsic_reward_scale=100.0))
    output = capsys.readouterr().out
    assert "world_model/" in output and "intrinsic_reward_mean" in output
    assert all(0.0 <= record["r"] <= RandomEnv.EPISODE_LENGTH for record in model.ep_info_buffer or ())


@pytest.mark.parametrize(
    ("value", "progress", "expected"),
    [(0.5, 0.3, 0.5), ("0.5", 0.3, 0.5), ("lin_0.5", 0.5, 0.25), ("lin_0.5", 0.0, 0.0), (lambda left: 2 * left, 0.5, 1.0)],
)
def test_the_scale_is_a_number_a_text_or_a_schedule(value: Any, progress: float, expected: float) -> None:
    bonus = callback(intrinsic_reward_scale=value, intrinsic_reward_fraction=1.0)
    assert bonus.intrinsic_reward_scale(progress) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"intrinsic_reward_scale": -1.0}, "intrinsic_reward_scale=-1.0"),
        ({"intrinsic_reward_scale": "log_2"}, "intrinsic_reward_scale='log_2'"),
        ({"n_passes": -1}, "n_passes=-1"),
        ({"chunk_length": 0}, "chunk_length=0"),
        ({"warm_up": 1.5}, "warm_up=1.5"),
        ({"update_interval": 0}, "update_interval=0"),
        ({"gamma": 1.0}, "gamma=1.0"),
    ],
)
def test_arguments_that_cannot_work_are_refused(kwargs: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        callback(**kwargs)


def test_an_unknown_normaliser_is_refused_when_the_training_starts() -> None:
    with pytest.raises(ValueError, match="intrinsic_reward_normalizer='other'"):
        make(PPO, "MlpPolicy", envs(), PPO_KWARGS).learn(40, callback=callback(intrinsic_reward_normalizer="other"))


def test_a_chunk_longer_than_the_rollout_is_refused() -> None:
    with pytest.raises(ValueError, match="chunk_length=32 is longer than a rollout of n_steps=20"):
        make(PPO, "MlpPolicy", envs(), PPO_KWARGS).learn(40, callback=callback(chunk_length=32))


def test_lwm_dqn_has_a_world_model_of_its_own() -> None:
    model = LWMDQN("MlpPolicy", make_labyrinths(), learning_starts=200, policy_kwargs=NETWORKS, device="cpu")
    with pytest.raises(ValueError, match="LWMDQN has a world model of its own"):
        model.learn(20, callback=callback())


def test_algorithms_without_transitions_are_refused() -> None:
    with pytest.raises(ValueError, match="ARS has neither rollouts nor a replay"):
        ARS("LinearPolicy", make_random_envs(), device="cpu").learn(20, callback=callback())


def test_two_callbacks_are_refused_but_one_after_the_other_is_not() -> None:
    model = make(PPO, "MlpPolicy", envs(), PPO_KWARGS)
    with pytest.raises(ValueError, match="Two IntrinsicRewardCallbacks"):
        model.learn(40, callback=[callback(), callback()])
    model.learn(40, callback=callback())
    model.learn(40, callback=callback())


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [({"n_steps": 3}, "use n_steps=1"), ({"optimize_memory_usage": True}, "use optimize_memory_usage=False")],
)
def test_replays_that_cannot_be_relabelled_are_refused(kwargs: dict[str, Any], message: str) -> None:
    if "optimize_memory_usage" in kwargs:
        kwargs = {**kwargs, "replay_buffer_kwargs": {"handle_timeout_termination": False}}
    with pytest.raises(ValueError, match=message):
        make(DQN, "MlpPolicy", envs(), {**REPLAY, **kwargs}).learn(40, callback=callback())

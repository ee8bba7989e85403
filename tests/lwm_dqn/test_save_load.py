"""Saving and loading of the agent, its optimizers, its counters and its replay."""

import base64
import inspect
import io
import json
import pickle
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch as th
from gymnasium import spaces
from helpers import NETWORKS, SHORT, VECTOR, changed, make_random_envs, weights
from replay_helpers import stored
from stable_baselines3.common.type_aliases import TrainFreq, TrainFrequencyUnit

from sb3_lwm import LWMDQN, MlpPolicy, PrioritizedSequenceReplayBuffer
from sb3_lwm.lwm_dqn.policies import LWMPolicy


def make_trained(n_envs: int = 1, **kwargs: Any) -> LWMDQN:
    return LWMDQN("MlpPolicy", make_random_envs(n_envs=n_envs), **{"seed": 0, **SHORT, **kwargs}).learn(100)


def predictions(model: LWMDQN | LWMPolicy, steps: int = 12) -> list[np.ndarray]:
    """Return the actions and hidden states along a sequence of two environments, in which an episode ends."""
    results, state = [], None
    observations = np.random.default_rng(0).uniform(-1.0, 1.0, (steps, 2, 3)).astype(np.float32)
    for step in range(steps):
        starts = np.array([step == 0, step in (0, 7)])
        actions, state = model.predict(observations[step], state, starts, deterministic=True)
        results += [actions, *state]
    return results


def assert_same_predictions(first: LWMDQN | LWMPolicy, second: LWMDQN | LWMPolicy) -> None:
    for result, other in zip(predictions(first), predictions(second), strict=True):
        np.testing.assert_array_equal(result, other)


def assert_same_state(first: Any, second: Any) -> None:
    """Compare two nested state dicts to the last bit."""
    if isinstance(first, dict):
        assert first.keys() == second.keys()
        for key in first:
            assert_same_state(first[key], second[key])
    elif isinstance(first, list | tuple):
        for item, other in zip(first, second, strict=True):
            assert_same_state(item, other)
    else:
        assert th.equal(first, second) if isinstance(first, th.Tensor) else first == second


# --- The model ---


def test_loaded_agent_equals_the_saved_one(tmp_path: Path) -> None:
    model = make_trained()
    model.save(tmp_path / "model")
    loaded = LWMDQN.load(tmp_path / "model")
    assert_same_predictions(loaded, model)
    # networks, normaliser and both optimizers with their moments
    assert_same_state(loaded.get_parameters(), model.get_parameters())
    assert loaded.policy.optimizer.state and loaded.policy.world_model_optimizer.state
    assert loaded.num_timesteps == model.num_timesteps == 100
    assert loaded._n_updates == model._n_updates == 10
    world_model = loaded.policy.world_model
    assert world_model is not None and int(world_model.n_updates) == 13
    assert bool(world_model.normalizer.initialized) and world_model.normalizer.mean.item() != 0.0


def test_load_without_environment_allocates_no_replay(tmp_path: Path) -> None:
    # at the default image sizes the replay is gigabytes: enjoy and record_video have no use for it
    model = make_trained()
    model.save(tmp_path / "model")
    for loaded in (LWMDQN.load(tmp_path / "model"), LWMDQN.load(tmp_path / "model", env=make_random_envs())):
        assert loaded._replay_buffer is None
        assert_same_predictions(loaded, model)
    with zipfile.ZipFile(tmp_path / "model.zip") as archive:
        assert sum(info.file_size for info in archive.infolist()) < 300_000


def test_get_and_set_parameters() -> None:
    model, other = make_trained(), make_trained(seed=1)
    assert set(model.get_parameters()) == {"policy", "policy.optimizer", "policy.world_model_optimizer"}
    assert any(not np.array_equal(*pair) for pair in zip(predictions(model), predictions(other), strict=True))
    other.set_parameters(model.get_parameters())
    assert_same_predictions(other, model)
    with pytest.raises(ValueError, match="Names of parameters do not match"):
        other.set_parameters({"policy": model.policy.state_dict()})


@pytest.mark.parametrize("world_model_kwargs", [NETWORKS["world_model_kwargs"], None])
@pytest.mark.parametrize("dueling", [True, False])
def test_policy_without_its_agent(world_model_kwargs: Any, dueling: bool, tmp_path: Path) -> None:
    networks = {**NETWORKS, "world_model_kwargs": world_model_kwargs}
    model = make_trained(policy_kwargs=networks, dueling=dueling, evaluation_eps=0.25, intrinsic_reward_scale=0.5)
    model.policy.save(tmp_path / "policy")
    policy = MlpPolicy.load(tmp_path / "policy")
    assert isinstance(policy, LWMPolicy) and policy.evaluation_eps == 0.25 and policy.dueling == dueling
    assert not changed(weights(model.policy), weights(policy))
    assert_same_predictions(policy, model)


# a value for every argument of the constructor that is not its default
ARGUMENTS: dict[str, Any] = {
    "learning_rate": 1e-3,
    "buffer_size": 900,
    "learning_starts": 70,
    "batch_size": 3,
    "tau": 0.5,
    "gamma": 0.9,
    "train_freq": 5,
    "gradient_steps": 2,
    "replay_buffer_class": PrioritizedSequenceReplayBuffer,
    "replay_buffer_kwargs": {"handle_timeout_termination": False},
    "optimize_memory_usage": True,
    "n_steps": 2,
    "target_update_interval": 50,
    "burn_in": 3,
    "unroll": 5,
    "double_q": False,
    "dueling": False,
    "value_rescaling": False,
    "prioritized_replay": True,
    "priority_exponent": 0.5,
    "importance_exponent": 0.4,
    "priority_max_weight": 0.8,
    "exploration_fraction": 0.3,
    "exploration_initial_eps": 0.6,
    "exploration_final_eps": 0.2,
    "exploration_eps_base": 0.5,
    "exploration_eps_alpha": 3.0,
    "evaluation_eps": 0.05,
    "max_grad_norm": None,
    "use_world_model": False,
    "intrinsic_reward_scale": 0.3,
    "intrinsic_reward_input": False,
    "intrinsic_reward_clip": 2.0,
    "intrinsic_reward_normalizer": "long-run",
    "intrinsic_reward_fraction": 0.5,
    "intrinsic_reward_momentum": 0.5,
    "world_model_learning_rate": 2e-3,
    "pretraining_updates": 2,
    "pretraining_batch_size": 5,
    "pretraining_sequence_length": 8,
    "encoder_objective": "cpc",
    "encoder_pretraining_updates": 3,
    "storage_device": "cpu:0",
    "compression": "zstd",
    "step_ahead": True,
    "mixed_precision": True,
    "compile_networks": True,
    "tensorboard_log": "somewhere",
    "policy_kwargs": NETWORKS,
    "verbose": 2,
    "seed": 4,
    "device": th.device("cpu"),
}
# SB3 makes objects of the first two, stores the third under a private name, and the last is not for users
NOT_STORED = {"self", "policy", "env", "stats_window_size", "_init_setup_model"}


def test_every_argument_is_stored_under_its_name(tmp_path: Path) -> None:
    parameters = inspect.signature(LWMDQN.__init__).parameters
    assert set(ARGUMENTS) == set(parameters) - NOT_STORED
    for name, value in ARGUMENTS.items():
        assert parameters[name].default != value, f"{name}: its default shows nothing"
    model = LWMDQN("MlpPolicy", make_random_envs(), **ARGUMENTS)
    model.save(tmp_path / "model")
    expected = {**ARGUMENTS, "train_freq": TrainFreq(5, TrainFrequencyUnit.STEP)}
    for agent in (model, LWMDQN.load(tmp_path / "model", device="cpu")):
        assert {name: getattr(agent, name) for name in ARGUMENTS} == expected


def test_arguments_given_to_load(tmp_path: Path) -> None:
    make_trained().save(tmp_path / "model")
    given = {
        "buffer_size": 333,
        "batch_size": 7,
        "evaluation_eps": 0.4,
        "intrinsic_reward_scale": 0.125,
        "learning_rate": 1e-5,
        "world_model_learning_rate": 1e-6,
    }
    model = LWMDQN.load(tmp_path / "model", env=make_random_envs(n_envs=2), **given)
    assert {name: getattr(model, name) for name in given} == given
    model.learn(100)
    # not only stored: each one is what counts from now on
    assert model.replay_buffer is not None and model.replay_buffer.buffer_size == 333 // 2
    assert model.policy.evaluation_eps == 0.4
    assert model.policy.world_model is not None and model.policy.world_model.normalizer.scale == 0.125
    assert model.policy.optimizer.param_groups[0]["lr"] == 1e-5
    assert model.policy.world_model_optimizer.param_groups[0]["lr"] == 1e-6


# --- Models of sb3-lwm 0.1 ---

IMAGE = spaces.Box(0, 255, (1, 36, 36), np.uint8)
# by the alias of the policy: the name of its class, and a space
POLICIES: dict[str, tuple[str, spaces.Space]] = {
    "MlpPolicy": ("LWMPolicy", VECTOR),
    "CnnPolicy": ("CnnPolicy", IMAGE),
    "MultiInputPolicy": ("MultiInputPolicy", spaces.Dict({"image": IMAGE, "vector": VECTOR})),
}


def pickle_global(module: str, name: str) -> bytes:
    """Return a pickle of a global whose module does not exist any more."""
    names = [pickle.SHORT_BINUNICODE + bytes([len(part)]) + part.encode() for part in (module, name)]
    pickled = pickle.PROTO + bytes([4]) + b"".join(names) + pickle.STACK_GLOBAL + pickle.STOP
    with pytest.raises(ModuleNotFoundError):
        pickle.loads(pickled)
    return pickled


def rewrite_as_version_0_1(path: Path, class_name: str) -> None:
    """Give the class of the policy in a saved model the module that it had in sb3-lwm 0.1."""
    with zipfile.ZipFile(path) as archive:
        files = {name: archive.read(name) for name in archive.namelist()}
    data = json.loads(files["data"])
    assert data["policy_class"]["__module__"] == "sb3_lwm.lwm_dqn.policies"
    data["policy_class"]["__module__"] = "sb3_lwm.policies"
    data["policy_class"][":serialized:"] = base64.b64encode(pickle_global("sb3_lwm.policies", class_name)).decode()
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in {**files, "data": json.dumps(data)}.items():
            archive.writestr(name, content)


@pytest.mark.parametrize("alias", POLICIES)
def test_models_of_version_0_1_load(alias: str, tmp_path: Path) -> None:
    class_name, space = POLICIES[alias]
    model = LWMDQN(alias, make_random_envs(space), seed=0, **SHORT).learn(80)
    path = tmp_path / "model.zip"
    model.save(path)
    rewrite_as_version_0_1(path, class_name)
    observation = space.sample()
    expected, state = model.predict(observation, deterministic=True)
    for loaded in (
        LWMDQN.load(path),
        LWMDQN.load(io.BytesIO(path.read_bytes())),
        LWMDQN.load(path, env=make_random_envs(space), custom_objects={"batch_size": 3}),
    ):
        assert type(loaded.policy) is type(model.policy) is LWMDQN.policy_aliases[alias]
        assert_same_state(loaded.get_parameters(), model.get_parameters())
        actions, loaded_state = loaded.predict(observation, deterministic=True)
        np.testing.assert_array_equal(actions, expected)
        for part, other in zip(loaded_state, state, strict=True):
            np.testing.assert_array_equal(part, other)
    # the last one has an environment: it learns, and is saved as a model of this version
    assert loaded.batch_size == 3 and loaded.learn(40, reset_num_timesteps=False)._n_updates > model._n_updates
    loaded.save(path)
    assert type(LWMDQN.load(path).policy) is type(model.policy)
    # its networks alone
    other = LWMDQN(alias, make_random_envs(space), seed=1, **SHORT)
    model.save(path)
    rewrite_as_version_0_1(path, class_name)
    other.set_parameters(str(path))
    assert_same_state(other.get_parameters(), model.get_parameters())


def test_replay_buffers_of_version_0_1_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "replay.pkl"
    path.write_bytes(pickle_global("sb3_lwm.buffers", "SequenceReplayBuffer"))
    model = LWMDQN("MlpPolicy", make_random_envs(), **SHORT)
    with pytest.raises(ValueError, match=r"replay\.pkl was written by sb3-lwm 0\.1 .*whose replay buffers cannot be loaded"):
        model.load_replay_buffer(path)


# --- Continued trainings ---


@pytest.mark.parametrize("prioritized_replay", [False, True])
def test_loaded_training_continues_with_its_replay(prioritized_replay: bool, tmp_path: Path) -> None:
    model = make_trained(n_envs=2, prioritized_replay=prioritized_replay)
    model.save(tmp_path / "model")
    model.save_replay_buffer(tmp_path / "replay")
    loaded = LWMDQN.load(tmp_path / "model", env=make_random_envs(n_envs=2))
    loaded.load_replay_buffer(tmp_path / "replay", truncate_last_traj=True)
    assert loaded.replay_buffer is not None and model.replay_buffer is not None
    assert type(loaded.replay_buffer) is type(model.replay_buffer)
    for name in ("observations", "actions", "rewards", "episode_starts", "finals", "terminations", "written"):
        np.testing.assert_array_equal(stored(loaded.replay_buffer, name), stored(model.replay_buffer, name))
    if isinstance(model.replay_buffer, PrioritizedSequenceReplayBuffer):
        assert isinstance(loaded.replay_buffer, PrioritizedSequenceReplayBuffer)
        np.testing.assert_array_equal(loaded.replay_buffer.weights, model.replay_buffer.weights)
    n_updates, rows = model._n_updates, int(model.replay_buffer.written[0])

    loaded.learn(40, reset_num_timesteps=False)
    # 104 steps before, five rollouts of 8; no second warm-up and no second pretraining
    assert (model.num_timesteps, loaded.num_timesteps) == (104, 144)
    assert loaded._n_updates == n_updates + 5
    assert loaded.policy.world_model is not None
    assert int(loaded.policy.world_model.n_updates) == SHORT["pretraining_updates"] + loaded._n_updates
    # the environments were reset: what was under way is closed, in the manner of a time-out
    assert loaded.replay_buffer.finals[rows - 1].all() and not loaded.replay_buffer.terminations[rows - 1].any()
    assert loaded.replay_buffer.episode_starts[rows].all()


@pytest.mark.parametrize("prioritized_replay", [False, True])
def test_loaded_training_continues_without_its_replay(prioritized_replay: bool, tmp_path: Path) -> None:
    # CheckpointCallback in the Zoo never saves the replay
    model = make_trained(prioritized_replay=prioritized_replay)
    model.save(tmp_path / "model")
    loaded = LWMDQN.load(tmp_path / "model", env=make_random_envs())
    loaded.learn(40, reset_num_timesteps=False)
    # from shorter windows until there is a whole sequence
    assert loaded._n_updates == model._n_updates + 10
    assert loaded.policy.world_model is not None
    assert int(loaded.policy.world_model.n_updates) == SHORT["pretraining_updates"] + loaded._n_updates


def test_loaded_training_continues_without_a_second_warm_up(tmp_path: Path) -> None:
    # what SB3's users do to fine-tune a loaded agent
    make_trained().save(tmp_path / "model")
    loaded = LWMDQN.load(tmp_path / "model", env=make_random_envs(), learning_starts=0)
    assert loaded.learn(40)._n_updates > 10


def test_loaded_training_continues_with_another_number_of_environments(tmp_path: Path) -> None:
    make_trained().save(tmp_path / "model")
    loaded = LWMDQN.load(tmp_path / "model", env=make_random_envs(n_envs=3))
    assert loaded.learn(120).num_timesteps == 120 and loaded._n_updates == 10 + 5


def test_replay_of_another_number_of_environments_is_refused(tmp_path: Path) -> None:
    make_trained().save_replay_buffer(tmp_path / "replay")
    model = LWMDQN("MlpPolicy", make_random_envs(n_envs=3), **SHORT)
    with pytest.raises(ValueError, match="n_envs is 1, the agent needs 3"):
        model.load_replay_buffer(tmp_path / "replay")


def test_replay_of_sequences_of_another_length(tmp_path: Path) -> None:
    make_trained().save_replay_buffer(tmp_path / "replay")
    longer = LWMDQN("MlpPolicy", make_random_envs(), **{**SHORT, "unroll": 9})
    longer.load_replay_buffer(tmp_path / "replay")
    assert longer.replay_buffer is not None
    assert longer.replay_buffer.sequence_length == longer.sequence_length == len(longer.replay_buffer.sample(1).rewards)
    # the hidden states that the prioritised replay holds are those of the old sequences
    make_trained(prioritized_replay=True).save_replay_buffer(tmp_path / "prioritized")
    longer = LWMDQN("MlpPolicy", make_random_envs(), **{**SHORT, "unroll": 9}, prioritized_replay=True)
    with pytest.raises(ValueError, match="its stride is 6, the agent needs 9"):
        longer.load_replay_buffer(tmp_path / "prioritized")

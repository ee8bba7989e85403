"""The hyperparameters that ship: which block an environment gets, and that every block constructs an agent."""

import inspect
from pathlib import Path
from typing import Any

import pytest
import rl_zoo3.import_envs  # noqa: F401  registers CartPoleNoVel-v1 and MiniGrid's environments
import yaml
from rl_zoo3.exp_manager import ExperimentManager
from rl_zoo3.utils import ALGOS, get_callback_list, get_wrapper_class
from stable_baselines3.common.env_util import make_vec_env

import sb3_lwm
from sb3_lwm.zoo import find_hyperparameters, hyperparameters

LABYRINTHS = ["POL-3x3-v0", "POL-4x4-v0", "POL-5x5-v0", "POL-6x6-v0", "POL-v0"]
# Keys of a block that the Zoo takes for itself; all others go to the constructor.
ZOO_KEYS = {
    *("n_envs", "n_timesteps", "env_wrapper", "vec_env_wrapper", "frame_stack"),
    *("normalize", "env_kwargs", "monitor_kwargs", "callback"),
}
# the settings that ship for other algorithms
OTHERS = {"minigrid-ppo": "ppo", "minigrid-ppo_lstm": "ppo_lstm", "classic_control-sac": "sac"}


def read_blocks() -> list[tuple[str, dict[str, Any]]]:
    # those of other algorithms have their name behind a hyphen
    others = tuple(f"-{algo}" for algo in OTHERS.values())
    files = [file for file in hyperparameters.hyperparameter_files() if not file.stem.endswith(others)]
    return [block for file in files for block in yaml.safe_load(file.read_text(encoding="utf-8")).items()]


@pytest.mark.parametrize("env_id", LABYRINTHS)
def test_every_labyrinth_has_a_block(env_id: str) -> None:
    file = find_hyperparameters(env_id, is_atari=False)
    assert env_id in yaml.safe_load(file.read_text(encoding="utf-8"))


def test_hyperparameter_lookup(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files = [tmp_path / "a.yml", tmp_path / "b.yml"]
    files[0].write_text("default: {gamma: 0.9}\n")
    files[1].write_text("POL-3x3-v0: {gamma: 0.9}\natari: {gamma: 0.9}\n")
    monkeypatch.setattr(hyperparameters, "hyperparameter_files", lambda: files)
    assert find_hyperparameters("POL-3x3-v0", is_atari=False) == files[1]
    assert find_hyperparameters("CartPole-v1", is_atari=False) == files[0]
    assert find_hyperparameters("ALE/Pong-v5", is_atari=True) == files[1]
    files.pop()
    with pytest.raises(ValueError, match=r"ALE/Pong-v5.*'atari' is in a\.yml.*--conf-file"):
        find_hyperparameters("ALE/Pong-v5", is_atari=True)


def test_default_block_serves_unknown_environments() -> None:
    file = find_hyperparameters("Acrobot-v1", is_atari=False)
    assert "default" in yaml.safe_load(file.read_text(encoding="utf-8"))


def test_missing_files_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hyperparameters, "_PACKAGE", tmp_path / "sb3_lwm")
    with pytest.raises(FileNotFoundError, match=r"hyperparams/\*\.yml.*--conf-file"):
        hyperparameters.hyperparameter_files()


def test_no_key_is_in_two_files() -> None:
    # files with a hyphen in their names are read only when they are asked for
    files = [file for file in hyperparameters.hyperparameter_files() if "-" not in file.stem]
    keys = [key for file in files for key in yaml.safe_load(file.read_text(encoding="utf-8"))]
    assert len(files) == 4 and len(keys) == len(set(keys))


@pytest.mark.parametrize(("key", "block"), read_blocks(), ids=lambda value: value if isinstance(value, str) else "block")
def test_block_constructs_a_model(key: str, block: dict[str, Any]) -> None:
    if key.startswith("MiniGrid"):
        pytest.importorskip("minigrid")
    # schedules such as lin_0.001
    preprocessed = ExperimentManager._preprocess_schedules(dict(block))
    arguments = {name: value for name, value in preprocessed.items() if name not in ZOO_KEYS}
    assert set(arguments) <= set(inspect.signature(sb3_lwm.LWMDQN).parameters)
    # YAML reads 1e-4 as a string: it must be written !!float 1e-4.
    assert [name for name, value in arguments.items() if isinstance(value, str) and name != "encoder_objective"] == ["policy"]
    assert block["n_timesteps"] > block["learning_starts"]
    env_id = {"default": "CartPole-v1", "atari": "ALE/MontezumaRevenge-v5"}.get(key, key)
    env = make_vec_env(env_id, n_envs=min(block["n_envs"], 2), wrapper_class=get_wrapper_class(block))
    if wrap := get_wrapper_class(block, "vec_env_wrapper"):
        env = wrap(env)
    model = sb3_lwm.LWMDQN(env=env, **arguments)
    assert model.burn_in == block["burn_in"]
    env.close()


def test_other_settings_are_selected_by_name() -> None:
    path = hyperparameters.resolve_variant("atari-small")
    assert Path(path).name == "atari-small.yml" and Path(path).exists()
    for config in ("my.yml", "my_module.hyperparams", "folder/my-own.yml"):
        assert hyperparameters.resolve_variant(config) == config
    with pytest.raises(
        ValueError,
        match=r"--conf-file atari-tiny: .*choose one of .*atari-small, classic_control-sac, labyrinth-paper, minigrid-ppo, ",
    ):
        hyperparameters.resolve_variant("atari-tiny")
    # never found by themselves
    assert find_hyperparameters("ALE/Pong-v5", is_atari=True).name == "atari.yml"


@pytest.mark.parametrize(("name", "algo"), OTHERS.items())
def test_blocks_of_other_algorithms_construct_a_model(name: str, algo: str) -> None:
    pytest.importorskip("minigrid")
    blocks = yaml.safe_load(Path(hyperparameters.resolve_variant(name)).read_text(encoding="utf-8"))
    env_id = "MountainCarContinuous-v0" if algo == "sac" else "MiniGrid-DoorKey-5x5-v0"
    for block in blocks.values():
        arguments = {name: value for name, value in block.items() if name not in ZOO_KEYS}
        env = make_vec_env(env_id, n_envs=2, wrapper_class=get_wrapper_class(block))
        model = ALGOS[algo](env=env, **arguments, device="cpu")
        (bonus,) = get_callback_list(block)
        assert isinstance(bonus, sb3_lwm.IntrinsicRewardCallback)
        scales = [bonus.intrinsic_reward_scale(left) for left in (1.0, 0.75, 0.25)]
        assert scales[0] > scales[1] > scales[2] == 0.0
        model.env.close()

"""The Zoo knows the algorithm: registration, hyperparameters, and what the wheel holds."""

import argparse
import importlib.util
import inspect
import re
import runpy
import sys
import zipfile
from pathlib import Path
from types import ModuleType
from typing import Any

import gymnasium as gym
import pytest
import rl_zoo3.import_envs  # noqa: F401  registers CartPoleNoVel-v1 and MiniGrid's environments
import yaml
from rl_zoo3.exp_manager import ExperimentManager
from rl_zoo3.utils import ALGOS, get_wrapper_class
from stable_baselines3.common.env_util import make_vec_env
from zoo_commands import REPOSITORY, Installation

import sb3_lwm
from sb3_lwm.zoo import find_hyperparameters, hyperparameters, register
from sb3_lwm.zoo.__main__ import SCRIPTS, main
from sb3_lwm.zoo.registration import _PatchedOnFirstUse

LABYRINTHS = ["POL-3x3-v0", "POL-4x4-v0", "POL-5x5-v0", "POL-6x6-v0", "POL-v0"]
# Keys of a block that the Zoo takes for itself; all others go to the constructor.
ZOO_KEYS = {
    *("n_envs", "n_timesteps", "env_wrapper", "vec_env_wrapper", "frame_stack"),
    *("normalize", "env_kwargs", "monitor_kwargs", "callback"),
}


# Methods of the Zoo's ExperimentManager
PATCHED = [
    *("__init__", "create_log_folder", "setup_experiment", "_preprocess_hyperparams"),
    *("objective", "read_hyperparameters", "create_callbacks", "_load_pretrained_agent"),
]


def read_blocks() -> list[tuple[str, dict[str, Any]]]:
    files = hyperparameters.hyperparameter_files()
    return [block for file in files for block in yaml.safe_load(file.read_text(encoding="utf-8")).items()]


# --- Registration ---


def test_register_is_idempotent() -> None:
    register()
    patched = ExperimentManager.__init__
    register()
    assert ALGOS["lwm_dqn"] is sb3_lwm.LWMDQN
    assert ExperimentManager.__init__ is patched
    assert set(LABYRINTHS) <= set(gym.registry)


@pytest.mark.parametrize(
    ("algo", "config", "expected"),
    [
        ("lwm_dqn", None, str(hyperparameters.hyperparameter_files()[0].parent / "labyrinth.yml")),
        ("lwm_dqn", "mine.yml", "mine.yml"),
        ("ppo", None, str(Path(inspect.getfile(ExperimentManager)).parent / "hyperparams/ppo.yml")),
    ],
)
def test_default_hyperparameter_file(tmp_path: Path, algo: str, config: str | None, expected: str) -> None:
    register()
    manager = ExperimentManager(argparse.Namespace(), algo, "POL-3x3-v0", str(tmp_path), config=config)
    assert manager.config == expected


def test_patch_waits_for_a_module_that_is_being_imported() -> None:
    module = ModuleType("rl_zoo3.exp_manager")
    module.__class__ = _PatchedOnFirstUse
    assert not hasattr(module, "ExperimentManager")
    module.__dict__["ExperimentManager"] = type("ExperimentManager", (), dict.fromkeys(PATCHED, lambda self: None))
    assert module.ExperimentManager.knows_lwm_dqn
    assert type(module) is ModuleType


def test_a_zoo_that_renames_a_method_still_serves_others() -> None:
    methods = dict.fromkeys(set(PATCHED) - {"create_log_folder"}, lambda self: None)
    renamed = type("ExperimentManager", (), methods)
    module = ModuleType("rl_zoo3.exp_manager")
    module.__class__ = _PatchedOnFirstUse
    module.__dict__["ExperimentManager"] = renamed
    with pytest.warns(UserWarning, match=r"no attribute 'create_log_folder'. Other algorithms are not concerned; lwm_dqn may"):
        assert module.ExperimentManager is renamed
    assert not hasattr(renamed, "create_log_folder")
    # what is still there is changed as ever
    assert all(getattr(renamed, name) is not method for name, method in methods.items())


def test_custom_envs_warns_if_the_package_cannot_be_imported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "sb3_lwm.zoo", None)  # the import system then raises ImportError
    with pytest.warns(UserWarning, match=r"will not know the algorithm 'lwm_dqn'.*pip install"):
        runpy.run_path(str(REPOSITORY / "custom_envs.py"))


@pytest.mark.parametrize(("arguments", "code"), [(["--help"], 0), (["no_such_script"], 2), ([], 2)])
def test_entry_names_the_scripts(
    arguments: list[str], code: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["zoo", *arguments])
    with pytest.raises(SystemExit) as exit_info:
        main()
    assert exit_info.value.code == code
    output = "".join(capsys.readouterr())
    assert "python -m sb3_lwm.zoo" in output
    assert not arguments or ("record_video" in output and "plot_train" in output)
    own = "sb3-lwm (embeddings, evaluate, play, record, seeds, resume, sweep, sweep_report, watch)"
    assert "--help" not in arguments or own in " ".join(output.split())


def test_readme_lists_every_script() -> None:
    readme = (REPOSITORY / "README.md").read_text(encoding="utf-8")
    rows = [line.split("|") for line in readme.splitlines() if re.match(r"\|.*\|.*`.*\|", line)]
    listed = {name for row in rows if len(row) == 5 for name in re.findall(r"`(\w+)`", row[2])}
    assert listed >= SCRIPTS.keys()


@pytest.mark.parametrize("script", SCRIPTS)
def test_entry_runs_the_script_with_its_own_arguments(script: str, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[tuple[str, list[str]]] = []
    monkeypatch.setattr(runpy, "run_module", lambda module, **_: calls.append((module, sys.argv[1:])))
    monkeypatch.setattr(sys, "argv", ["zoo", script, "--help"])
    # what they change is tested in test_zoo_workarounds
    monkeypatch.setitem(SCRIPTS, script, SCRIPTS[script]._replace(workarounds=()))
    main()
    assert calls == [(SCRIPTS[script].module, ["--help"])]
    assert importlib.util.find_spec(SCRIPTS[script].module) is not None


# --- Hyperparameters ---


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


# --- The wheel, in a directory that has nothing to do with the repository ---


def test_wheel_is_complete(installation: Installation) -> None:
    names = set(zipfile.ZipFile(installation.wheel).namelist())
    modules = {str(path.relative_to(REPOSITORY)) for path in (REPOSITORY / "sb3_lwm").rglob("*.py")}
    settings = {f"sb3_lwm/hyperparams/{path.name}" for path in (REPOSITORY / "hyperparams").glob("*.yml")}
    assert modules | settings | {"custom_envs.py", "sb3_lwm/py.typed"} <= names
    assert not [name for name in names if name.startswith(("tests", "benchmarks"))]


def test_import_of_the_package_leaves_the_zoo_alone(installation: Installation, tmp_path: Path) -> None:
    code = "import sys, sb3_lwm; print(sb3_lwm.__version__, sb3_lwm.__file__, 'rl_zoo3' in sys.modules)"
    version, file, zoo = installation.run(tmp_path, "-c", code).split()
    assert (version, zoo) == (sb3_lwm.__version__, "False")
    assert Path(file).is_relative_to(installation.site)


def test_custom_envs_of_the_user(installation: Installation, tmp_path: Path) -> None:
    (tmp_path / "custom_envs.py").write_text("import sb3_lwm.zoo; sb3_lwm.zoo.register()\n")
    # record_video begins like this: register() runs when the class does not exist yet.
    code = (
        "from rl_zoo3.exp_manager import ExperimentManager; from rl_zoo3.utils import ALGOS;"
        "print(ExperimentManager(None, 'lwm_dqn', 'POL-3x3-v0', 'logs').config, 'lwm_dqn' in ALGOS)"
    )
    config, known = installation.run(tmp_path, "-c", code).split()[-2:]
    assert (Path(config).name, known) == ("labyrinth.yml", "True")


def test_other_settings_are_selected_by_name() -> None:
    path = hyperparameters.resolve_variant("atari-small")
    assert Path(path).name == "atari-small.yml" and Path(path).exists()
    for config in ("my.yml", "my_module.hyperparams", "folder/my-own.yml"):
        assert hyperparameters.resolve_variant(config) == config
    with pytest.raises(ValueError, match=r"--conf-file atari-tiny: .*choose one of atari-small, labyrinth-paper or a file"):
        hyperparameters.resolve_variant("atari-tiny")
    # never found by themselves
    assert find_hyperparameters("ALE/Pong-v5", is_atari=True).name == "atari.yml"

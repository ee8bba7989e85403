"""The Zoo knows the algorithm, and makes a manager of ours for it alone."""

import copy
import inspect
import runpy
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import gymnasium as gym
import pytest
from rl_zoo3.exp_manager import ExperimentManager
from rl_zoo3.utils import ALGOS
from zoo_commands import REPOSITORY, Installation

import sb3_lwm
from sb3_lwm.zoo import register
from sb3_lwm.zoo.experiment import IntrinsicRewardManager, LWMExperimentManager
from sb3_lwm.zoo.registration import _HookedOnFirstUse

register()


def make(*arguments: Any, **kwargs: Any) -> ExperimentManager:
    return ExperimentManager(None, *arguments, **{"env_id": "POL-3x3-v0", "log_folder": "nowhere", **kwargs})


def test_the_zoo_knows_algorithm_and_environments() -> None:
    assert ALGOS["lwm_dqn"] is sb3_lwm.LWMDQN
    assert {"POL-3x3-v0", "POL-4x4-v0", "POL-5x5-v0", "POL-6x6-v0", "POL-v0"} <= set(gym.registry)


def test_lwm_dqn_and_other_algorithms_get_their_subclasses() -> None:
    for _ in range(2):
        assert type(make("lwm_dqn")) is type(make(algo="lwm_dqn")) is LWMExperimentManager
        assert type(make("ppo")) is type(make(algo="ppo")) is IntrinsicRewardManager
        # may be called again
        register()


def test_a_copy_and_a_subclass_keep_their_class() -> None:
    assert type(copy.copy(make("lwm_dqn"))) is LWMExperimentManager
    assert type(copy.copy(make("ppo"))) is IntrinsicRewardManager
    own = type("Own", (ExperimentManager,), {})
    assert type(own(None, "lwm_dqn", "POL-3x3-v0", "nowhere", config="mine.yml")) is own


def test_the_hook_waits_for_a_module_that_is_being_imported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(ExperimentManager, "__new__")
    module = ModuleType("rl_zoo3.exp_manager")
    monkeypatch.setitem(sys.modules, "rl_zoo3.exp_manager", module)
    # twice, as a custom_envs and the entry do
    register(), register()
    assert type(module) is _HookedOnFirstUse and not hasattr(module, "ExperimentManager")
    module.__dict__["ExperimentManager"] = ExperimentManager
    assert "__new__" not in vars(ExperimentManager)
    assert type(module.ExperimentManager(None, "lwm_dqn", "POL-3x3-v0", "nowhere")) is LWMExperimentManager
    assert type(module) is ModuleType


def test_a_zoo_that_renames_a_method_still_serves_others(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(ExperimentManager, "create_callbacks")
    with pytest.warns(UserWarning, match=r"has no create_callbacks\. Other algorithms are not concerned; lwm_dqn may"):
        make("lwm_dqn")
    # any warning would be an error
    make("ppo")


def test_every_override_has_a_method_to_override() -> None:
    overridden = {name for name, member in vars(LWMExperimentManager).items() if inspect.isfunction(member)}
    assert len(overridden) == 9 and overridden <= vars(ExperimentManager).keys()


def test_custom_envs_warns_if_the_package_cannot_be_imported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "sb3_lwm.zoo", None)  # the import system then raises ImportError
    with pytest.warns(UserWarning, match=r"will not know the algorithm 'lwm_dqn'.*pip install"):
        runpy.run_path(str(REPOSITORY / "custom_envs.py"))


def test_custom_envs_of_the_user(installation: Installation, tmp_path: Path) -> None:
    (tmp_path / "custom_envs.py").write_text("import sb3_lwm.zoo; sb3_lwm.zoo.register()\n")
    # record_video begins like this: register() runs when the class does not exist yet.
    code = (
        "from rl_zoo3.exp_manager import ExperimentManager; from rl_zoo3.utils import ALGOS;"
        "print(ExperimentManager(None, 'lwm_dqn', 'POL-3x3-v0', 'logs').config, 'lwm_dqn' in ALGOS)"
    )
    config, known = installation.run(tmp_path, "-c", code).split()[-2:]
    assert (Path(config).name, known) == ("labyrinth.yml", "True")

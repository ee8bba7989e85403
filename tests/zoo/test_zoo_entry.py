"""``python -m sb3_lwm.zoo``: its scripts, and the wheel that it comes with."""

import importlib.util
import runpy
import shutil
import sys
import zipfile
from pathlib import Path

import pytest
from zoo_commands import REPOSITORY, Installation

import sb3_lwm
from sb3_lwm.zoo.__main__ import SCRIPTS, main


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
    own = "sb3-lwm (embeddings, evaluate, play, record, resume, seeds, sweep, sweep_report, watch)"
    assert "--help" not in arguments or own in " ".join(output.split())


@pytest.mark.parametrize("script", SCRIPTS)
def test_entry_runs_the_script_with_its_own_arguments(script: str, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[tuple[str, list[str]]] = []
    monkeypatch.setattr(runpy, "run_module", lambda module, **_: calls.append((module, sys.argv[1:])))
    monkeypatch.setattr(sys, "argv", ["zoo", script, "--help"])
    # what they change is tested in test_zoo_upstream_fixes
    monkeypatch.setitem(SCRIPTS, script, SCRIPTS[script]._replace(fixes=()))
    main()
    assert calls == [(SCRIPTS[script].module, ["--help"])]
    assert importlib.util.find_spec(SCRIPTS[script].module) is not None


# --- The wheel, in a directory that has nothing to do with the repository ---


def test_wheel_is_complete(installation: Installation) -> None:
    names = set(zipfile.ZipFile(installation.wheel).namelist())
    modules = {str(path.relative_to(REPOSITORY)) for path in (REPOSITORY / "sb3_lwm").rglob("*.py")}
    settings = {f"sb3_lwm/hyperparams/{path.name}" for path in (REPOSITORY / "hyperparams").glob("*.yml")}
    assert modules | settings | {"custom_envs.py", "sb3_lwm/py.typed"} <= names
    # compiled while the wheel was built, if there is a compiler
    assert shutil.which("cc") is None or any(name.startswith("sb3_lwm/common/_gru_kernel.") for name in names)
    assert not [name for name in names if name.startswith(("tests", "benchmarks"))]


def test_import_of_the_package_leaves_the_zoo_alone(installation: Installation, tmp_path: Path) -> None:
    code = "import sys, sb3_lwm; print(sb3_lwm.__version__, sb3_lwm.__file__, 'rl_zoo3' in sys.modules)"
    version, file, zoo = installation.run(tmp_path, "-c", code).split()
    assert (version, zoo) == (sb3_lwm.__version__, "False")
    assert Path(file).is_relative_to(installation.site)

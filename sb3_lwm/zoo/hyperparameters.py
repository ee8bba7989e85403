"""
Finds the hyperparameters of an environment. ``hyperparams/`` has one file for each family of environments, and variants of
their settings in files with a hyphen in their names, which are read only if ``--conf-file`` names them.
"""

import re
from pathlib import Path

import yaml

_PACKAGE = Path(__file__).resolve().parents[1]


def hyperparameter_files() -> list[Path]:
    """
    :return: The yml files of the package, sorted by name
    :raises FileNotFoundError: If the installation does not contain them
    """
    # a wheel has them inside the package, a checkout and its editable install beside it
    for folder in (_PACKAGE / "hyperparams", _PACKAGE.parent / "hyperparams"):
        if files := sorted(folder.glob("*.yml")):
            return files
    raise FileNotFoundError(f"{_PACKAGE} was installed without its hyperparams/*.yml: reinstall sb3-lwm or pass --conf-file.")


def find_hyperparameters(env_id: str, is_atari: bool) -> Path:
    """
    Find the file in which the Zoo will find a block for the environment.

    The Zoo reads one file and looks there for the environment's id, then for ``atari`` if it is an Atari game, else for
    ``default``. This function looks in the same order, over all files.

    :param env_id: The id of the environment
    :param is_atari: Whether the Zoo treats it as an Atari game
    :return: The path of the yml file
    :raises ValueError: If no file has a block for the environment
    """
    files = [file for file in hyperparameter_files() if not _is_variant(file)]
    blocks = {file: yaml.safe_load(file.read_text(encoding="utf-8")) for file in files}
    fallback = "atari" if is_atari else "default"
    for key in (env_id, fallback):
        for file, keys in blocks.items():
            if key in keys:
                return file
    names = ", ".join(file.name for file in blocks)
    raise ValueError(
        f"No hyperparameters for {env_id}: neither it nor {fallback!r} is in {names}. Pass your own with --conf-file."
    )


def resolve_variant(config: str) -> str:
    """
    :param config: The value of ``--conf-file``
    :return: The path of a file of the package if ``config`` is the name of a variant, such as ``atari-small``; else
        ``config`` itself
    :raises ValueError: If it has the form of a variant's name, but no variant has this name
    """
    # paths of files and modules are returned unchanged
    if not re.fullmatch(r"\w+(-\w+)+", config) or Path(config).exists():
        return config
    variants = {file.stem: str(file) for file in hyperparameter_files() if _is_variant(file)}
    if config not in variants:
        raise ValueError(f"--conf-file {config}: sb3-lwm has no such settings, choose one of {', '.join(variants)} or a file.")
    return variants[config]


def _is_variant(file: Path) -> bool:
    return "-" in file.stem

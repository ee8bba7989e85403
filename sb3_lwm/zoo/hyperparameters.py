"""
Where the hyperparameters of an environment lie: ``hyperparams/`` has one file per family of environments, and other settings
for a family in files with a hyphen in their names, which are taken only when ``--conf-file`` names them.
"""

from pathlib import Path

import yaml

_PACKAGE = Path(__file__).resolve().parents[1]


def hyperparameter_files() -> list[Path]:
    """
    :return: the yml files that ship with the package, sorted by name
    :raises FileNotFoundError: if the installation lacks them
    """
    # A wheel has them inside the package; a checkout and its editable install beside it.
    for folder in (_PACKAGE / "hyperparams", _PACKAGE.parent / "hyperparams"):
        if files := sorted(folder.glob("*.yml")):
            return files
    raise FileNotFoundError(f"{_PACKAGE} was installed without its hyperparams/*.yml: reinstall sb3-lwm or pass --conf-file.")


def find_hyperparameters(env_id: str, is_atari: bool) -> Path:
    """
    Find the file in which the Zoo will find a block for the environment.

    The Zoo reads one file and looks there for the environment's id, then for ``atari`` if it is an Atari game, else for
    ``default``. The same order is kept here, over all files.

    :param env_id: id of the environment
    :param is_atari: whether the Zoo takes it for an Atari game
    :return: path of the yml file
    :raises ValueError: if no file has a block for the environment
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
    :param config: what ``--conf-file`` was given
    :return: the path of our file if it is the name of one, such as ``atari-small``; else the same
    :raises ValueError: if it looks like such a name, but there is none
    """
    variants = {file.stem: str(file) for file in hyperparameter_files() if _is_variant(file)}
    # neither the path of a file nor a module
    is_name = config.replace("-", "").isalnum() and "-" in config and not Path(config).exists()
    if is_name and config not in variants:
        raise ValueError(f"--conf-file {config}: sb3-lwm has no such settings, choose one of {', '.join(variants)} or a file.")
    return variants.get(config, config) if is_name else config


def _is_variant(file: Path) -> bool:
    return "-" in file.stem

"""The versions of the packages, for the rows of results in a CSV."""

import platform
from importlib.metadata import version

import sb3_lwm

PACKAGES = ("stable_baselines3", "rl_zoo3", "gymnasium", "ale_py", "torch", "numpy")
VERSIONS = {"sb3_lwm": sb3_lwm.__version__, **{name: version(name) for name in PACKAGES}, "python": platform.python_version()}

# A module of its own, so that building the package reads the version without importing torch.
__version__ = "0.2.0.dev0"

# A module of its own, so that building the package reads the version without importing torch.
__version__ = "0.1.0"

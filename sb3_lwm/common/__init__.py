"""Code that several parts of the package share: tensor types, network layers, files, exploration, evaluation."""

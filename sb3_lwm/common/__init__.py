"""What every part of the package uses: tensor types, network layers, files, exploration, evaluation."""

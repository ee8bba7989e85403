#!/usr/bin/env bash
# Installs sb3-lwm from this checkout into the present Python environment, with PyTorch for CPUs, and trains for a moment. All
# that the image needs besides its base; continuous integration runs this script, too.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

# pinned: a version that has a CPU build at hand; a range would take a build with gigabytes of CUDA
python -m pip install --quiet --no-cache-dir torch==2.13.0
python -m pip install --quiet --no-cache-dir ".[compression,minigrid,sweeps,figures]"

# from another folder, so that the installed package is imported and not the checkout
scratch="$(mktemp --directory)"
trap 'rm -rf "$scratch"' EXIT
cp examples/own_environment.py "$scratch"
cd "$scratch"
python own_environment.py --steps 500

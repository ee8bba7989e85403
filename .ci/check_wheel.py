"""
Load the compiled GRU out of a wheel and compare one step with the equations, without installing anything::

    python .ci/check_wheel.py wheelhouse/sb3_lwm-*.whl

On Windows there must be none: Microsoft's compiler lacks the vector types.
"""

import ctypes
import glob
import math
import sys
import tempfile
import zipfile
from pathlib import Path

LIBRARY = "sb3_lwm/common/_gru_kernel.so"


def step(library: Path) -> float:
    """:return: the memory of a GRU with one unit, all weights and biases 0.5, after one step from 0.3 with inputs of 0.2"""

    def numbers(*values: float) -> ctypes.Array[ctypes.c_float]:
        return (ctypes.c_float * len(values))(*values)

    kernel = ctypes.CDLL(str(library))
    kernel.gru_workspace.restype = ctypes.c_size_t
    level, size = kernel.gru_best_level(), ctypes.c_size_t(1)
    workspace = numbers(*[0.0] * kernel.gru_workspace(level, size, size))
    weights, memory = numbers(0.5, 0.5, 0.5), numbers(0.0)
    arrays = (weights, weights, weights, numbers(0.3), numbers(1.0), numbers(0.2, 0.2, 0.2), memory, None, None, workspace)
    kernel.gru_forward(level, size, size, size, *arrays)
    return float(memory[0])


def expected_step() -> float:
    """:return: the same in double precision"""
    gate = 1.0 / (1.0 + math.exp(-(0.2 + 0.5 + 0.5 * 0.3 + 0.5)))
    candidate = math.tanh(0.2 + 0.5 + gate * (0.5 * 0.3 + 0.5))
    return candidate + gate * (0.3 - candidate)


def main() -> None:
    """Check each wheel."""
    wheels = [wheel for pattern in sys.argv[1:] for wheel in glob.glob(pattern)]
    if not wheels:
        sys.exit(f"There is no wheel in {sys.argv[1:]}.")
    for wheel in wheels:
        with zipfile.ZipFile(wheel) as archive, tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
            has_kernel = LIBRARY in archive.namelist()
            if has_kernel == (sys.platform == "win32"):
                sys.exit(f"{wheel} has {'a' if has_kernel else 'no'} compiled kernel.")
            if has_kernel and not math.isclose(step(Path(archive.extract(LIBRARY, folder))), expected_step(), rel_tol=1e-6):
                sys.exit(f"{wheel}: the kernel does not compute a GRU.")
        print(f"{wheel}: right")


if __name__ == "__main__":
    main()

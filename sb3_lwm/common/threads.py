"""The number of PyTorch's threads while an agent with small networks learns."""

import os
from collections.abc import Iterator
from contextlib import contextmanager

import torch as th

# The environment variables by which a user chooses a number of threads
VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS")
# The number that PyTorch chose by itself; a different present number is the user's choice
_DEFAULT = th.get_num_threads()


def chooses_one_thread(environ: "os._Environ[str] | dict[str, str]", n_threads: int, default: int) -> bool:
    """
    :param environ: The environment variables
    :param n_threads: The present number of threads
    :param default: The number that PyTorch chose when it was imported
    :return: Whether the user has not chosen the number of threads, and it is more than 1
    """
    return n_threads == default > 1 and not any(name in environ for name in VARIABLES)


@contextmanager
def one_thread_for_small_networks(is_small: bool, verbose: int = 0) -> Iterator[None]:
    """
    Use one thread inside the block, unless the user has chosen a number: matrices of a few dozen rows are multiplied no faster
    by two threads, and many times slower if another program uses one of the cores.

    :param is_small: Whether the networks are small and on the CPU
    :param verbose: The verbosity level: 1 prints a line if the number of threads is changed
    """
    n_threads = th.get_num_threads()
    if not (is_small and chooses_one_thread(os.environ, n_threads, _DEFAULT)):
        yield
        return
    if verbose >= 1:
        print(
            f"Using 1 thread instead of {n_threads}, which is faster for small networks on a CPU; OMP_NUM_THREADS, "
            "torch.set_num_threads or the Zoo's --num-threads override this."
        )
    th.set_num_threads(1)
    try:
        yield
    finally:
        th.set_num_threads(n_threads)

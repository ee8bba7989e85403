"""The option ``--figures`` of the scripts that plot, which without it show all of their figures but save at most one."""

import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sb3_lwm.common.files import whole_file


@contextmanager
def figures_kept_in(folder: str | None) -> Iterator[None]:
    """
    Draw without a display and, at the end, write every figure as PNG, named by the title of its window.

    :param folder: The folder for the files, which is created; None to change nothing
    """
    if folder is None:
        yield
        return
    # imported late, since only the extra `plots` installs it
    import matplotlib.pyplot as plt

    plt.switch_backend("Agg")
    warnings.filterwarnings("ignore", message="FigureCanvasAgg is non-interactive", category=UserWarning)
    Path(folder).mkdir(parents=True, exist_ok=True)
    yield
    for number in plt.get_fignums():
        figure = plt.figure(number)
        title = figure.canvas.manager.get_window_title() if figure.canvas.manager else f"figure {number}"
        path = Path(folder, re.sub(r"[^\w.-]+", "_", title) + ".png")
        with whole_file(path) as temporary:
            figure.savefig(temporary, dpi=150)
        print(f"Saved {path}")

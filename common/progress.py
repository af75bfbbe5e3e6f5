"""The one kind of progress bar: text, on standard output in a notebook, else on standard error.

As text it stays in a saved notebook as it was last seen. Commands keep their standard output for
what they answer.
"""

import sys
from collections.abc import Iterable

from tqdm import tqdm

from common.paths import display


def progress_bar(items: Iterable | None = None, description: str = "", **options) -> tqdm:
    """A tqdm bar; rarely redrawn where nobody watches.

    Args:
        items: What to count through; `None` if `update` is called by hand.
        description: Stands before the bar.
        options: Of `tqdm`: total, initial, unit, unit_scale, disable.
    """
    notebook, stream = _stream()
    if stream is None:  # a program without a console
        return tqdm(items, **{**options, "disable": True})
    watched = stream.isatty()
    seconds = 0.1 if watched else 1 if notebook else 15
    options = {"mininterval": seconds, "maxinterval": max(seconds, 10), **options}
    return tqdm(items, description, file=stream, dynamic_ncols=watched, **options)


def tell(text: str) -> None:
    """Prints a line where the bars are drawn."""
    print(display(text), file=_stream()[1], flush=True)


def _stream():
    """Whether this is a notebook, and where to draw; `None` in a program without a console."""
    notebook = type(sys.stdout).__module__.startswith("ipykernel.")
    return notebook, sys.stdout if notebook else sys.stderr

"""The tests of what a reader writes in a lesson's cells `# YOUR CODE`."""

from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def exercise(name: str) -> Iterator[None]:
    """Runs a test of the reader's code: prints "solved", or what is not right yet, and goes on.

    A stub raises `NotImplementedError`. The cell that the reader fills begins with `# YOUR CODE:
    name`; a cell of the same first line in the lesson's notebook in `solutions/` has the answer,
    with the same test behind it.

    Args:
        name: Of the exercise.
    """
    try:
        yield
    except NotImplementedError:
        print(f"{name}: not written yet.")
    except Exception as error:  # whatever half-written code raises
        lines = [line.strip() for line in str(error).splitlines() if line.strip()]
        print(f"{name}: not yet. {type(error).__name__}: {' '.join(lines)[:300] or 'no message'}")
    else:
        print(f"{name}: solved.")

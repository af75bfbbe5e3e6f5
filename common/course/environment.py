"""Environment variables for the time of a command."""

import contextlib
import os
from collections.abc import Iterator


@contextlib.contextmanager
def environment(**variables: str | None) -> Iterator[None]:
    """Sets variables, for the kernels started too, and restores them; `None` changes nothing."""
    variables = {name: value for name, value in variables.items() if value is not None}
    before = {name: os.environ.get(name) for name in variables}
    os.environ.update(variables)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value

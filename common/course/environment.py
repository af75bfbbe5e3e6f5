"""Environment variables: set for the time of a command, and checked before its work."""

import contextlib
import importlib.util
import os
from collections.abc import Iterator

from common.errors import ConfigError
from common.paths import expand

PROFILES = ("smoke", "laptop", "full")
BACKENDS = ("tensorflow", "jax")
_CHOICES = {"COURSE_PROFILE": PROFILES, "KERAS_BACKEND": BACKENDS}


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


def backend() -> str:
    """What Keras will compute with."""
    return os.environ.get("KERAS_BACKEND") or BACKENDS[0]


def check_environment(*names: str) -> None:
    """Makes sure that these variables, where they are set, can be used.

    Raises:
        ConfigError: if one cannot, or the backend is not installed.
    """
    for name in names:
        value = os.environ.get(name)
        if name not in _CHOICES:
            expand(value or ".", name)
        elif value and value not in _CHOICES[name]:
            choices = ", ".join(_CHOICES[name])
            raise ConfigError(
                f"{name}={value!r} is unknown. Choose one of: {choices}; or unset it."
            )
    if "KERAS_BACKEND" in names and not _is_installed(backend()):
        raise ConfigError(
            f"{backend()} is not installed, with which Keras is to compute. Install it, or choose "
            "another one by --backend or KERAS_BACKEND."
        )


def _is_installed(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except (ImportError, ValueError):
        return False

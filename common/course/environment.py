"""Environment variables: set for the time of a command, and checked before its work."""

import contextlib
import importlib.util
import os
import sys
from collections.abc import Iterator

from common.choices import PROFILES
from common.errors import ConfigError, unknown
from common.paths import expand, repository_root

BACKENDS = ("tensorflow", "jax", "torch")
_CHOICES = {"COURSE_PROFILE": PROFILES, "KERAS_BACKEND": BACKENDS}


@contextlib.contextmanager
def environment(**variables: str | None) -> Iterator[None]:
    """Sets variables, for the kernels started too, and restores them; `None` changes nothing."""
    variables = {name: value for name, value in variables.items() if value is not None}
    before = {name: os.environ[name] for name in variables if name in os.environ}
    os.environ.update(variables)
    try:
        yield
    finally:
        for name in variables:
            os.environ.pop(name, None)
        os.environ.update(before)


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
            told = f"{name}={value!r} is unknown."
            raise unknown(told, value, _CHOICES[name], end="; or unset it.")
    if "KERAS_BACKEND" in names and not _is_installed(backend()):
        extra = "" if backend() == BACKENDS[0] else f"[{backend()}]"
        others = [f"--backend {name}" for name in BACKENDS if _is_installed(name)]
        raise ConfigError(
            f"{backend()} is not installed, with which Keras is to compute. Install it, in the "
            f'course\'s folder: {sys.executable} -m pip install -e ".{extra}"'
            f"{'; or choose ' + others[0] if others else ''}."
        )


def missing_package(error: ModuleNotFoundError) -> str:
    """What to do about a package that cannot be imported."""
    folder = repository_root() or "the course's folder"
    return (
        f"The package {error.name!r} is not installed for {sys.executable}. In {folder}, `make "
        f"run` (or {sys.executable} -m common.course setup) makes an environment with all that is "
        f"needed; or install it into this one: {sys.executable} -m pip install -e ."
    )


def _is_installed(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except (ImportError, ValueError):
        return False

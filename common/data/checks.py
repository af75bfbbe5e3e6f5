"""What every reader asks of its arguments."""

from collections.abc import Iterable

from common.errors import ConfigError


def check_split(split: str, splits: Iterable[str]) -> None:
    """Makes sure that a data set has a split.

    Raises:
        ConfigError: naming those that it has.
    """
    if split not in splits:
        raise ConfigError(f"split must be one of {', '.join(splits)}. Received: {split!r}")


def check_count(what: str, number: int) -> None:
    """Makes sure that of something there is one, or more.

    Raises:
        ConfigError: if there is not.
    """
    if number < 1:
        raise ConfigError(f"{what} must be at least 1. Received: {number}")

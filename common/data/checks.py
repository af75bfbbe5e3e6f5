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


def drawn_count(split: str, n: int | None, counts: dict[str, int], size: int, smallest: int) -> int:
    """How many images to draw: `n`, or what `counts` has for the split.

    Raises:
        ConfigError: if there is no such split, `n` is below 1, or `size` below the smallest.
    """
    check_split(split, counts)
    n = counts[split] if n is None else n
    if n < 1 or size < smallest:
        raise ConfigError(f"Wanted n >= 1 and size >= {smallest}. Received: n={n}, size={size}")
    return n

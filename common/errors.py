"""Errors made for users: each says what was wrong, where, and what to do."""

import difflib
import os
from collections.abc import Iterable
from itertools import islice


class CourseError(Exception):
    """Base of all errors that the course raises on purpose; its text is meant for the user."""


class ConfigError(CourseError):
    """A parameter, profile, data set or model name that the course does not know."""


class DataError(CourseError):
    """A file or folder of images, labels or captions that cannot be used as it is."""


def unknown(
    told: str, word: object, known: Iterable[str], also: Iterable[str] = (), end: str = "."
) -> ConfigError:
    """The error for a name that is none of those that there are.

    Args:
        told: What is wrong, a sentence.
        word: As it was given.
        known: All names.
        also: Other ways to write them.
        end: What follows the names.
    """
    known = list(known)
    near = did_you_mean(word, [*known, *also])
    return ConfigError(f"{told}{near} Choose one of: {', '.join(known)}{end}")


def did_you_mean(word: object, known: Iterable[object], before: str = "") -> str:
    """Of names that are known the one that looks most like a word: a sentence, or nothing.

    `before` is what stands before each of them where it is written, as the folder of files.
    """
    names = {str(name).casefold(): str(name) for name in islice(known, 2000)}
    wanted = str(word).casefold()[:100]
    near = difflib.get_close_matches(wanted, names, n=9)
    near = near or [name for name in names if len(wanted) > 2 and wanted in name]
    if not near:
        return ""
    # Of those that are equally near, the one that begins like the word for longest.
    ratios = [difflib.SequenceMatcher(None, name, wanted).ratio() for name in near]
    starts = [len(os.path.commonprefix([name, wanted])) for name in near]
    best = names[max(zip(ratios, starts, near, strict=True))[2]]
    return f" Did you mean {before + best!r}?"

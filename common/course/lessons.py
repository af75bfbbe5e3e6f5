"""Finds the lessons (notebooks) of the course and checks parameters against what they take."""

import ast
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from common.errors import ConfigError
from common.paths import repository_root


@dataclass(frozen=True)
class Lesson:
    """One notebook, as `phase1_cifar/03_training.ipynb`."""

    path: Path

    @property
    def phase(self) -> str:
        return self.path.parent.name

    @property
    def name(self) -> str:
        return self.path.stem

    def __str__(self) -> str:
        return f"{self.phase}/{self.name}"


def course_root() -> Path:
    """The folder that holds the phases: the repository, else the working folder."""
    return repository_root() or Path.cwd()


PHASES = ("phase1_cifar", "phase2_histopathology", "phase3_captioning")


def phase_name(phase: str, phases: Iterable[str] = PHASES) -> str:
    """ "phase2_histopathology" of "phase2" or "2"; any other text as it is."""
    for name in phases:
        short = name.split("_")[0]
        if phase in (name, short, short.removeprefix("phase")):
            return name
    return phase


def find_lessons(phase: str | None = None, lesson: str | None = None) -> list[Lesson]:
    """The lessons in reading order.

    Args:
        phase: "phase1_cifar", "phase1" or "1"; all phases if `None`.
        lesson: "03_training", "training", "03" or "3"; all lessons if `None`.

    Raises:
        ConfigError: if nothing is of that name; it lists what there is.
    """
    root = course_root()
    found = [
        Lesson(path)
        for path in sorted(root.glob("phase*_*/*.ipynb"))
        if re.fullmatch(r"\d\d_\w+", path.stem)
    ]
    if not found:
        raise ConfigError(f"There are no lessons in {root}. Run this in the course's repository.")
    if phase is not None:
        phases = list(dict.fromkeys(item.phase for item in found))
        wanted = phase_name(phase, phases)
        if wanted not in phases:
            raise ConfigError(f"There is no phase {phase!r}. Choose one of: {', '.join(phases)}.")
        found = [item for item in found if item.phase == wanted]
    if lesson is not None:
        wanted = lesson.zfill(2) if lesson.isdigit() else lesson
        matching = [i for i in found if wanted in (i.name, *i.name.split("_", 1))]
        if not matching:
            known = ", ".join(dict.fromkeys(item.name for item in found))
            raise ConfigError(f"There is no lesson {lesson!r}. Choose one of: {known}.")
        found = matching
    return found


def parse_value(text: str) -> Any:
    """A parameter's value as typed: a Python literal where it is one, else a string.

    `16,32` is the list [16, 32]; `true` and `false` may be in small letters. `None` is no value,
    and `none` a text: some parameters have a choice of that name.
    """
    words = {"true": True, "false": False}
    if text == "None":
        return None
    if text.lower() in words:
        return words[text.lower()]
    try:
        value = ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return text
    if isinstance(value, tuple):
        return list(value)
    return value if isinstance(value, (int, float, str, list, dict)) else text


def parse_assignments(texts: Iterable[str]) -> dict[str, Any]:
    """`["stages=3", "dataset=cifar10"]` as a dictionary.

    Raises:
        ConfigError: if one is not NAME=VALUE, or a name stands twice.
    """
    return {name: parse_value(value) for name, value in _split(texts).items()}


def parse_grid(texts: Iterable[str]) -> dict[str, list[Any]]:
    """`["stages=2,3", "widths=[16,32],[24,48]"]` as a list of values per name.

    Raises:
        ConfigError: if one is not NAME=VALUE,VALUE,..., or a name stands twice.
    """
    grid = {}
    for name, text in _split(texts).items():
        # Commas between values, not those inside brackets.
        values = [parse_value(v.strip()) for v in re.split(r",(?![^\[(]*[\])])", text)]
        if "" in values:
            raise ConfigError(f"{name}={text} has an empty value. Write NAME=VALUE,VALUE,...")
        grid[name] = values
    return grid


def _split(texts: Iterable[str]) -> dict[str, str]:
    found = {}
    for text in texts:
        name, equals, value = text.partition("=")
        name = name.strip()
        if not equals or not name.isidentifier():
            raise ConfigError(f"{text!r} is not of the form NAME=VALUE, as in stages=3.")
        if name in found:
            raise ConfigError(f"{name} is given twice.")
        found[name] = value.strip()
    return found


def lesson_parameters(lesson: Lesson) -> dict[str, dict]:
    """What a lesson's `parameters` cell holds: name -> default (as source) and help."""
    import papermill

    return papermill.inspect_notebook(str(lesson.path))


def assign_parameters(
    lessons: list[Lesson], common: dict[str, Any], extra: dict[str, Any]
) -> dict[Lesson, dict[str, Any]]:
    """What to hand to each lesson.

    Args:
        lessons: The lessons that will run.
        common: Parameters that each lesson takes (dataset, profile, seed).
        extra: Parameters that a lesson gets if its own `parameters` cell has them.

    Raises:
        ConfigError: if no lesson takes a parameter, or its default is of another type.
    """
    taken = {lesson: lesson_parameters(lesson) for lesson in lessons}
    given = {**common, **extra}
    for name, value in given.items():
        takers = [lesson for lesson in lessons if name in taken[lesson]]
        if not takers or (name in common and len(takers) < len(lessons)):
            without = next(lesson for lesson in lessons if name not in taken[lesson])
            known = dict.fromkeys(key for parameters in taken.values() for key in parameters)
            raise ConfigError(
                f"{without} has no parameter {name!r}. There are: {', '.join(known) or 'none'}."
            )
        for lesson in takers:
            _check_type(lesson, name, taken[lesson][name]["default"], value)
    return {
        lesson: {name: value for name, value in given.items() if name in taken[lesson]}
        for lesson in lessons
    }


def _check_type(lesson: Lesson, name: str, source: str, value: Any) -> None:
    default = parse_value(source)
    kinds = {bool: "True or False", int: "a whole number", float: "a number", str: "a text"}
    expected = type(default)
    fits = type(value) is expected or (expected is float and type(value) is int)
    if expected in kinds and value is not None and not fits:
        raise ConfigError(
            f"{name}={value!r}: {lesson} takes {kinds[expected]} here (default {source})."
        )

"""Finds the lessons (notebooks) of the course."""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from common.choices import PHASES
from common.errors import ConfigError, unknown
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


def phase_name(phase: str, phases: Iterable[str] = PHASES) -> str:
    """ "phase2_histopathology" of "phase2" or "2"; any other text as it is."""
    for name in phases:
        short = name.split("_")[0]
        if phase in (name, short, short.removeprefix("phase")):
            return name
    return phase


def known_phase(phase: str, phases: Iterable[str] = PHASES) -> str:
    """The same of a phase that there is.

    Raises:
        ConfigError: if there is none.
    """
    name = phase_name(phase, phases)
    if name not in phases:
        short = (known.split("_")[0] for known in phases)
        raise unknown(f"There is no phase {phase!r}.", phase, phases, short)
    return name


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
        wanted = known_phase(phase, list(dict.fromkeys(item.phase for item in found)))
        found = [item for item in found if item.phase == wanted]
    if lesson is not None:
        wanted = lesson.zfill(2) if lesson.isdigit() else lesson
        matching = [i for i in found if wanted in (i.name, *i.name.split("_", 1))]
        if not matching:
            known = dict.fromkeys(item.name for item in found)
            raise unknown(f"There is no lesson {lesson!r}.", lesson, known)
        found = matching
    return found

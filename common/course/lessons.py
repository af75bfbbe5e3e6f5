"""Finds the lessons (notebooks) of the course, and reads what their parameters take."""

import ast
import json
import math
import re
import warnings
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from common.choices import (
    CHOICES,
    PHASES,
    PROFILES,
    check_dataset,
    check_value,
    datasets_of,
    is_own,
    own_folder,
    resolve_dataset,
    takes,
)
from common.choices import KINDS as KNOWN_KINDS
from common.course.checks import check_run
from common.errors import ConfigError, DataError, did_you_mean, unknown
from common.paths import repository_root
from common.training.run_folders import check_run_name

# A lesson adds small numbers to its seed, and some libraries count in 32 bits.
MAX_SEED = 2**31 - 1


@dataclass(frozen=True)
class Lesson:
    """One notebook, as `phase1_cifar/03_training.ipynb`, or its solutions."""

    path: Path

    @property
    def is_solution(self) -> bool:
        return self.path.parent.name == "solutions"

    @property
    def phase(self) -> str:
        return self.path.parents[1 if self.is_solution else 0].name

    @property
    def name(self) -> str:
        return self.path.stem

    def __str__(self) -> str:
        return "/".join([self.phase, *(["solutions"] if self.is_solution else []), self.name])

    @property
    def solution(self) -> "Lesson | None":
        """The answers to its exercises, if there are any."""
        path = self.path.parent / "solutions" / self.path.name
        return Lesson(path) if path.is_file() else None


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


def parse_value(text: str) -> Any:
    """A value as typed: a Python literal where it is one, else a string.

    `16,32` is the list [16, 32]; `true` and `false` may be in small letters. `None` is no value,
    and `none` a text: some parameters have a choice of that name. What no parameter can be (sets,
    bytes, infinity, numbers beyond 64 bits) is a text, too.
    """
    truths = {"true": True, "TRUE": True, "false": False, "FALSE": False}
    if text in truths:
        return truths[text]
    if len(text) > _LONGEST:
        return text
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of Python, about texts such as "0or 1"
            return _plain(ast.literal_eval(text))
    except (ValueError, SyntaxError, TypeError, RecursionError, MemoryError):
        return text


_LONGEST = 1000  # characters of a literal: the parser of Python has limits, and not all are errors


def _plain(value: Any) -> Any:
    """The value as JSON would give it back.

    Raises:
        ValueError: for what JSON lacks.
    """
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    if isinstance(value, dict) and all(isinstance(key, str) for key in value):
        return {key: _plain(item) for key, item in value.items()}
    fits = value is None or isinstance(value, str)
    fits = fits or (isinstance(value, float) and math.isfinite(value))
    if fits or (isinstance(value, int) and abs(value) < 2**63):
        return value
    raise ValueError(value)


def parse_assignments(texts: Iterable[str]) -> dict[str, str]:
    """`["stages=3", "dataset=cifar10"]` as a dictionary of texts.

    What they mean is the lesson's to say: see `assign_parameters`.

    Raises:
        ConfigError: if one is not NAME=VALUE, or a name stands twice.
    """
    found = {}
    for text in texts:
        name, equals, value = text.partition("=")
        name = name.strip()
        if not equals or not name.isidentifier():
            raise ConfigError(f"{_cut(text)} is not of the form NAME=VALUE, as in stages=3.")
        if name in found:
            raise ConfigError(f"{_cut(name, str)} is given twice.")
        found[name] = value.strip()
    return found


def parse_grid(texts: Iterable[str]) -> dict[str, list[str]]:
    """`["stages=2,3", "widths=[16,32],[24,48]"]` as a list of texts per name.

    Raises:
        ConfigError: if one is not NAME=VALUE,VALUE,..., or a name stands twice.
    """
    grid = {}
    for name, text in parse_assignments(texts).items():
        values = [value.strip() for value in _split(text)]
        if "" in values:
            raise ConfigError(
                f"{_cut(f'{name}={text}', str)} has an empty value. Write NAME=VALUE,VALUE,..."
            )
        grid[name] = values
    return grid


def _split(text: str) -> list[str]:
    """The text split at its commas, but not at those inside brackets."""
    parts, depth = [""], 0
    for character in text:
        depth += (character in "[({") - (character in "])}")
        if character == "," and depth == 0:
            parts.append("")
        else:
            parts[-1] += character
        if depth < 0:
            break
    return text.split(",") if depth else parts  # brackets that do not match are but characters


@dataclass(frozen=True)
class Parameter:
    """One line of a lesson's `parameters` cell.

    Attributes:
        default: As source.
        kinds: The types that it may have, besides `None`; empty if nothing tells.
    """

    default: str
    kinds: tuple[type, ...]


KINDS = {
    bool: "True or False",
    int: "a whole number",
    float: "a number",
    list: "a list, as [16, 32]",
    dict: "a dictionary, as {'a': 1}",
    str: "a text",
}


def lesson_parameters(lesson: Lesson) -> dict[str, Parameter]:
    """What a lesson's `parameters` cell holds.

    A parameter's type is that of its annotation (`epochs: int | None = None`), else of its
    default. Where that is `None`, a comment that shows a choice in quotes tells of a text, as do
    the names of runs.

    Raises:
        DataError: if the notebook or the cell cannot be read.
    """
    try:
        # Not by nbformat, which takes longer than all else before a message.
        cells = json.loads(lesson.path.read_text(encoding="utf-8"))["cells"]
        cells = [c for c in cells if "parameters" in c["metadata"].get("tags", [])]
        source = "".join(cells[0]["source"]) if cells else ""
        statements = ast.parse(source).body
    except Exception as error:  # whatever Python makes of other files
        raise DataError(f"{lesson.path} is no readable notebook: {str(error)[:300]}.") from error
    lines = source.split("\n")
    found = {}
    for node in statements:
        if isinstance(node, ast.Assign) and len(node.targets) == 1:
            target, annotation = node.targets[0], None
        elif isinstance(node, ast.AnnAssign):
            target, annotation = node.target, node.annotation
        else:
            continue
        if isinstance(target, ast.Name) and node.value is not None:
            default = ast.get_source_segment(source, node.value)
            rest = lines[node.end_lineno - 1].encode()[node.end_col_offset :].decode()
            told = "" if annotation is None else ast.get_source_segment(source, annotation)
            found[target.id] = Parameter(default, _kinds(target.id, default, told, rest))
    return found


def _kinds(name: str, default: str, annotation: str, comment: str) -> tuple[type, ...]:
    outer = re.sub(r"\b(list|dict|Literal)\[.*?\]", r"\1", annotation)
    words = re.findall(r"\w+", outer.replace("Literal", "str"))
    if told := tuple(kind for kind in KINDS if kind.__name__ in words):
        return told
    value = parse_value(default)
    if value is not None:
        return (type(value),)
    if name in KNOWN_KINDS:
        return KNOWN_KINDS[name]
    is_text = name in ("run_name", "from_run") or re.search(r"#.*[\"'].+[\"']", comment)
    return (str,) if is_text else ()


def assign_parameters(
    lessons: list[Lesson], common: dict[str, Any], extra: dict[str, Any]
) -> dict[Lesson, dict[str, Any]]:
    """What to hand to each lesson.

    A text becomes what the lesson takes there: `2024` is a number of epochs, or a run's name. Where
    no data set is given, the one that `resolve_dataset` tells is: results are kept by it.

    Args:
        lessons: The lessons that will run.
        common: Parameters that each lesson takes (dataset, profile, seed).
        extra: Parameters that a lesson gets if its own `parameters` cell has them.

    Raises:
        ConfigError: if no lesson takes a parameter, or takes no such value.
        DataError: if a folder that is given as data set has not the layout of the phase.
    """
    taken = {lesson: lesson_parameters(lesson) for lesson in lessons}
    given = {**common, **extra}
    for name in given:
        takers = [lesson for lesson in lessons if name in taken[lesson]]
        if not takers or (name in common and len(takers) < len(lessons)):
            without = next(lesson for lesson in lessons if name not in taken[lesson])
            known = dict.fromkeys(key for parameters in taken.values() for key in parameters)
            raise ConfigError(
                f"{without} has no parameter {_cut(name)}.{did_you_mean(name, known)} There are: "
                f"{', '.join(known) or 'none'}."
            )
    assigned = {
        lesson: {
            name: _typed(lesson, name, taken[lesson][name], value)
            for name, value in given.items()
            if name in taken[lesson]
        }
        for lesson in lessons
    }
    _check_known(assigned, taken)
    datasets = {}
    for lesson, values in assigned.items():
        if "dataset" in taken[lesson] and lesson.phase in PHASES and values.get("dataset") is None:
            if lesson.phase not in datasets:
                datasets[lesson.phase] = resolve_dataset(lesson.phase)
            values["dataset"] = datasets[lesson.phase]
    return assigned


def check_grid(lesson: Lesson, grid: dict[str, list[str]], fixed: dict[str, Any]) -> None:
    """Makes sure that a lesson takes each value of a grid.

    Raises:
        ConfigError, DataError: as `assign_parameters`.
    """
    for i in range(max(map(len, grid.values()), default=1)):
        values = {name: texts[min(i, len(texts) - 1)] for name, texts in grid.items()}
        assign_parameters([lesson], fixed | values, {})


def _check_known(assigned: dict[Lesson, dict], taken: dict[Lesson, dict[str, Parameter]]) -> None:
    """Checks against what the code behind the course's own phases knows."""
    assigned = {lesson: given for lesson, given in assigned.items() if lesson.phase in PHASES}
    datasets = {}
    for lesson, given in assigned.items():
        if given.get("dataset") is not None:
            datasets.setdefault(given["dataset"], {})[lesson.phase] = None
    for dataset, phases in datasets.items():
        check_dataset(dataset, list(phases))
    for lesson, given in assigned.items():
        for name, value in given.items():
            check_value(name, value, parse_value(taken[lesson][name].default))
        check_run(given.get("from_run"), lesson.phase)
        # Who runs several lessons trains in one of them what a later one takes.
        if lesson.name.endswith("evaluation") and len(assigned) == 1:
            check_run(given.get("run_name"), lesson.phase)
        elif given.get("run_name") is not None:
            check_run_name(given["run_name"])


def _typed(lesson: Lesson, name: str, parameter: Parameter, given: Any) -> Any:
    value = parse_value(given) if isinstance(given, str) else given
    if name == "seed":
        return check_seed(value)
    if value is not None and parameter.kinds:
        value = _of_kind(value, given, parameter.kinds)
        if value is None:
            default = _cut(parameter.default, str)
            raise ConfigError(
                f"{name}={_cut(given)}: {lesson} takes {_wanted(parameter.kinds)} here (default "
                f"{default})."
            )
    if name == "profile" and value is not None:
        check_profile(value)
    return value


def _wanted(kinds: tuple[type, ...]) -> str:
    kinds = [kind for kind in kinds if kind is not int or float not in kinds]
    return " or ".join(KINDS[kind] for kind in kinds)


def _of_kind(value: Any, given: Any, kinds: tuple[type, ...]) -> Any:
    """The value as the first of the kinds that it fits; `None` if it fits none."""
    if type(value) in kinds and type(value) is not str:
        return value
    if float in kinds and type(value) is int:
        return float(value)
    if str in kinds and isinstance(given, str):
        return value if isinstance(value, str) else given
    return None


def check_variables(variables: dict[str, Any]) -> None:
    """Checks a lesson's parameters in its notebook, which papermill or its reader may have set.

    Args:
        variables: Of the notebook; those of any other program are passed over.

    Raises:
        ConfigError: for an unknown name, or a value of another type.
        DataError: if the data set is a folder that is not there.
    """
    if not {"dataset", "profile", "seed", "run_name"} <= variables.keys():
        return
    kinds = variables.get("__annotations__", {})
    for name in [name for name in {**kinds, **CHOICES, **KNOWN_KINDS} if name in variables]:
        value = variables[name]
        allowed = (kinds[name],) if kinds.get(name) in KINDS else KNOWN_KINDS.get(name, ())
        if value is not None and allowed and _of_kind(value, value, allowed) is None:
            raise ConfigError(f"{name}={_cut(value)}: the lesson takes {_wanted(allowed)} here.")
        check_value(name, value, "all" if name == "decoder" else None)
    check_seed(variables["seed"])
    if variables["profile"] is not None:
        check_profile(variables["profile"])
    check_run(variables.get("from_run"))
    if variables["dataset"] is None:
        return  # `begin` knows the phase, and tells
    dataset = str(variables["dataset"])
    if is_own(dataset) or not any(takes(phase, dataset) for phase in PHASES):
        own_folder(dataset, datasets_of([*PHASES]))


def check_profile(value: Any) -> None:
    """Makes sure that there is such a profile.

    Raises:
        ConfigError: if not.
    """
    if value not in PROFILES:
        raise unknown(f"profile={_cut(value)} is unknown.", value, PROFILES)


def check_seed(value: Any) -> int:
    """A seed that every library takes.

    Raises:
        ConfigError: for any other value.
    """
    if type(value) is not int or not 0 <= value <= MAX_SEED:
        raise ConfigError(f"seed={_cut(value)}: a seed is a whole number from 0 to {MAX_SEED:,}.")
    return value


def _cut(value: Any, show=repr) -> str:
    text = show(value)
    return text if len(text) <= 80 else f"{text[:77]}..."

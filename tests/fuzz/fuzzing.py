"""What all fuzz tests share: "nothing but a `CourseError`", and the strategies.

`COURSE_FUZZ=100 pytest tests/fuzz` tries a hundred times as many examples, others in each run.
"""

import os
import tempfile
from contextlib import contextmanager, suppress
from pathlib import Path

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.configuration import set_hypothesis_home_dir

from common.errors import CourseError

# What Hypothesis keeps of Unicode: not in the checkout.
set_hypothesis_home_dir(Path(tempfile.gettempdir()) / "course-hypothesis")

MORE = float(os.environ.get("COURSE_FUZZ", 1))


def fuzz(examples: int, **strategies):
    """Calls a test with so many examples: the same ones in each run, unless more are asked for."""
    chosen = settings(
        max_examples=max(1, round(examples * MORE)),
        deadline=None,
        derandomize=MORE == 1,
        database=None,
        suppress_health_check=list(HealthCheck),
    )
    return lambda test: chosen(given(**strategies)(test))


def told(function, *args, **kwargs):
    """What a function gives; `None` where it refuses, which must be a `CourseError` that tells why
    in not too many words."""
    try:
        return function(*args, **kwargs)
    except CourseError as error:
        assert 5 < len(str(error)) < 8_000
        return None


@contextmanager
def folder():
    """A new folder for each example."""
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as path:
        yield Path(os.path.realpath(path))


# --- texts and JSON ---

# Half characters too, as names of files have that are not UTF-8.
texts = st.text(st.characters(exclude_categories=()), max_size=30) | st.sampled_from(
    ["", "None", "nan", "<script>alert(1)</script>", "a|b", "$x$", "../../x", "\u202egnp.exe"]
)
plain_texts = st.text(max_size=30)  # UTF-8 has all of it


def json_of(text):
    """Any value of JSON, with NaN, whose texts come from `text`."""
    small = st.none() | st.booleans() | st.integers() | st.floats() | text
    return st.recursive(
        small,
        lambda inner: st.lists(inner, max_size=4) | st.dictionaries(text, inner, max_size=4),
        max_leaves=8,
    )


json_values = json_of(texts)


def objects(**values):
    """JSON objects with some of these keys, mostly of the right kind, and perhaps others."""
    kinds = {name: st.one_of(kind, kind, json_values) for name, kind in values.items()}
    return st.fixed_dictionaries({}, optional=kinds) | json_values


@st.composite
def changed_json(draw, value, replacement=json_values):
    """A value of JSON in which one or two, at any depth, are others, or gone."""
    for _ in range(draw(st.integers(1, 2))):
        value = _changed(draw, value, replacement)
    return value


def _changed(draw, value, replacement):
    if not isinstance(value, (dict, list)) or not value or draw(st.integers(0, 4)) == 0:
        return draw(replacement)
    copy = value.copy()
    key = draw(st.sampled_from(list(value) if isinstance(value, dict) else range(len(value))))
    if draw(st.integers(0, 5)) == 0:
        del copy[key]
    else:
        copy[key] = _changed(draw, value[key], replacement)
    return copy


# --- bytes ---


class _Edits(list):
    """Changes bytes: calls one function after the other, each with a place."""

    def __call__(self, content: bytes) -> bytes:
        for function, place, new in self:
            content = function(content, place % (len(content) + 1), new)
        return content


def _overwrite(content, place, new):
    return (content[:place] + new + content[place + len(new) :])[: len(content)]


def _insert(content, place, new):
    return content[:place] + new + content[place:]


def _remove(content, place, new):
    return content[:place] + content[place + len(new) :]


def _repeat(content, place, new):
    return content[: place + 10 * len(new)] + content[place:]


def _cut(content, place, new):
    return content[:place]


def _edits(*functions):
    new = st.binary(min_size=1, max_size=8) | st.just(bytes(64))
    edit = st.tuples(st.sampled_from(functions), st.integers(0, 2**20), new)
    return st.lists(edit, min_size=1, max_size=3).map(_Edits)


# Functions from bytes to as many bytes, some of them others; and to those that were changed, cut
# off, put in, taken out or repeated, too.
overwritings = _edits(_overwrite)
damages = _edits(_overwrite, _overwrite, _insert, _remove, _repeat, _cut)


# --- folders ---


def file_names(*usual):
    """Names of files, some of them usual ones, some that no text has."""
    odd = st.binary(min_size=1, max_size=30).map(os.fsdecode) | st.text(min_size=1, max_size=30)
    names = st.sampled_from(usual) | odd | st.builds(str.__add__, odd, st.sampled_from(usual))
    return names.filter(lambda name: not {"/", "\0"} & {*name} and name not in (".", ".."))


def trees(names, contents, depth: int = 3):
    """Folders by name as dictionaries, files as their bytes."""
    entries = contents
    for _ in range(depth):
        entries = st.dictionaries(names, entries | contents, max_size=4)
    return entries


def write_tree(folder: Path, tree: dict) -> None:
    """Leaves out what the file system does not take."""
    folder.mkdir(exist_ok=True)
    for name, content in tree.items():
        with suppress(OSError, ValueError):
            if isinstance(content, dict):
                write_tree(folder / name, content)
            else:
                (folder / name).write_bytes(content)

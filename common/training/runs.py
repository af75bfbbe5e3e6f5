"""A run is a folder: its configuration, history, record and model, each file written whole."""

import datetime
import hashlib
import importlib.metadata
import json
import platform
import re
import subprocess
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import keras
import pandas as pd

from common import __version__
from common.errors import ConfigError, DataError
from common.files import (
    file_hash,
    hold,
    note_run,
    read_json,
    write_atomically,
    write_json,
    zip_problem,
)
from common.paths import repository_root
from common.training import backend
from common.training.run_folders import check_run_name, runs_dir


class OtherRunError(ConfigError):
    """A run of the same name has another configuration."""


class Run:
    """The folder of one training, `outputs/runs/<name>/`.

    A run that exists is gone on with if its configuration is the same; a run is finished once
    it has a record.

    Args:
        name: Letters, digits, `.`, `_`, `-`, `=`, `+`; may contain `/` for a folder of runs.
        config: What makes this run what it is; plain JSON values. `device`, `source` and
            `trained_on` in it only tell where it was made, where the data lay and whose they are:
            they go into the record and are not compared, so that another machine may go on with
            the run.
        root: Folder of all runs, by default `outputs/runs`.

    Raises:
        ConfigError: for a bad name, or a run of that name with another configuration.
    """

    def __init__(self, name: str, config: dict[str, Any], root: Path | None = None):
        self.name = check_run_name(str(name))
        config = _plain(config)
        self.config = {key: value for key, value in config.items() if key not in _TELLING}
        self.about = {key: value for key, value in config.items() if key in _TELLING}
        self.folder = (root or runs_dir()) / self.name
        path = self.folder / "config.json"
        if not path.exists():
            with self.hold("begins the run"):
                if not path.exists():
                    write_json(path, self.config)
        changed = _changed(read_json(path, dict), self.config)
        if changed:
            raise OtherRunError(
                f"The run {self.name!r} exists with another configuration (differs in: "
                f"{', '.join(changed)}). Choose another run_name, or delete {self.folder}."
            )

    @classmethod
    def labelled(cls, label: str, config: dict[str, Any], root: Path | None = None) -> "Run":
        """The run of a configuration under a name that is made of it, not chosen by anybody.

        Where a run of another configuration has the name already (of changed data, of another
        backend), the fingerprint of this one is put behind it.

        Args:
            label: The name; characters that a name cannot have become `-`.
            config, root: As for `Run`.
        """
        label = "/".join(slug(part) for part in label.split("/"))
        try:
            return cls(label, config, root)
        except OtherRunError:
            return cls(f"{label}-{fingerprint(_identity(_plain(config)))[:8]}", config, root)

    @classmethod
    def open(cls, name: str | None, label: str, config: dict[str, Any]) -> "Run":
        """The run of a name that somebody has chosen, else `labelled`."""
        return cls(name, config) if name else cls.labelled(label, config)

    def hold(self, what: str = "trains the run") -> AbstractContextManager:
        """Lets one process at a time work in this run's folder; see `common.files.hold`."""
        return hold(self.folder / ".lock", f"{what} {self.name}")

    @property
    def finished(self) -> bool:
        return (self.folder / "record.json").exists()

    @property
    def record(self) -> dict:
        """The record of a finished run."""
        return read_record(self.folder)

    @property
    def history(self) -> pd.DataFrame:
        """A row per epoch: losses, metrics, seconds.

        Raises:
            DataError: if the file is missing or damaged.
        """
        return read_history(self.folder)

    def save_model(self, model: keras.Model) -> Path:
        """Writes `model.keras`."""
        path = self.folder / "model.keras"
        with write_atomically(path) as temporary:
            model.save(temporary)
        return path

    @property
    def seconds(self) -> float:
        """How long the training took, all its parts together."""
        return float(self.history["seconds"].sum())

    def save_record(self, **content: Any) -> dict:
        """Writes `record.json`: `content` and where, when and with what it was made.

        With the hashes of the model and what belongs to it, so that files of two runs, or damaged
        ones, are noticed. A finished run that is judged again, perhaps by another machine, keeps
        what tells of its training; where its data lie is told anew.
        """
        made = {
            **{key: value for key, value in self.about.items() if key == "device"},
            "versions": versions(),
            "git_revision": git_revision(),
            "hardware": backend.hardware(),
            "created": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        }
        before = self.record if self.finished else {}
        record = {
            "run_name": self.name,
            **self.config,
            **self.about,
            **_plain(content),
            **{key: before.get(key, value) for key, value in made.items()},
            "files": file_hashes(self.folder),
        }
        write_json(self.folder / "record.json", record)
        if self.folder == runs_dir() / self.name:
            note_run(self.name)
        return record

    def add_to_record(self, **content: Any) -> None:
        """Puts more into the record of a finished run; all else stays as the training left it."""
        write_json(self.folder / "record.json", {**self.record, **_plain(content)})


def read_record(folder: Path) -> dict:
    """The record of a run, or of released weights.

    Raises:
        DataError: if it is missing, damaged, or lacks what every record has.
    """
    path = folder / "record.json"
    record = read_json(path, dict)
    for key, kind in (("run_name", str), ("metrics", dict)):
        if not isinstance(record.get(key, kind()), kind):
            raise DataError(f"{path}: {key} is damaged. Restore the file, or delete {folder}.")
    return record


def read_history(folder: Path) -> pd.DataFrame:
    """The history of a training, a row per epoch.

    Raises:
        DataError: if the file is missing or damaged.
    """
    path = folder / "history.csv"
    try:
        table = pd.read_csv(path, encoding="utf-8")
        if {"epoch", "seconds"} <= set(table):
            return table
        problem = "it has no columns `epoch` and `seconds`"
    except (OSError, ValueError) as error:  # pandas's own errors are ValueErrors
        problem = getattr(error, "strerror", None) or str(error)
    raise DataError(f"{path} is missing or damaged: {problem}. Delete {folder} to train anew.")


# What a record ties to itself.
_TIED = ("model.keras", "model.weights.h5", "vocabulary.json")


def file_hashes(folder: Path) -> dict[str, str]:
    """The sha256 of the model's files in a folder."""
    return {name: _hash(folder / name) for name in _TIED if (folder / name).is_file()}


def _hash(path: Path) -> str:
    if path.suffix != ".json":
        return file_hash(path)
    # Git may have changed the ends of its lines.
    return hashlib.sha256(path.read_bytes().replace(b"\r\n", b"\n")).hexdigest()


def check_files(folder: Path, record: dict, advice: str | None = None) -> None:
    """Makes sure that a model's files are those that its record was written for.

    Args:
        folder: Where they are.
        record: Its record; one of an earlier version does not tell, and is believed.
        advice: What to do, by default to train anew.

    Raises:
        DataError: if one is missing, damaged, or of another run; names it.
    """
    files = record.get("files")
    for name, wanted in files.items() if isinstance(files, dict) else ():
        path = folder / name
        if name in _TIED and not (path.is_file() and _hash(path) == wanted):
            raise DataError(
                f"{path} is missing or damaged, or of another run: it and record.json do not fit "
                f"together. {advice or f'Restore it, or delete {folder} and train anew.'}"
            )


def read_model(path: str | Path) -> keras.Model:
    """Loads a `.keras` file of the course.

    Raises:
        DataError: if there is none, or it cannot be read.
    """
    import common.models  # noqa: F401  (registers the classes that the file names)

    path = Path(path)
    if not path.is_file():
        raise DataError(f"There is no model at {path}. Train one first, or check the run's name.")
    problem = zip_problem(path)
    try:
        if problem is None:
            return keras.saving.load_model(path, compile=False)
    except Exception as error:  # whatever Keras, h5py and zipfile make of changed bytes
        problem = f"{type(error).__name__}: {str(error)[:300]}"
    raise DataError(
        f"{path} is damaged or no model of this course: {problem}. Restore it, or delete its "
        "folder and train anew."
    )


def fingerprint(value: Any) -> str:
    """Sixteen digits of plain JSON values, whatever the order of their keys."""
    text = json.dumps(_plain(value), sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def slug(text: str) -> str:
    """A text as a part of a run's name: what a name cannot have becomes `-`."""
    return re.sub(r"[^\w.=+-]+", "-", text)[:100].strip(".-") or "own"


# What only tells.
_TELLING = ("device", "source", "trained_on")


def _identity(config: dict) -> dict:
    """What two runs have to share to be the same."""
    own = {key: value for key, value in config.items() if key not in _TELLING}
    if isinstance(own.get("backbone"), dict):  # its hash counts, not where its file lies
        own["backbone"] = {k: v for k, v in own["backbone"].items() if k != "weights"}
    return own


def _changed(before: dict, now: dict) -> list[str]:
    before, now = _identity(before), _identity(now)
    return sorted(key for key in {*before, *now} if before.get(key) != now.get(key))


def versions() -> dict[str, str]:
    """Versions of what the numbers depend on."""
    found = {"course": __version__, "python": platform.python_version()}
    for package in ("keras", "tensorflow", "jax", "torch", "numpy"):
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def git_revision() -> str | None:
    """The commit of the checkout, with `+` where it has uncommitted changes; else `None`."""
    root = repository_root()
    if root is None:
        return None
    try:
        run = {"cwd": root, "capture_output": True, "text": True, "check": True}
        commit = subprocess.run(["git", "rev-parse", "--short=12", "HEAD"], **run).stdout.strip()
        changed = subprocess.run(
            ["git", "status", "--porcelain", "--untracked-files=no"], **run
        ).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return None
    return commit + ("+" if changed else "")


def _plain(value: Any) -> Any:
    """Tuples to lists, paths to strings, NumPy scalars to numbers: what JSON gives back."""
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    if isinstance(value, Path):
        return str(value)
    return value.item() if hasattr(value, "item") else value

"""A run is a folder: its configuration, history, record and model, each file written whole."""

import datetime
import importlib.metadata
import platform
import re
import subprocess
from pathlib import Path
from typing import Any

import keras
import pandas as pd

from common import __version__
from common.errors import ConfigError, DataError
from common.files import read_json, write_atomically, write_json
from common.paths import outputs_dir, repository_root
from common.training import backend


class Run:
    """The folder of one training, `outputs/runs/<name>/`.

    A run that exists is gone on with if its configuration is the same; a run is finished once
    it has a record.

    Args:
        name: Letters, digits, `.`, `_`, `-`, `=`, `+`; may contain `/` for a folder of runs.
        config: What makes this run what it is; plain JSON values.
        root: Folder of all runs, by default `outputs/runs`.

    Raises:
        ConfigError: for a bad name, or a run of that name with another configuration.
    """

    def __init__(self, name: str, config: dict[str, Any], root: Path | None = None):
        if not re.fullmatch(r"[\w.=+-]+(/[\w.=+-]+)*", name) or ".." in name:
            raise ConfigError(
                f"run_name={name!r} cannot be a folder's name. "
                "Use letters, digits and any of . _ - = + only."
            )
        self.name = name
        self.config = _plain(config)
        self.folder = (root or runs_dir()) / name
        config_path = self.folder / "config.json"
        if config_path.exists():
            before = read_json(config_path)
            changed = sorted(
                key for key in {*before, *self.config} if before.get(key) != self.config.get(key)
            )
            if changed:
                raise ConfigError(
                    f"The run {name!r} exists with another configuration (differs in: "
                    f"{', '.join(changed)}). Choose another run_name, or delete {self.folder}."
                )
        else:
            write_json(config_path, self.config)

    @property
    def finished(self) -> bool:
        return (self.folder / "record.json").exists()

    @property
    def record(self) -> dict:
        """The record of a finished run."""
        return read_json(self.folder / "record.json")

    @property
    def history(self) -> pd.DataFrame:
        """A row per epoch: losses, metrics, seconds."""
        return pd.read_csv(self.folder / "history.csv")

    def save_model(self, model: keras.Model) -> Path:
        """Writes `model.keras`."""
        path = self.folder / "model.keras"
        with write_atomically(path) as temporary:
            model.save(temporary)
        return path

    def load_model(self) -> keras.Model:
        """Reads `model.keras`."""
        return read_model(self.folder / "model.keras")

    def save_record(self, **content: Any) -> dict:
        """Writes `record.json`: `content` and where, when and with what it was made."""
        record = {
            "run_name": self.name,
            **self.config,
            **_plain(content),
            "versions": versions(),
            "git_revision": git_revision(),
            "hardware": backend.hardware(),
            "created": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        }
        write_json(self.folder / "record.json", record)
        return record


def runs_dir() -> Path:
    """The folder of all runs."""
    return outputs_dir() / "runs"


def run_folder(run: str | Path) -> Path:
    """The folder of a finished run, by its name under `outputs/runs` or its path.

    Raises:
        ConfigError: if there is none, or it has not finished.
    """
    folder = next((f for f in (runs_dir() / run, Path(run)) if f.is_dir()), None)
    if folder is None:
        raise ConfigError(f"There is no run {str(run)!r} under {runs_dir()}, nor such a folder.")
    if not (folder / "record.json").exists():
        raise ConfigError(f"The run in {folder} has not finished; run its notebook again.")
    return folder


def find_records(root: Path | None = None) -> list[dict]:
    """The records of all finished runs, oldest first."""
    root = root or runs_dir()
    records = [read_json(path) for path in root.rglob("record.json")]
    return sorted(records, key=lambda record: record.get("created", ""))


def read_model(path: str | Path) -> keras.Model:
    """Loads a `.keras` file of the course.

    Raises:
        DataError: if there is none, or it cannot be read.
    """
    import common.layers  # noqa: F401  (registers the layers that the file names)

    path = Path(path)
    if not path.is_file():
        raise DataError(f"There is no model at {path}. Train one first, or check the run's name.")
    try:
        return keras.saving.load_model(path, compile=False)
    except (ValueError, OSError, TypeError, KeyError) as error:
        raise DataError(f"{path} is damaged or no model of this course: {error}") from error


def versions() -> dict[str, str]:
    """Versions of what the numbers depend on."""
    found = {"course": __version__, "python": platform.python_version()}
    for package in ("keras", "tensorflow", "jax", "numpy"):
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

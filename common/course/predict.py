"""Predicts every patch of many slides into one table, at constant memory, resumable."""

import hashlib
import shutil
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from common.course.runner import progress_bar
from common.errors import ConfigError, CourseError, DataError
from common.files import write_atomically

if TYPE_CHECKING:
    from common.data.histopathology import PatchList

SUFFIX = ".parquet"
# Patches read and predicted at once: 15 MB of pixels.
_BLOCK = 2048


def predict(data: Path, output: Path, run: str | None, batch_size: int) -> tuple[Path, dict]:
    """Writes a table of the patches below `data`, a row each, sorted by patient, y and x.

    Columns: `patient` (text), `x`, `y` (int32, pixels of the slide), `label` (int32, from the
    folder's name) and `probability` (float32, of class 1).

    Each patient's part is kept in `output + ".parts"` until the table is whole. Called again
    after a kill or an error, parts made by the same weights of the same files are taken as they
    are.

    Args:
        data: Patches in `<patient>/<0|1>/<patient>_idx<n>_x<X>_y<Y>_class<0|1>.png`.
        output: A path that ends in ".parquet"; a table that is there is replaced.
        run: Name or folder of a run; `None` for the weights that the repository carries.
        batch_size: Patches computed at once.

    Returns:
        The path, and the record of the network.

    Raises:
        ConfigError: for a wrong option or an unknown run.
        DataError: if the folder or files in it cannot be read; the other patients' parts are kept.
        CourseError: if the table cannot be written.
    """
    if output.suffix != SUFFIX or output.is_dir():
        raise ConfigError(f"--output must name a file that ends in {SUFFIX}. Received: {output}")
    if batch_size < 1:
        raise ConfigError(f"--batch-size must be 1 or more. Received: {batch_size}")
    from common.data.histopathology import CLASSES, SIZE, list_patches
    from common.training.released import load_model

    patches = list_patches(data)
    model, record = load_model(run, "phase2_histopathology")
    height, width = model.input_shape[1:3]
    if tuple(record["classes"]) != CLASSES or (height or SIZE, width or SIZE) != (SIZE, SIZE):
        raise ConfigError(
            f"The network of {record['run_name']} tells {', '.join(record['classes'])} on images "
            f"of {width or 'any'} x {height or 'any'} pixels; patches are {SIZE} x {SIZE} and "
            f"{' or '.join(CLASSES)}. Name a run of phase 2."
        )
    parts = output.with_name(output.name + ".parts")
    try:
        parts.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise CourseError(f"Could not make {parts}: {error.strerror}.") from error
    paths = _predict_patients(patches, model, record, parts, batch_size)
    _join(paths, output)
    shutil.rmtree(parts)
    return output, record


def _predict_patients(patches, model, record, parts: Path, batch_size: int) -> list[Path]:
    """The part of each patient, in order; those that are there already are kept."""
    weights = _weights_hash(model, record)
    bounds = np.flatnonzero(np.diff(patches.rows["patient"], prepend=-1, append=-1))
    paths, problems = [], []
    with progress_bar(len(patches), "patch") as bar, ThreadPoolExecutor(1) as reader:
        for start, stop in zip(bounds, bounds[1:], strict=False):
            patient = patches.patients[patches.rows["patient"][start]]
            bar.set_description(str(patient))
            path = parts / f"{_rows_hash(weights, patches, start, stop)}{SUFFIX}"
            if not path.exists():
                try:
                    blocks = _blocks(patches, start, stop, reader)
                    probability = [_probability(model, record, b, batch_size) for b in blocks]
                except DataError as error:
                    problems.append(str(error))
                else:
                    _write_part(path, patches, start, stop, np.concatenate(probability))
            paths.append(path)
            bar.update(stop - start)
    if problems:
        raise DataError(
            "\n".join(problems) + f"\nThe other patients are predicted and kept in {parts}: "
            "run the same again when the files are repaired."
        )
    return paths


def _blocks(patches: "PatchList", start: int, stop: int, reader) -> Iterator[np.ndarray]:
    """The pixels, block by block; the next one is read while this one is computed."""
    starts = range(start, stop, _BLOCK)
    ahead = None
    for first in starts:
        block = ahead or reader.submit(patches.read, first, min(first + _BLOCK, stop))
        follow = first + _BLOCK
        ahead = (
            reader.submit(patches.read, follow, min(follow + _BLOCK, stop))
            if follow < stop
            else None
        )
        yield block.result()


def _probability(model, record, images: np.ndarray, batch_size: int) -> np.ndarray:
    from common.evaluation.classification import predict as probabilities

    return probabilities(model, images, batch_size, tta=record.get("tta", False))[:, 1]


def _weights_hash(model, record) -> bytes:
    digest = hashlib.sha256(str(record.get("tta", False)).encode())
    for weight in model.get_weights():
        digest.update(np.ascontiguousarray(weight))
    return digest.digest()


def _rows_hash(weights: bytes, patches, start: int, stop: int) -> str:
    """Names a part by all that decides it: the network, the patient, and the state of its files."""
    rows = patches.rows[start:stop].copy()
    patient = str(patches.patients[rows["patient"][0]])
    rows["patient"] = 0
    digest = hashlib.sha256(weights + patient.encode() + np.ascontiguousarray(rows).tobytes())
    return digest.hexdigest()[:24]


def _schema():
    import pyarrow

    return pyarrow.schema(
        [
            ("patient", pyarrow.string()),
            ("x", pyarrow.int32()),
            ("y", pyarrow.int32()),
            ("label", pyarrow.int32()),
            ("probability", pyarrow.float32()),
        ]
    )


def _write_part(path: Path, patches, start: int, stop: int, probability: np.ndarray) -> None:
    import pyarrow
    from pyarrow import parquet

    rows = patches.rows[start:stop]
    columns = [
        patches.patients[rows["patient"]],
        *(np.ascontiguousarray(rows[name]) for name in ("x", "y", "label")),
        probability,
    ]
    arrays = [pyarrow.array(c, f.type) for c, f in zip(columns, _schema(), strict=True)]
    with write_atomically(path) as temporary:
        parquet.write_table(pyarrow.Table.from_arrays(arrays, schema=_schema()), temporary)


def _join(parts: list[Path], output: Path) -> None:
    """One table of all parts, of which one at a time is in memory."""
    from pyarrow import parquet

    with (
        write_atomically(output) as temporary,
        parquet.ParquetWriter(temporary, _schema()) as writer,
    ):
        for part in parts:
            writer.write_table(parquet.read_table(part, schema=_schema()))


def score(table: Path, threshold: float) -> tuple[dict, dict[str, str]]:
    """Scores of a table's predictions against its labels, and why some cannot be computed.

    Returns:
        `n`, `patients`, `threshold` and the scores of `binary_scores`, `None` where there is none;
        and the reason for each of those.
    """
    import pandas as pd

    from common.evaluation.binary import binary_scores, what_is_missing

    columns = pd.read_parquet(table)
    labels, probability = columns["label"].to_numpy(), columns["probability"].to_numpy()
    scores = binary_scores(labels, probability, threshold)
    missing = what_is_missing(labels, probability, threshold)
    values = {name: None if name in missing else value for name, value in scores.items()}
    found = {
        "n": values.pop("n"),
        "patients": int(columns["patient"].nunique()),
        "threshold": threshold,
        **values,
    }
    return found, missing

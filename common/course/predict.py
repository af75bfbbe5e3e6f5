"""Predicts every patch of many slides into one table, at constant memory, resumable."""

import hashlib
import logging
import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from common.course.parts import is_special, kept_parts, part_name
from common.course.runner import progress_bar
from common.errors import ConfigError, DataError
from common.files import check_output, write_atomically
from common.paths import display

if TYPE_CHECKING:
    from common.data.histopathology import PatchList

logger = logging.getLogger(__name__)

SUFFIX = ".parquet"
# Patches read and predicted at once: 15 MB of pixels.
_BLOCK = 2048


def predict(
    data: Path, output: Path, run: str | None, batch_size: int
) -> tuple[dict, dict[str, str]]:
    """Writes a table of the patches below `data`, a row each, sorted by patient, y and x.

    Columns: `patient` (text), `x`, `y` (int32, pixels of the slide), `label` (int32, from the
    folder's name) and `probability` (float32, of class 1).

    Each patient's part is kept in `output + ".parts"` until the table is whole. Called again
    after a kill or an error, parts made by the same weights of the same files are taken as they
    are, and so is a whole table. Another process that writes the same table is waited for.

    Args:
        data: Patches in `<patient>/<0|1>/<patient>_idx<n>_x<X>_y<Y>_class<0|1>.png`.
        output: A path that ends in ".parquet"; a table that is there is replaced.
        run: Name or folder of a run; `None` for the weights that the repository carries.
        batch_size: Patches computed at once.

    Returns:
        Of the predictions against the labels: see `score`.

    Raises:
        ConfigError: for a wrong option or an unknown run.
        DataError: if the folder or files in it cannot be read; the other patients' parts are kept.
        CourseError: if the table cannot be written, which is found out before the work.
    """
    if os.path.isdir(output) or (output.suffix != SUFFIX and not is_special(output)):
        raise ConfigError(f"--output must name a file that ends in {SUFFIX}. Received: {output}")
    if batch_size < 1:
        raise ConfigError(f"--batch-size must be 1 or more. Received: {batch_size}")
    from common.data.histopathology import CLASSES, SIZE, list_patches
    from common.training.released import load_model

    check_output(output)
    patches = list_patches(data)
    model, record = load_model(run, "phase2_histopathology")
    height, width = model.input_shape[1:3]
    if tuple(record["classes"]) != CLASSES or (height or SIZE, width or SIZE) != (SIZE, SIZE):
        raise ConfigError(
            f"The network of {record['run_name']} tells {', '.join(record['classes'])} on images "
            f"of {width or 'any'} x {height or 'any'} pixels; patches are {SIZE} x {SIZE} and "
            f"{' or '.join(CLASSES)}. Name a run of phase 2."
        )
    with kept_parts(output) as parts:
        named = _name_parts(patches, model, record, parts)
        key = part_name("".join(path.name for path in named).encode(), "")
        if not _is_whole(output, len(patches), key):
            _predict_patients(patches, named, model, record, batch_size)
            _join(list(named), output, key)
        return score(list(named) if is_special(output) else [output], record["threshold"])


def _name_parts(patches, model, record, folder: Path) -> dict[Path, tuple[int, int]]:
    """The path of each patient's part, in order, and between which rows the patient stands."""
    weights = _weights_hash(model, record)
    bounds = np.flatnonzero(np.diff(patches.rows["patient"], prepend=-1, append=-1)).tolist()
    return {
        folder / _part_name(weights, patches, start, stop): (start, stop)
        for start, stop in zip(bounds, bounds[1:], strict=False)
    }


def _predict_patients(patches, named, model, record, batch_size: int) -> None:
    """Makes the parts that are not there yet, or are damaged."""
    problems = []
    with progress_bar(len(patches), "patch") as bar, ThreadPoolExecutor(1) as reader:
        for path, (start, stop) in named.items():
            bar.set_description(display(patches.patients[patches.rows["patient"][start]]))
            if not _is_whole(path, stop - start, path.stem):
                try:
                    blocks = _blocks(patches, start, stop, reader)
                    probability = [_probability(model, record, b, batch_size) for b in blocks]
                except DataError as error:
                    problems.append(str(error))
                else:
                    _write_part(path, patches, start, stop, np.concatenate(probability))
            bar.update(stop - start)
    if problems:
        folder = next(iter(named)).parent
        raise DataError(
            "\n".join(problems) + f"\nThe other patients are predicted and kept in {folder}: "
            "run the same again when the files are repaired."
        )


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


def _part_name(weights: bytes, patches, start: int, stop: int) -> str:
    """By all that decides a part: the network, the patient, and the state of its files."""
    rows = patches.rows[start:stop].copy()
    patient = str(patches.patients[rows["patient"][0]])
    rows["patient"] = 0
    content = weights + patient.encode("utf-8", "surrogatepass")
    return part_name(content + np.ascontiguousarray(rows).tobytes(), SUFFIX)


def _schema(key: str | None = None):
    import pyarrow

    fields = [
        ("patient", pyarrow.string()),
        ("x", pyarrow.int32()),
        ("y", pyarrow.int32()),
        ("label", pyarrow.int32()),
        ("probability", pyarrow.float32()),
    ]
    return pyarrow.schema(fields, None if key is None else {_KEY: key})


_KEY = b"course"  # in a file's metadata: what it was made of


def _is_whole(path: Path, n_rows: int, key: str) -> bool:
    """Whether a table is there as it was written, of just this."""
    import pyarrow
    from pyarrow import parquet

    if not path.is_file():
        return False
    try:
        with parquet.ParquetFile(path, page_checksum_verification=True) as file:
            schema = file.schema_arrow
            if (schema.metadata or {}).get(_KEY) != key.encode() or schema != _schema():
                return False
            return sum(batch.num_rows for batch in file.iter_batches()) == n_rows
    except (OSError, ValueError, pyarrow.ArrowException) as error:
        logger.warning("%s is damaged (%s): made again.", display(path), display(error)[:200])
        return False


def _write_part(path: Path, patches, start: int, stop: int, probability: np.ndarray) -> None:
    import pyarrow
    from pyarrow import parquet

    rows = patches.rows[start:stop]
    # A folder's name need not be UTF-8, as the table's texts are.
    patient = str(patches.patients[rows["patient"][0]]).encode("utf-8", "backslashreplace").decode()
    columns = [
        np.full(len(rows), patient),
        *(np.ascontiguousarray(rows[name]) for name in ("x", "y", "label")),
        probability,
    ]
    schema = _schema(path.stem)
    arrays = [pyarrow.array(c, f.type) for c, f in zip(columns, schema, strict=True)]
    with write_atomically(path) as temporary:
        table = pyarrow.Table.from_arrays(arrays, schema=schema)
        parquet.write_table(table, temporary, write_page_checksum=True)


def _join(parts: list[Path], output: Path, key: str) -> None:
    """One table of all parts, of which one at a time is in memory."""
    from pyarrow import parquet

    schema = _schema(key)
    with (
        write_atomically(output) as temporary,
        parquet.ParquetWriter(temporary, schema, write_page_checksum=True) as writer,
    ):
        for part in parts:
            table = parquet.read_table(part, schema=_schema(), partitioning=None)
            writer.write_table(table.replace_schema_metadata(schema.metadata))


def score(tables: list[Path], threshold: float) -> tuple[dict, dict[str, str]]:
    """Scores of tables' predictions against their labels, and why some cannot be computed.

    Returns:
        `n`, `patients`, `threshold` and the scores of `binary_scores`, `None` where there is none;
        and the reason for each of those.
    """
    import pandas as pd

    from common.evaluation.binary import binary_scores, what_is_missing

    columns = pd.concat(map(pd.read_parquet, tables))
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

"""Predicts every patch of many slides into one table, at constant memory, resumable."""

import logging
import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from common.course.names import figure_names, spare, utf8
from common.course.parts import is_special, kept_parts, part_name, weights_hash
from common.errors import ConfigError, DataError
from common.files import check_output, write_atomically
from common.paths import display
from common.progress import progress_bar

if TYPE_CHECKING:
    from common.data.histopathology import PatchList
    from common.data.unlabelled_patches import UnlabelledPatches

    Patches = PatchList | UnlabelledPatches

logger = logging.getLogger(__name__)

SUFFIX = ".parquet"
# Patches read and predicted at once: 15 MB of pixels.
_BLOCK = 2048


def check(data: Path, output: Path | None, maps: Path | None) -> "Patches":
    """What is told before a backend is started: the patches, and whether there is room for answers.

    Args:
        data: See `common.data.unlabelled_patches.find_patches`.
        output: A path that ends in ".parquet".
        maps: Folder for a figure of each patient's slide, or `None`.

    Raises:
        ConfigError: for a wrong option.
        DataError: if the folder cannot be read, or no slide can be drawn.
        CourseError: if table or figures cannot be written.
    """
    if output is None:
        raise ConfigError(f"--output is missing: name the table to write, TABLE{SUFFIX}.")
    if os.path.isdir(output) or (output.suffix != SUFFIX and not is_special(output)):
        raise ConfigError(f"--output must name a file that ends in {SUFFIX}. Received: {output}")
    check_output(output)
    from common.data.unlabelled_patches import find_patches

    patches = find_patches(data)
    if maps is not None:
        if not (patches.rows["x"] >= 0).any():
            raise DataError(
                f"{display(data)}: no patch's place on its slide is known, and --maps has nothing "
                "to draw. File names tell places as in <name>_x51_y1251.png: rename the files, or "
                "leave --maps out."
            )
        figures = _figures(patches, maps)
        check_output(max(figures, key=lambda path: len(os.fsencode(path.name))))
        names = {figure.name.casefold() for figure in figures}
        sources = patches.sources(0, len(patches))
        alike = [name for name in sources if os.path.basename(name).casefold() in names]
        spare([patches.root / name for name in alike], figures, "--maps")
    return patches


def predict(
    patches: "Patches", output: Path, run: str | None, batch_size: int, maps: Path | None = None
) -> tuple[dict, dict[str, str], list[str]]:
    """Writes a table of patches, a row each, sorted by patient, y and x.

    Columns: `patient` (text), `x`, `y` (int32, pixels of the slide), `label` (int32, from the
    folder's name) and `probability` (float32, of class 1). Of unlabelled patches, sorted by
    patient and name: `patient`, `file` (below the folder of them all), `x`, `y` (null where the
    name does not tell) and `probability`.

    Each patient's part is kept in `output + ".parts"` until the table is whole. Called again
    after a kill or an error, parts made by the same weights of the same files are taken as they
    are, and so is a whole table. Another process that writes the same table is waited for.

    Args:
        patches: From `check`.
        output: The table; one that is there is replaced.
        run: Name or folder of a run; `None` for the weights that the repository carries.
        batch_size: Patches computed at once.
        maps: Folder for a figure of each patient's slide, or `None`.

    Returns:
        Of the predictions against the labels: see `score`, or `count` where there are none; and
        which patients could not be drawn whole, and why.

    Raises:
        ConfigError: for an unknown run, or one of another kind.
        DataError: if files cannot be read; the other patients' parts are kept.
        CourseError: if the table cannot be written.
    """
    from common.data.histopathology import CLASSES, SIZE
    from common.training.store import load_model

    model, record = load_model(run, "phase2_histopathology")
    height, width = model.input_shape[1:3]
    if tuple(record["classes"]) != CLASSES or (height or SIZE, width or SIZE) != (SIZE, SIZE):
        raise ConfigError(
            f"The network of {record['run_name']} tells {', '.join(record['classes'])} on images "
            f"of {width or 'any'} x {height or 'any'} pixels; patches are {SIZE} x {SIZE} and "
            f"{' or '.join(CLASSES)}. Name a run of phase 2."
        )
    threshold, told = record.get("threshold"), []
    if not isinstance(threshold, (int, float)):
        raise ConfigError(
            f"The record of {record['run_name']} has no threshold from which on a patch is called "
            f"{CLASSES[1]}: its lesson did not come to its end. Run that lesson again; it goes on."
        )
    with kept_parts(output) as parts:
        named = _name_parts(patches, model, record, parts)
        key = part_name("".join(path.name for path in named).encode(), "")
        schema = _schema(patches)
        if not _is_whole(output, len(patches), key, schema):
            _predict_patients(patches, named, model, record, batch_size)
            _join(list(named), output, key, schema)
        tables = list(named) if is_special(output) else [output]
        if maps is not None:
            told = _draw(tables, list(named.values()), _figures(patches, maps), threshold)
        judge = score if is_labelled(patches) else count
        scores, missing = judge(tables, threshold)
    if run is None:
        logger.warning(
            "The network is the one that comes with the course: what it is good for stands in "
            "phase2_histopathology/MODEL_CARD.md. --run names one of your own."
        )
    _tell_of_known(patches, record)
    return scores, missing, told


def _tell_of_known(patches: "Patches", record: dict) -> None:
    """Scores of patients that a network was trained on tell nothing of others."""
    known = set(record.get("trained_on") or []) & set(map(str, patches.patients))
    if not known:
        return
    metrics = record.get("metrics") or {}
    names = ("left_out_f1", "test_f1")
    held = [f" Of others its F1 was {metrics[name]:.1%}." for name in names if metrics.get(name)]
    logger.warning(
        "%d of these %d patients have names of patients that the network %s was trained on: if "
        "they are the same, scores here are too good.%s",
        len(known),
        len(patches.patients),
        record["run_name"],
        "".join(held[:1]),
    )


def is_labelled(patches: "Patches") -> bool:
    return "label" in patches.rows.dtype.names


def _name_parts(patches, model, record, folder: Path) -> dict[Path, tuple[int, int]]:
    """The path of each patient's part, in order, and between which rows the patient stands."""
    weights = weights_hash(model, record.get("tta", False))
    bounds = np.flatnonzero(np.diff(patches.rows["patient"], prepend=-1, append=-1)).tolist()
    return {
        folder / _part_name(weights, patches, start, stop): (start, stop)
        for start, stop in zip(bounds, bounds[1:], strict=False)
    }


def _predict_patients(patches, named, model, record, batch_size: int) -> None:
    """Makes the parts that are not there yet, or are damaged."""
    from common.data.histopathology import tell_padded

    problems, padded, schema = [], [], _schema(patches)
    with progress_bar(total=len(patches), unit=" patches") as bar, ThreadPoolExecutor(1) as reader:
        for path, (start, stop) in named.items():
            bar.set_description(display(patches.patients[patches.rows["patient"][start]]))
            if not _is_whole(path, stop - start, path.stem, schema):
                try:
                    blocks = _blocks(patches, start, stop, reader, padded)
                    probability = [_probability(model, record, b, batch_size) for b in blocks]
                except DataError as error:
                    problems.append(str(error))
                else:
                    _write_part(path, patches, start, stop, np.concatenate(probability))
            bar.update(stop - start)
    tell_padded(patches.root, len(padded), len(patches))
    if problems:
        folder = next(iter(named)).parent
        raise DataError(
            "\n".join(problems) + f"\nThe other patients are predicted and kept in {folder}: "
            "run the same again when the files are repaired."
        )


def _blocks(
    patches: "Patches", start: int, stop: int, reader, padded: list[int]
) -> Iterator[np.ndarray]:
    """The pixels, block by block; the next one is read while this one is computed."""
    starts = range(start, stop, _BLOCK)
    ahead = None
    for first in starts:
        block = ahead or reader.submit(patches.read, first, min(first + _BLOCK, stop), padded)
        follow = first + _BLOCK
        ahead = (
            reader.submit(patches.read, follow, min(follow + _BLOCK, stop), padded)
            if follow < stop
            else None
        )
        yield block.result()


def _probability(model, record, images: np.ndarray, batch_size: int) -> np.ndarray:
    from common.evaluation.classification import predict as probabilities

    return probabilities(model, images, batch_size, tta=record.get("tta", False))[:, 1]


def _part_name(weights: bytes, patches, start: int, stop: int) -> str:
    """By all that decides a part: the network, the patient, names and state of its files."""
    rows = patches.rows[start:stop].copy()
    patient = str(patches.patients[rows["patient"][0]])
    rows["patient"] = 0
    names = "" if is_labelled(patches) else "/".join(patches.sources(start, stop))
    content = weights + f"{patient}{names}".encode("utf-8", "surrogatepass")
    return part_name(content + np.ascontiguousarray(rows).tobytes(), SUFFIX)


def _schema(patches: "Patches | None" = None, key: str | None = None):
    import pyarrow

    labelled = patches is None or is_labelled(patches)
    fields = [("patient", pyarrow.string())]
    fields += [] if labelled else [("file", pyarrow.string())]
    fields += [("x", pyarrow.int32()), ("y", pyarrow.int32())]
    fields += [("label", pyarrow.int32())] if labelled else []
    fields += [("probability", pyarrow.float32())]
    return pyarrow.schema(fields, None if key is None else {_KEY: key})


_KEY = b"course"  # in a file's metadata: what it was made of


def _is_whole(path: Path, n_rows: int, key: str, schema=None) -> bool:
    """Whether a table is there as it was written, of just this."""
    import pyarrow
    from pyarrow import parquet

    if not path.is_file():
        return False
    try:
        with parquet.ParquetFile(path, page_checksum_verification=True) as file:
            found = file.schema_arrow
            if (found.metadata or {}).get(_KEY) != key.encode() or found != (schema or _schema()):
                return False
            return sum(batch.num_rows for batch in file.iter_batches()) == n_rows
    except (OSError, ValueError, pyarrow.ArrowException) as error:
        logger.warning("%s is damaged (%s): made again.", display(path), display(error)[:200])
        return False


def _write_part(path: Path, patches, start: int, stop: int, probability: np.ndarray) -> None:
    import pyarrow
    from pyarrow import parquet

    rows = patches.rows[start:stop]
    columns = {"patient": np.full(len(rows), utf8(patches.patients[rows["patient"][0]]))}
    for name in ("x", "y"):
        # Below 0: not known.
        columns[name] = pyarrow.array(np.ascontiguousarray(rows[name]), mask=rows[name] < 0)
    if is_labelled(patches):
        columns["label"] = np.ascontiguousarray(rows["label"])
    else:
        columns["file"] = list(map(utf8, patches.sources(start, stop)))
    columns["probability"] = probability
    schema = _schema(patches, path.stem)
    arrays = [pyarrow.array(columns[field.name], field.type) for field in schema]
    with write_atomically(path) as temporary:
        table = pyarrow.Table.from_arrays(arrays, schema=schema)
        parquet.write_table(table, temporary, write_page_checksum=True)


def _join(parts: list[Path], output: Path, key: str, schema) -> None:
    """One table of all parts, of which one at a time is in memory."""
    from pyarrow import parquet

    keyed = schema.with_metadata({_KEY: key})
    with (
        write_atomically(output) as temporary,
        parquet.ParquetWriter(temporary, keyed, write_page_checksum=True) as writer,
    ):
        for part in parts:
            table = parquet.read_table(part, schema=schema, partitioning=None)
            writer.write_table(table.replace_schema_metadata(keyed.metadata))


def _figures(patches: "Patches", folder: Path) -> list[Path]:
    """Where each patient's slide is drawn."""
    return [folder / name for name in figure_names([Path(f"{p}.png") for p in patches.patients])]


def _draw(tables: list[Path], bounds: list, figures: list[Path], threshold: float) -> list[str]:
    """A figure of each patient's slide; returns of whom patches have no known place."""
    import pandas as pd

    from common import plots
    from common.data.histopathology import CLASSES
    from common.data.unlabelled_patches import slide_cells

    whole = pd.concat(map(pd.read_parquet, tables))
    problems = []
    drawing = zip(bounds, figures, strict=True)
    for (start, stop), figure in progress_bar(drawing, "drawing", total=len(figures)):
        rows = whole.iloc[start:stop]
        patient, placed = rows["patient"].iloc[0], rows[rows["x"].notna()]
        if len(placed) < len(rows):
            problems.append(
                f"Not drawn: {len(rows) - len(placed):,} of {len(rows):,} patches of {patient}, as "
                "no place on the slide is known. File names tell it as in <name>_x51_y1251.png."
            )
        if len(placed):
            cells = slide_cells(placed["x"], placed["y"], placed["probability"])
            truths = None
            if "label" in placed:
                truths = {patient: slide_cells(placed["x"], placed["y"], placed["label"])}
            share = (placed["probability"] >= threshold).mean()
            drawn = plots.probability_maps(
                {patient: cells},
                truths,
                threshold,
                classes=CLASSES,
                title=f"{share:.1%} of {len(placed):,} patches are called {CLASSES[1]}",
            )
            plots.save_figure(drawn, figure, scale=2)  # looked at alone, not in a notebook
    return problems


def count(tables: list[Path], threshold: float) -> tuple[dict, dict[str, str]]:
    """How many patches there are, and how many are called positive; nothing is missing."""
    import pandas as pd

    columns = pd.concat(pd.read_parquet(t, columns=["patient", "probability"]) for t in tables)
    found = {
        "n": len(columns),
        "patients": int(columns["patient"].nunique()),
        "threshold": threshold,
        "positives": int((columns["probability"] >= threshold).sum()),
    }
    return found, {}


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

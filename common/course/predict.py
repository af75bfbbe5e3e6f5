"""Predicts every patch of many slides into one table, at constant memory, resumable."""

import json
import logging
import os
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from common.course import parts
from common.course.names import figure_names, spare, utf8
from common.data.listing import some
from common.errors import ConfigError, DataError
from common.files import check_output, write_atomically
from common.paths import display
from common.progress import progress_bar

if TYPE_CHECKING:
    import keras

    from common.data.histopathology import PatchList
    from common.data.unlabelled_patches import UnlabelledPatches

    Patches = PatchList | UnlabelledPatches

logger = logging.getLogger(__name__)

SUFFIX = ".parquet"
# Told in words, with intervals over patients.
HEADLINE = ("f1", "weighted_f1", "balanced_accuracy")
# Patches read and predicted at once: 15 MB of pixels.
_BLOCK = 2048
_PIXELS = 480  # of a slide's picture, on its longer side


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
    parts.check_suffix(output, SUFFIX)
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


class Part(NamedTuple):
    """A patient's patches, and where what the network says of them is kept."""

    path: Path
    start: int
    stop: int
    network: "keras.Model"


def predict(
    patches: "Patches",
    output: Path,
    run: str | None,
    batch_size: int,
    maps: Path | None = None,
    left_out: bool = False,
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
        left_out: Whether each patient is predicted only by those networks of an ensemble that were
            not trained on a patient of that name.

    Returns:
        Of the predictions against the labels, see `_judge`; and which patients could not be drawn
        whole, and why.

    Raises:
        ConfigError: for an unknown run, or one of another kind, or if with `left_out` all of its
            networks were trained on a patient.
        DataError: if files cannot be read; the other patients' parts are kept.
        CourseError: if the table cannot be written.
    """
    from common.data.histopathology import CLASSES, SIZE
    from common.training.released import load_model

    model, record = load_model(run, "phase2_histopathology")
    height, width = model.input_shape[1:3]
    if tuple(record["classes"]) != CLASSES or (height or SIZE, width or SIZE) != (SIZE, SIZE):
        raise ConfigError(
            f"The network of {record['run_name']} tells {', '.join(record['classes'])} on images "
            f"of {width or 'any'} x {height or 'any'} pixels; patches are {SIZE} x {SIZE} and "
            f"{' or '.join(CLASSES)}. Name a run of phase 2."
        )
    threshold, told, labelled = record.get("threshold"), [], is_labelled(patches)
    if not isinstance(threshold, (int, float)):
        raise ConfigError(
            f"The record of {record['run_name']} has no threshold from which on a patch is called "
            f"{CLASSES[1]}: its lesson did not come to its end. Run that lesson again; it goes on."
        )
    with parts.kept_parts(output) as folder:
        patients = _patients(patches, model, record, folder, left_out)
        made_of = "".join(part.path.name for part in patients)
        if "neighbours" in record:
            made_of += json.dumps(record["neighbours"])
        key = parts.part_name(made_of.encode())
        bounds = [(part.start, part.stop) for part in patients]
        probability = read_table(output, len(patches), key, labelled)
        if probability is None:
            probability = _predict_patients(patches, patients, record, batch_size)
            probability = _with_neighbours(patches, probability, record)
            write_table(output, patches, probability, bounds, key)
        if maps is not None:
            told = _draw(patches, probability, bounds, _figures(patches, maps), threshold)
    scores, missing = _judge(patches, probability, threshold)
    if run is None:
        logger.warning(
            "The network is the one that comes with the course: what it is good for stands in "
            "phase2_histopathology/MODEL_CARD.md. --run names one of your own."
        )
    if not left_out:
        _tell_of_known(patches, record)
    return scores, missing, told


def _tell_of_known(patches: "Patches", record: dict) -> None:
    """Scores of patients that a network was trained on tell nothing of others."""
    from common.training.store import trained_on

    seen = trained_on(record)
    patients = set(map(str, patches.patients))
    known = set.union(*seen) & patients
    if not known:
        return
    metrics = record.get("metrics") or {}
    names = ("left_out_f1", "test_f1")
    held = [f" Of others its F1 was {metrics[name]:.1%}." for name in names if metrics.get(name)]
    logger.warning(
        "%d of these %d patients have names of patients that the network %s was trained on: if "
        "they are the same, scores here are too good.%s%s",
        len(known),
        len(patches.patients),
        record["run_name"],
        "".join(held[:1]),
        "" if set.intersection(*seen) & patients else " --left-out asks those that have not.",
    )


def is_labelled(patches: "Patches") -> bool:
    return "label" in patches.rows.dtype.names


def _patients(patches, model, record, folder: Path, left_out: bool) -> list[Part]:
    """Each patient's part, in order."""
    edges = np.flatnonzero(np.diff(patches.rows["patient"], prepend=-1, append=-1)).tolist()
    bounds = list(zip(edges, edges[1:], strict=False))
    names = [str(patches.patients[patches.rows["patient"][start]]) for start, _ in bounds]
    networks = _left_out(model, record, names) if left_out else [model] * len(names)
    hashes = {
        network: parts.weights_hash(network, record.get("tta", False))
        for network in dict.fromkeys(networks)
    }
    return [
        Part(folder / _part_name(hashes[network], patches, start, stop), start, stop, network)
        for network, (start, stop) in zip(networks, bounds, strict=True)
    ]


def _left_out(model, record, names: list[str]) -> "list[keras.Model]":
    """For each patient the network that has not seen her: those members of it, or one of them."""
    from common.models.ensemble import Ensemble, members_of
    from common.training.store import trained_on

    seen = trained_on(record)
    if not all(seen):
        raise ConfigError(
            f"The record of {record['run_name']} does not say which patients it was trained on. "
            "Leave --left-out out."
        )
    members = members_of(model)
    may_speak = [tuple(i for i, known in enumerate(seen) if name not in known) for name in names]
    if nobody := [name for name, chosen in zip(names, may_speak, strict=True) if not chosen]:
        raise ConfigError(
            f"{record['run_name']} was trained on patients named {some(nobody)}: nobody is left to "
            "judge them. Leave these patients or --left-out out, or name another network."
        )
    made = {tuple(range(len(members))): model}
    for chosen in may_speak:
        if chosen not in made:
            speak = [members[i] for i in chosen]
            made[chosen] = speak[0] if len(speak) == 1 else Ensemble(speak)
    return [made[chosen] for chosen in may_speak]


def _predict_patients(patches, patients: list[Part], record, batch_size: int) -> np.ndarray:
    """Probabilities of all patches; makes the parts that are not there yet, or are damaged."""
    from common.data.histopathology import tell_padded

    found, problems, padded = [], [], []
    with progress_bar(total=len(patches), unit=" patches") as bar, ThreadPoolExecutor(1) as reader:

        def begin(first: int) -> Future:
            return reader.submit(patches.read, first, min(first + _BLOCK, stop), padded)

        for path, start, stop, network in patients:
            bar.set_description(display(patches.patients[patches.rows["patient"][start]]))
            part = parts.load_part(path, stop - start)
            if part is None:
                try:
                    # The next block is read while one is computed.
                    blocks = [
                        _probability(network, record, block.result(), batch_size)
                        for block in parts.one_ahead(begin, range(start, stop, _BLOCK))
                    ]
                    part = {"probability": np.concatenate(blocks)}
                    parts.save_part(path, **part)
                except DataError as error:
                    problems.append(str(error))
            if part is not None:
                found.append(part["probability"])
            bar.update(stop - start)
    tell_padded(patches.root, len(padded), len(patches))
    if problems:
        raise DataError(
            "\n".join(problems) + "\nThe other patients are predicted and kept in "
            f"{patients[0].path.parent}: run the same again when the files are repaired."
        )
    return np.concatenate(found)


def _with_neighbours(patches: "Patches", probability: np.ndarray, record: dict) -> np.ndarray:
    """Probabilities that count the patches around each, where the record says how."""
    if "neighbours" not in record:
        return probability
    from scipy.special import expit, logit

    from common.evaluation.neighbours import Neighbourhood

    rows, edge = patches.rows, np.finfo("float32").eps  # float32 rounds to 0 and 1
    z = logit(np.clip(probability.astype("float64"), edge, 1 - edge))
    around = Neighbourhood(**record["neighbours"])
    places = np.stack([rows["x"], rows["y"]], axis=1)
    return expit(around(z, rows["patient"], places)).astype("float32")


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
    return parts.part_name(content + np.ascontiguousarray(rows).tobytes())


def _schema(labelled: bool, key: str):
    import pyarrow

    fields = [("patient", pyarrow.string())]
    fields += [] if labelled else [("file", pyarrow.string())]
    fields += [("x", pyarrow.int32()), ("y", pyarrow.int32())]
    fields += [("label", pyarrow.int32())] if labelled else []
    fields += [("probability", pyarrow.float32())]
    return pyarrow.schema(fields, {_KEY: key})


_KEY = b"course"  # in a file's metadata: what it was made of


def read_table(path: Path, n_rows: int, key: str, labelled: bool) -> np.ndarray | None:
    """The probabilities of a table of just this as it was written; `None` if there is none."""
    import pyarrow
    from pyarrow import parquet

    if not path.is_file():
        return None
    schema = _schema(labelled, key)
    try:
        with parquet.ParquetFile(path, page_checksum_verification=True) as file:
            if not file.schema_arrow.equals(schema, check_metadata=True):
                return None
            batches = [batch["probability"].to_numpy() for batch in file.iter_batches()]
    except (OSError, ValueError, pyarrow.ArrowException) as error:
        parts.tell_damaged(path, error)
        return None
    probability = np.concatenate([np.empty(0, "float32"), *batches])
    return probability if len(probability) == n_rows else None


def write_table(
    path: Path, patches: "Patches", probability: np.ndarray, bounds: list[tuple[int, int]], key: str
) -> None:
    """Writes the table patient by patient, with the key of what it is made of."""
    import pyarrow
    from pyarrow import parquet

    schema = _schema(is_labelled(patches), key)
    with (
        write_atomically(path) as temporary,
        parquet.ParquetWriter(temporary, schema, write_page_checksum=True) as writer,
    ):
        for start, stop in bounds:
            rows = patches.rows[start:stop]
            patient = utf8(patches.patients[rows["patient"][0]])
            columns = {name: np.ascontiguousarray(rows[name]) for name in rows.dtype.names}
            columns |= {"patient": [patient] * len(rows), "probability": probability[start:stop]}
            if not is_labelled(patches):
                columns["file"] = [utf8(name) for name in patches.sources(start, stop)]
            unknown = {name: rows[name] < 0 for name in ("x", "y")}
            arrays = [
                pyarrow.array(columns[name], type_, unknown.get(name))
                for name, type_ in zip(schema.names, schema.types, strict=True)
            ]
            writer.write_table(pyarrow.Table.from_arrays(arrays, schema=schema))


def _figures(patches: "Patches", folder: Path) -> list[Path]:
    """Where each patient's slide is drawn."""
    return [folder / name for name in figure_names([Path(f"{p}.png") for p in patches.patients])]


def _draw(patches, probability, bounds, figures: list[Path], threshold: float) -> list[str]:
    """A figure of each patient's slide; returns of whom patches have no known place."""
    from common import plots
    from common.data.histopathology import CLASSES, SIZE, put_together
    from common.data.unlabelled_patches import slide_cells

    def images(start: int, stop: int, known: np.ndarray) -> Iterator[np.ndarray]:
        for first in range(start, stop, _BLOCK):
            block = patches.read(first, min(first + _BLOCK, stop))
            yield from block[known[first - start :][: len(block)]]

    problems = []
    drawing = zip(bounds, figures, strict=True)
    for (start, stop), figure in progress_bar(drawing, "drawing", total=len(figures)):
        rows, values = patches.rows[start:stop], probability[start:stop]
        patient, known = utf8(patches.patients[rows["patient"][0]]), rows["x"] >= 0
        if not known.all():
            problems.append(
                f"Not drawn: {(~known).sum():,} of {len(rows):,} patches of {patient}, as no place "
                "on the slide is known. File names tell it as in <name>_x51_y1251.png."
            )
        if known.any():
            rows, values = rows[known], values[known]
            places = np.stack([rows["x"], rows["y"]], axis=1).astype(int)
            scale = min(1, _PIXELS / (np.ptp(places, axis=0).max() + SIZE))
            tissue = put_together(images(start, stop, known), places, scale)
            truths = None
            if is_labelled(patches):
                truths = {patient: slide_cells(rows["x"], rows["y"], rows["label"])}
            drawn = plots.probability_maps(
                {patient: slide_cells(rows["x"], rows["y"], values)},
                truths,
                threshold,
                {patient: tissue},
                classes=CLASSES,
                title=f"{(values >= threshold).mean():.1%} of {len(rows):,} patches are called "
                f"{CLASSES[1]}",
            )
            plots.save_figure(drawn, figure)
    return problems


def _judge(
    patches: "Patches", probability: np.ndarray, threshold: float
) -> tuple[dict, dict[str, str]]:
    """What is called positive, or the scores where there are labels.

    Returns:
        `n`, `patients`, `threshold`, and `positives` or the scores of `binary_scores`, `None` where
        there is none, some of them with their 95 % interval over patients (`f1_low`, ...); and the
        reason for each that there is not.
    """
    about = {"n": len(patches), "patients": len(patches.patients), "threshold": threshold}
    if not is_labelled(patches):
        return about | {"positives": int((probability >= threshold).sum())}, {}
    from common.evaluation.binary import binary_scores, patient_bootstrap, what_is_missing

    labels = patches.rows["label"].astype("int32")
    missing = what_is_missing(labels, probability, threshold)
    scores = binary_scores(labels, probability, threshold) | dict.fromkeys(missing)
    patients = patches.rows["patient"]
    table = patient_bootstrap(labels, probability, patients, threshold, HEADLINE)
    for name, row in table.iterrows():
        scores |= {f"{name}_{end}": row[end] for end in ("low", "high") if np.isfinite(row[end])}
    return about | scores, missing

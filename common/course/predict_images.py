"""Labels and probabilities of images that nobody has labelled, resumable."""

import csv
import logging
import math
import os
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import numpy as np

from common.course.names import spare, utf8
from common.course.parts import is_special, kept_parts, part_name, weights_hash
from common.errors import ConfigError, DataError
from common.files import check_output, write_atomically
from common.paths import display
from common.progress import progress_bar

logger = logging.getLogger(__name__)

SUFFIXES = (".csv", ".parquet")
COLUMNS = ("path", "label", "probability")
# Images in memory at a time, and in a part; an own photo may take half a second to read.
_BLOCK = 512
_SIZE = 32  # of images, as `load_images` reads them for training


class Labelled(NamedTuple):
    """What became of images.

    Args:
        counts: How many images have which label, the most frequent first.
        problems: Why images could not be read.
        temperature: That the probabilities were calibrated by; `None` if they were not.
        run_name: Of the network.
    """

    counts: dict[str, int]
    problems: list[str]
    temperature: float | None
    run_name: str


def check(paths: list[Path], output: Path | None, recursive: bool) -> list[Path]:
    """What is told before a backend is started: the images, and whether the table has room.

    Args:
        paths: Image files and folders of them.
        output: A path that ends in ".csv" or ".parquet", or `None`.
        recursive: Take the images of folders within folders, too.

    Raises:
        ConfigError: for an output of another kind, or one that is one of the images.
        DataError: if a path does not exist, or a folder has no image.
        CourseError: if the output cannot be written.
    """
    if output is not None:
        wrong = output.suffix.lower() not in SUFFIXES and not is_special(output)
        if os.path.isdir(output) or wrong:
            raise ConfigError(
                f"--output must name a file that ends in {' or '.join(SUFFIXES)}. "
                f"Received: {output}"
            )
        check_output(output)
    from common.data.photos import list_photos

    files = list_photos(paths, recursive=recursive)
    if output is not None:
        spare(files, [output], "--output")
    return files


def predict_images(
    files: list[Path],
    output: Path | None,
    run: str | None,
    batch_size: int,
    tell: Callable[[Path, str, float], None],
) -> Labelled:
    """Labels of images and how probable they are, block by block.

    An image's centre square is taken and resized as in training. Where the run's record has a
    `calibration`, logits are divided by its temperature first. Images that cannot be read are
    left out.

    The table has a row per image in the order of `files`: `path` as given, `label`, its
    `probability`, and a column per class. With `output`, what is done is kept beside it in
    `output + ".parts"` until it is whole; called again after a kill, parts made by the same
    weights of the same files are taken as they are. Another process that writes the same table is
    waited for.

    Args:
        files: From `check`.
        output: The table, CSV or Parquet by its suffix, or `None`.
        run: Name or folder of a run; `None` for the weights that the repository carries.
        batch_size: Images computed at once.
        tell: Called with each image, its label and its probability where there is no `output`.

    Raises:
        ConfigError: for an unknown run, or one of another kind.
        DataError: if its files are damaged.
        CourseError: if the table cannot be written.
    """
    from common.training.store import load_model

    model, record = load_model(run, "phase1_cifar")
    classes, temperature = tuple(record["classes"]), temperature_of(record)
    side = model.input_shape[1] or _SIZE
    blocks = [files[start : start + _BLOCK] for start in range(0, len(files), _BLOCK)]
    counts, problems = Counter(), []

    def rows(block: list[Path], part: _Part) -> Iterator[tuple[Path, str, np.ndarray]]:
        problems.extend(filter(None, part.problems))
        read = [file for file, problem in zip(block, part.problems, strict=True) if not problem]
        probabilities = part.probabilities(temperature)
        best = probabilities.argmax(axis=1)
        for file, row, k in zip(read, probabilities, best, strict=True):
            counts[classes[k]] += 1
            yield file, k, row

    if output is None:
        for block, part in _made(blocks, model, side, batch_size):
            for file, k, row in rows(block, part):
                tell(file, classes[k], float(row[k]))
    else:
        with kept_parts(output) as folder:
            weights = weights_hash(model, side)
            paths = [folder / _part_name(weights, block) for block in blocks]
            missing = [i for i, path in enumerate(paths) if _load(path, len(blocks[i])) is None]
            made = _made([blocks[i] for i in missing], model, side, batch_size)
            for i, (_, part) in zip(missing, made, strict=True):
                _save(paths[i], part)
            with _table(output, classes) as write:
                for block, path in zip(blocks, paths, strict=True):
                    write(list(rows(block, _load(path, len(block)))))
    return Labelled(dict(counts.most_common()), problems, temperature, record["run_name"])


def temperature_of(record: dict) -> float | None:
    """The temperature that a run's record tells, or `None`.

    Raises:
        DataError: if it is none that logits can be divided by.
    """
    found = record.get("calibration")
    if found is None:
        return None
    value = found.get("temperature") if isinstance(found, dict) else None
    if not isinstance(value, (int, float)) or not 0 < value < math.inf:
        raise DataError(
            f"The record of {record.get('run_name')} has a calibration without a temperature "
            f"above 0 ({str(found)[:80]}). Restore the file, or train anew."
        )
    return float(value)


class _Part(NamedTuple):
    """Why images of a block could not be read ("" for those that were), and those's logits."""

    problems: list[str]
    logits: np.ndarray

    def probabilities(self, temperature: float | None) -> np.ndarray:
        from scipy.special import softmax

        return softmax(self.logits / (temperature or 1.0), axis=1)


def _made(blocks, model, side: int, batch_size: int) -> Iterator[tuple[list[Path], _Part]]:
    """Each block and its part; the next block is read while one is computed."""
    from common.data.image_files import one_opencv_thread
    from common.evaluation.classification import predict_logits

    total = sum(map(len, blocks))
    with (
        one_opencv_thread(),
        ThreadPoolExecutor() as pool,
        progress_bar(total=total, unit=" images", disable=total <= _BLOCK) as bar,
    ):
        try:
            ahead = _start(pool, blocks[0], side) if blocks else []
            for i, block in enumerate(blocks):
                results = [future.result() for future in ahead]
                ahead = _start(pool, blocks[i + 1], side) if i + 1 < len(blocks) else []
                images = [result for result in results if isinstance(result, np.ndarray)]
                logits = np.empty((0, model.output_shape[-1]), "float32")
                if images:
                    logits = predict_logits(model, np.stack(images), batch_size)
                problems = ["" if isinstance(r, np.ndarray) else r for r in results]
                yield block, _Part(problems, logits)
                bar.update(len(block))
        finally:
            pool.shutdown(wait=False, cancel_futures=True)


def _start(pool: ThreadPoolExecutor, block: list[Path], side: int) -> list[Future]:
    return [pool.submit(_read, file, side) for file in block]


def _read(file: Path, side: int) -> np.ndarray | str:
    """An image, or why it cannot be read."""
    from common.data.image_files import read_image_file
    from common.data.image_folder import decode_image

    try:
        return decode_image(read_image_file(file), side)
    except (DataError, OSError, ValueError) as error:
        return f"{display(file)}: {getattr(error, 'strerror', None) or error}."
    except MemoryError:
        return f"{display(file)}: there is not enough memory for so large an image."


# --- parts ---


def _part_name(weights: bytes, block: list[Path]) -> str:
    """By all that decides a part: the network, and the names and states of the files."""
    told = []
    for file in block:
        try:
            status = file.stat()
            told.append((str(file), status.st_size, status.st_mtime_ns, status.st_ctime_ns))
        except OSError as error:
            told.append((str(file), str(error)))
    return part_name(weights + repr(told).encode("utf-8", "surrogatepass"), ".npz")


def _save(path: Path, part: _Part) -> None:
    with write_atomically(path) as temporary:
        np.savez(temporary, problems=np.array(part.problems, dtype=str), logits=part.logits)


def _load(path: Path, n: int) -> _Part | None:
    """A part as it was written; `None` if there is none, or it is damaged."""
    if not path.is_file():
        return None
    try:
        with np.load(path, allow_pickle=False) as file:
            part = _Part([str(text) for text in file["problems"]], file["logits"])
        if len(part.problems) != n or len(part.logits) != part.problems.count(""):
            raise ValueError("it is of other images")
    except Exception as error:  # whatever NumPy and zipfile make of damaged bytes
        logger.warning("%s is damaged (%s): made again.", display(path), display(error)[:200])
        return None
    return part


# --- the table ---


@contextmanager
def _table(output: Path, classes: tuple[str, ...]) -> Iterator[Callable]:
    """Gives what writes rows of (file, number of the label, probabilities) into a table."""
    names = [*COLUMNS, *(f"class {name}" if name in COLUMNS else name for name in classes)]
    with write_atomically(output) as temporary:
        if output.suffix.lower() == ".parquet":
            import pyarrow
            from pyarrow import parquet

            texts, numbers = [pyarrow.string()] * 2, [pyarrow.float32()] * (1 + len(classes))
            schema = pyarrow.schema(list(zip(names, texts + numbers, strict=True)))
            with parquet.ParquetWriter(temporary, schema, write_page_checksum=True) as writer:

                def write(rows):
                    columns = [[utf8(f) for f, _, _ in rows], [classes[k] for _, k, _ in rows]]
                    values = np.array([[row[k], *row] for _, k, row in rows], "float32")
                    columns += [*values.reshape(len(rows), -1).T] if rows else []
                    if rows:
                        arrays = map(pyarrow.array, columns, schema.types)
                        writer.write_table(pyarrow.Table.from_arrays(list(arrays), schema=schema))

                yield write
            return
        with open(temporary, "w", encoding="utf-8", newline="") as file:
            writer = csv.writer(file, lineterminator="\n")
            writer.writerow(names)

            def write(rows):
                for path, k, row in rows:
                    values = [f"{value:.6g}" for value in (row[k], *row)]
                    writer.writerow([utf8(path), classes[k], *values])

            yield write

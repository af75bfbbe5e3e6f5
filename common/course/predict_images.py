"""Labels and probabilities of images that nobody has labelled, resumable."""

import math
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import numpy as np

from common.course import parts
from common.course.names import spare, utf8
from common.errors import DataError
from common.files import write_atomically
from common.paths import display
from common.progress import progress_bar

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
        parts.check_suffix(output, *SUFFIXES)
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
    from scipy.special import softmax

    from common.training.released import load_model

    model, record = load_model(run, "phase1_cifar")
    classes, temperature = tuple(record["classes"]), temperature_of(record)
    side = model.input_shape[1] or _SIZE
    blocks = [files[start : start + _BLOCK] for start in range(0, len(files), _BLOCK)]
    counts, problems = Counter(), []

    def answers(block: list[Path], reasons: Sequence[str], logits: np.ndarray):
        """The files that could be read, the numbers of their labels, all probabilities."""
        problems.extend(filter(None, reasons))
        read = [file for file, reason in zip(block, reasons, strict=True) if not reason]
        probabilities = softmax(logits / (temperature or 1.0), axis=1)
        labels = probabilities.argmax(axis=1).tolist()
        counts.update(classes[label] for label in labels)
        return read, labels, probabilities

    if output is None:
        for block, reasons, logits in _computed(blocks, model, side, batch_size):
            for file, label, row in zip(*answers(block, reasons, logits), strict=True):
                tell(file, classes[label], float(row[label]))
    else:
        with parts.kept_parts(output) as folder:
            weights = parts.weights_hash(model, side)
            part_files = {folder / parts.files_part_name(weights, b): b for b in blocks}
            missing = {p: b for p, b in part_files.items() if not parts.load_part(p, len(b))}
            computed = _computed(list(missing.values()), model, side, batch_size)
            for path, (_, reasons, logits) in zip(missing, computed, strict=True):
                parts.save_part(path, reasons=np.array(reasons, dtype=str), logits=logits)
            with _table(output, classes) as write:
                for path, block in part_files.items():
                    write(*answers(block, **parts.load_part(path, len(block))))
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


def _computed(
    blocks: list[list[Path]], model, side: int, batch_size: int
) -> Iterator[tuple[list[Path], list[str], np.ndarray]]:
    """Each block, why its images could not be read ("" of those that were), and those's logits."""
    from common.data.image_files import one_opencv_thread
    from common.evaluation.classification import predict_logits

    total = sum(map(len, blocks))
    with (
        one_opencv_thread(),
        ThreadPoolExecutor() as pool,
        progress_bar(total=total, unit=" images", disable=total <= _BLOCK) as bar,
    ):

        def begin(block: list[Path]) -> tuple[list[Path], list[Future]]:
            return block, [pool.submit(_read, file, side) for file in block]

        try:
            for block, futures in parts.one_ahead(begin, blocks):
                results = [future.result() for future in futures]
                images = [result for result in results if isinstance(result, np.ndarray)]
                logits = np.empty((0, model.output_shape[-1]), "float32")
                if images:
                    logits = predict_logits(model, np.stack(images), batch_size)
                yield block, [r if isinstance(r, str) else "" for r in results], logits
                bar.update(len(block))
        finally:
            pool.shutdown(wait=False, cancel_futures=True)


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


@contextmanager
def _table(output: Path, classes: tuple[str, ...]) -> Iterator[Callable]:
    """Gives what writes files, numbers of their labels and all probabilities into a table."""
    import pandas as pd

    names = [*COLUMNS, *(f"class {name}" if name in COLUMNS else name for name in classes)]

    def rows(files, labels, probabilities) -> pd.DataFrame:
        told = [list(map(utf8, files)), [classes[label] for label in labels]]
        numbers = np.column_stack([probabilities.max(axis=1), probabilities]).astype("float32")
        return pd.DataFrame(dict(zip(names, [*told, *numbers.T], strict=True)))

    with write_atomically(output) as temporary:
        if output.suffix.lower() == ".parquet":
            import pyarrow
            from pyarrow import parquet

            texts, numbers = [pyarrow.string()] * 2, [pyarrow.float32()] * (1 + len(classes))
            schema = pyarrow.schema(list(zip(names, texts + numbers, strict=True)))
            with parquet.ParquetWriter(temporary, schema, write_page_checksum=True) as writer:

                def write(files, *answers):
                    if files:
                        table = pyarrow.Table.from_pandas(rows(files, *answers), schema)
                        writer.write_table(table.replace_schema_metadata())

                yield write
            return
        options = {"index": False, "lineterminator": "\n", "encoding": "utf-8"}
        pd.DataFrame(columns=names).to_csv(temporary, **options)
        yield lambda *answers: rows(*answers).to_csv(
            temporary, mode="a", header=False, float_format="%.6g", **options
        )

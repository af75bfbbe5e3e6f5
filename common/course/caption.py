"""Captions for photos, with a trained captioner."""

import os
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from common.course import parts
from common.course.names import figure_names, spare
from common.errors import ConfigError, DataError
from common.files import check_output, write_json
from common.progress import progress_bar

MAX_BEAM = 50  # Photos are computed by 32: the memory for one grows by 5 MB with each beam.
_BLOCK = 128  # photos in a part; two blocks are in memory at a time
_READERS = min(8, os.cpu_count() or 1)  # threads; each may hold a photo of 25 megapixels
_FEW = 30  # images that tell nothing of how sure a captioner is


def check(
    photos: list[Path],
    beams: int | None,
    attention: Path | None,
    output: Path | None,
    recursive: bool,
) -> list["Photo"]:
    """What is told before a backend is started: the photos, and whether there is room for answers.

    Args:
        photos: Image files and folders of them.
        beams: See `caption`.
        attention: Folder for figures of where the decoder looked, or `None`.
        output: JSON file for the captions, or `None`.
        recursive: Take the photos of folders within folders, too.

    Raises:
        ConfigError: for a beam out of range, or a photo that would be written over.
        DataError: if a path does not exist, or a folder has no image.
        CourseError: if output or figures cannot be written.
    """
    if beams is not None and not 1 <= beams <= MAX_BEAM:
        raise ConfigError(
            f"--beam must be 1 or more, and {MAX_BEAM} at most: time and memory grow with it. "
            f"Received: {beams}"
        )
    from common.data.photos import list_photos

    files = list_photos(photos, recursive=recursive)
    if output is not None:
        spare(files, [output], "--output")
        parts.check_suffix(output, ".json")
    figures = [None] * len(files)
    if attention is not None:
        figures = [attention / name for name in figure_names(files)]
        check_output(max(figures, key=lambda path: len(os.fsencode(path.name))))
        spare(files, figures, "--attention")
    return [Photo(*pair) for pair in zip(files, figures, strict=True)]


def caption(
    photos: list["Photo"],
    run: str | None,
    beams: int | None,
    no_repeated_trigram: bool,
    tell: Callable[["Photo"], None],
    output: Path | None = None,
) -> list[str]:
    """Captions of photos, block by block; the next one is read and computed meanwhile.

    With `output`, what is done is kept beside it in `output + ".parts"` until it is whole. Called
    again after a kill, photos that the same captioner captioned in the same way are not captioned
    anew.

    Args:
        photos: From `check`.
        run: Name or folder of a run; `None` for the weights that the repository carries.
        beams: Width of the beam; 1 for greedy; `None` for the run's own.
        no_repeated_trigram: Never the same three words twice in a caption.
        tell: Called with each photo when it has its caption.
        output: JSON file to write to: `image` (path as given), `caption`, `score` (mean
            log-probability of the caption's words) and `confidence` ("sure", "unsure", or null
            where the run's record does not tell from which score on) per photo, in their order.

    Returns:
        Why photos could not be read.

    Raises:
        ConfigError: for an unknown run, or attention of a decoder without.
        DataError: if weights cannot be had.
        CourseError: if the output cannot be written.
    """
    from common.training.captioner import load_captioner

    captioner = load_captioner(run)
    if photos[0].figure is not None:
        _require_attention(captioner)
    options = {"no_repeated_trigram": True} if no_repeated_trigram else {}
    threshold, results, problems = sure_from(captioner.record), [], []
    with (
        nullcontext() if output is None else parts.kept_parts(output) as folder,
        progress_bar(total=len(photos), unit=" photos", disable=len(photos) < _BLOCK) as bar,
    ):
        for block, part in _captioned(captioner, photos, folder, beams, options):
            for photo, *answer in zip(block, *(part[name].tolist() for name in _PART), strict=True):
                reason, photo.caption, photo.score = answer
                if reason:
                    problems.append(reason)
                    continue
                if threshold is not None:
                    photo.confidence = "sure" if photo.score >= threshold else "unsure"
                tell(photo)
                results.append(photo.result())
            bar.update(len(block))
        if output is not None and results:
            write_json(output, results)
    return problems


# Of photos: why they could not be read, or what they show.
_PART = ("reasons", "captions", "scores")


def _part_name(made_by: bytes, block: list["Photo"]) -> str:
    figures = [photo.figure and str(photo.figure) for photo in block]
    return parts.files_part_name(made_by + repr(figures).encode(), [photo.file for photo in block])


def _figures(block: list["Photo"]) -> np.ndarray:
    """The state of each photo's figure: "" where there is none."""
    return np.array([_state(photo.figure) for photo in block], dtype=str)


def _state(figure: Path | None) -> str:
    if figure is None or not figure.is_file():
        return ""
    status = figure.stat()
    return f"{status.st_size} {status.st_mtime_ns}"


def sure_from(record: dict) -> float | None:
    """The score from which on a captioner's captions are sure.

    `None` if its record tells none, or one of so few images that it is chance.
    """
    found = record.get("confidence")
    if not isinstance(found, dict) or found.get("n") in range(_FEW):
        return None
    threshold = found.get("threshold")
    return float(threshold) if isinstance(threshold, (int, float)) else None


@dataclass
class Photo:
    """A photo to caption, and what became of it."""

    file: Path
    figure: Path | None  # to draw
    caption: str | None = None
    score: float | None = None
    confidence: str | None = None

    def result(self) -> dict:
        return {
            "image": str(self.file),
            "caption": self.caption,
            "score": self.score,
            "confidence": self.confidence,
        }


def _captioned(
    captioner, photos: list[Photo], folder: Path | None, beams, options
) -> Iterator[tuple[list[Photo], dict[str, np.ndarray]]]:
    """Each block of photos, in their order, and what became of it; what is kept is not made anew.

    While the words of a block are written, the backbone computes the next one; while it computes
    one, the photos of the next are read.
    """
    from common.data.image_files import one_opencv_thread

    record, words = captioner.record, list(captioner.vocabulary.words)
    told = [record.get("decoding"), record.get("backbone"), words]
    made_by = folder and parts.weights_hash(captioner.decoder, *told, beams, options)
    with (
        one_opencv_thread(),
        ThreadPoolExecutor(_READERS) as readers,
        ThreadPoolExecutor(1) as backbone,
    ):

        def begin(block: list[Photo]):
            path = folder and folder / _part_name(made_by, block)
            part = path and parts.load_part(path, len(block))
            if part and np.array_equal(part.get("figures"), _figures(block)):
                return block, path, part, None
            read = [readers.submit(_read, photo, captioner.extractor.size) for photo in block]
            return block, path, None, backbone.submit(_features, captioner, read)

        try:
            blocks = (photos[start : start + _BLOCK] for start in range(0, len(photos), _BLOCK))
            for block, path, part, computed in parts.one_ahead(begin, blocks):
                if computed:
                    part = _caption_block(captioner, block, *computed.result(), beams, options)
                    if path:
                        parts.save_part(path, **part)
                yield block, part
        finally:
            for pool in (readers, backbone):
                pool.shutdown(wait=False, cancel_futures=True)


def _read(photo: Photo, size: int) -> tuple[str, np.ndarray | None, np.ndarray | None]:
    """Why a photo cannot be read, or "" and what the backbone takes; what its figure shows."""
    from common.data.photos import read_photo
    from common.training.features import to_input

    try:
        image = read_photo(photo.file)
        shown = None if photo.figure is None else _shrunk(image, size)
        return "", to_input(image, size), shown
    except DataError as error:
        return str(error), None, None
    except MemoryError:
        why = f"{photo.file}: there is not enough memory for so large an image."
        return why, None, None


def _features(captioner, photos: list[Future]):
    """Of photos that are being read: why some could not be, the others' numbers with what their
    figures show, and their features."""
    found = [photo.result() for photo in photos]
    read = {i: image for i, (reason, _, image) in enumerate(found) if not reason}
    features = captioner.features([found[i][1] for i in read]) if read else None
    return [reason for reason, *_ in found], read, features


def _caption_block(
    captioner, photos: list[Photo], reasons: list[str], read: dict, features, beams, options
) -> dict[str, np.ndarray]:
    """Captions photos and draws their figures; see `_features`."""
    captions, scores = [""] * len(photos), [0.0] * len(photos)
    if read:
        found, sure = captioner.scored_captions(features, beams, **options)
        if photos[0].figure is not None:
            from common import plots

            maps = captioner.attention(features, found)
            for (i, image), words, seen in zip(read.items(), found, maps, strict=True):
                if words:
                    figure = plots.attention_words(image, words, seen)
                    plots.save_figure(figure, photos[i].figure)
        for i, words, score in zip(read, found, sure.tolist(), strict=True):
            captions[i], scores[i] = " ".join(words), round(score, 4)
    return {
        "reasons": np.array(reasons, dtype=str),
        "captions": np.array(captions, dtype=str),
        "scores": np.array(scores),
        "figures": _figures(photos),
    }


def _shrunk(image, size: int):
    """A large photo made smaller at once, so that a block of them fits into memory."""
    import cv2

    height, width = image.shape[:2]
    factor = 4 * size / max(height, width)
    if factor >= 1:
        return image
    shape = (max(1, round(width * factor)), max(1, round(height * factor)))
    return cv2.resize(image, shape, interpolation=cv2.INTER_AREA)


def _require_attention(captioner) -> None:
    """Tries with a black image whether there is attention to draw."""
    features = captioner.features([np.zeros((8, 8, 3), np.uint8)])
    if captioner.attention(features, [[]]) is None:
        name = captioner.record["decoder"]["name"]
        raise ConfigError(f"The decoder {name!r} has no attention to draw. Leave --attention out.")

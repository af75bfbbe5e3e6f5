"""Captions for photos, with a trained captioner."""

import os
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from common.course.names import figure_names, spare
from common.course.parts import check_suffix, kept_parts, part_name, tell_damaged, weights_hash
from common.errors import ConfigError, DataError
from common.files import check_output, file_hash, read_json, write_json
from common.progress import progress_bar

MAX_BEAM = 50  # Photos are computed by 32: the memory for one grows by 5 MB with each beam.
_BLOCK = 256  # photos in memory at a time


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
        check_suffix(output, ".json")
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
    """Captions of photos, block by block.

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
    threshold = sure_from(captioner.record)
    if photos[0].figure is not None:
        _require_attention(captioner)
    options = {"no_repeated_trigram": True} if no_repeated_trigram else {}
    with nullcontext() if output is None else kept_parts(output) as parts:
        kept = None if parts is None else _Kept(parts, _key(captioner, beams, options))
        results, problems = [], []
        with progress_bar(total=len(photos), unit=" photos", disable=len(photos) < _BLOCK) as bar:
            for start in range(0, len(photos), _BLOCK):
                block = photos[start : start + _BLOCK]
                problems += _caption_block(captioner, block, beams, options, kept)
                for photo in block:
                    if photo.caption is not None:
                        if threshold is not None:
                            photo.confidence = "sure" if photo.score >= threshold else "unsure"
                        tell(photo)
                        results.append(photo.result())
                bar.update(len(block))
        if output is not None and results:
            write_json(output, results)
    return problems


def sure_from(record: dict) -> float | None:
    """The score from which on a captioner's captions are sure; `None` if its record tells none."""
    found = record.get("confidence")
    threshold = found.get("threshold") if isinstance(found, dict) else None
    return float(threshold) if isinstance(threshold, (int, float)) else None


@dataclass
class Photo:
    """A photo to caption, and what became of it."""

    file: Path
    figure: Path | None  # to draw
    caption: str | None = None
    score: float | None = None
    confidence: str | None = None
    key: str = ""  # of its content and its figure

    def result(self) -> dict:
        return {
            "image": str(self.file),
            "caption": self.caption,
            "score": self.score,
            "confidence": self.confidence,
        }


class _Kept:
    """Captions of an earlier call, in files of JSON.

    Args:
        folder: Of the files.
        key: Of captioner and options: captions of others are not taken.
    """

    def __init__(self, folder: Path, key: str):
        self.folder, self.key = folder, key
        self.captions, self.scores = {}, {}
        for path in sorted(folder.glob("*.json")):
            try:
                part = read_json(path, dict)
                if part["key"] == key:
                    captions = {str(name): str(text) for name, text in part["captions"].items()}
                    self.scores |= {name: float(part["scores"][name]) for name in captions}
                    self.captions |= captions
            except (DataError, KeyError, AttributeError, TypeError, ValueError) as error:
                tell_damaged(path, error)

    def take(self, photo: Photo) -> None:
        """Gives the photo its caption if it has been captioned, and drawn, before."""
        figure = "" if photo.figure is None else f" {photo.figure.name}"
        photo.key = file_hash(photo.file) + figure
        if photo.figure is None or photo.figure.is_file():
            photo.caption = self.captions.get(photo.key)
            photo.score = self.scores.get(photo.key)

    def add(self, photos: list[Photo]) -> None:
        captions = {photo.key: photo.caption for photo in photos}
        scores = {photo.key: photo.score for photo in photos}
        name = part_name("".join([self.key, *captions]).encode(), ".json")
        part = {"key": self.key, "captions": captions, "scores": scores}
        write_json(self.folder / name, part)


def _key(captioner, beams: int | None, options: dict) -> str:
    record = captioner.record
    told = [record.get("decoding"), record.get("backbone"), beams, options]
    return weights_hash(captioner.decoder, *told, list(captioner.vocabulary.words)).hex()


def _caption_block(captioner, photos: list[Photo], beams, options, kept) -> list[str]:
    """Captions photos and draws their figures; returns why some could not be read."""
    from common.data.photos import read_photo

    todo, images, problems = [], [], []
    for photo in photos:
        try:
            if kept is not None:
                kept.take(photo)
            if photo.caption is None:
                images.append(_shrunk(read_photo(photo.file), captioner.extractor.size))
                todo.append(photo)
        except DataError as error:
            problems.append(str(error))
        except OSError as error:
            problems.append(f"{photo.file} cannot be read: {error.strerror or error}.")
        except MemoryError:
            problems.append(f"{photo.file}: there is not enough memory for so large an image.")
    if not todo:
        return problems
    features = captioner.features(images)
    captions, scores = captioner.scored_captions(features, beams, **options)
    if todo[0].figure is not None:
        from common import plots

        maps = captioner.attention(features, captions)
        for photo, image, words, found in zip(todo, images, captions, maps, strict=True):
            if words:
                plots.save_figure(plots.attention_words(image, words, found), photo.figure)
    for photo, words, score in zip(todo, captions, scores.tolist(), strict=True):
        photo.caption, photo.score = " ".join(words), round(score, 4)
    if kept is not None:
        kept.add(todo)
    return problems


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

"""Captions for photos, with a trained captioner."""

import hashlib
import json
import logging
import os
import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from tqdm import tqdm

from common.course.parts import kept_parts, part_name
from common.errors import ConfigError, DataError
from common.files import check_output, file_hash, read_json, write_json
from common.paths import display

logger = logging.getLogger(__name__)

MAX_BEAM = 50  # Photos are computed by 32: the memory for one grows by 5 MB with each beam.
_BLOCK = 256  # photos in memory at a time
_LONGEST = 150  # bytes of a figure's name


def caption(
    photos: list[Path],
    run: str | None,
    beams: int | None,
    no_repeated_trigram: bool,
    attention: Path | None,
    tell: Callable[[Path, str], None],
    output: Path | None = None,
    recursive: bool = False,
) -> tuple[list[dict], list[str]]:
    """Captions of photos, block by block.

    With `output`, what is done is kept beside it in `output + ".parts"` until it is whole. Called
    again after a kill, photos that the same captioner captioned in the same way are not captioned
    anew.

    Args:
        photos: Image files and folders of them.
        run: Name or folder of a run; `None` for the weights that the repository carries.
        beams: Width of the beam; 1 for greedy; `None` for the run's own.
        no_repeated_trigram: Never the same three words twice in a caption.
        attention: Folder for figures of where the decoder looked, or `None`.
        tell: Called with each photo and its caption.
        output: JSON file to write the captions to.
        recursive: Take the photos of folders within folders, too.

    Returns:
        `{"image": path as given, "caption": text}` per photo, in their order; and why photos could
        not be read.

    Raises:
        ConfigError: for a beam out of range, an unknown run, or attention of a decoder without.
        DataError: if a path does not exist, or weights cannot be had.
        CourseError: if the output cannot be written, which is found out before the work.
    """
    if beams is not None and not 1 <= beams <= MAX_BEAM:
        raise ConfigError(
            f"--beam must be 1 or more, and {MAX_BEAM} at most: time and memory grow with it. "
            f"Received: {beams}"
        )
    # Heavy, and not needed to say the above.
    from common.data.photos import list_photos

    files = list_photos(photos, recursive=recursive)
    if output is not None:
        check_output(output)
        _spare(files, [output], "--output")
    figures = [None] * len(files)
    if attention is not None:
        figures = [attention / name for name in figure_names(files)]
        check_output(max(figures, key=lambda path: len(os.fsencode(path.name))))
        _spare(files, figures, "--attention")

    from common.training.captioner import load_captioner

    captioner = load_captioner(run)
    if attention is not None:
        _require_attention(captioner)
    options = {"no_repeated_trigram": True} if no_repeated_trigram else {}
    with nullcontext() if output is None else kept_parts(output) as parts:
        kept = None if parts is None else _Kept(parts, _key(captioner, beams, options))
        results, problems = [], []
        with tqdm(total=len(files), unit=" photos", disable=len(files) < _BLOCK) as bar:
            for start in range(0, len(files), _BLOCK):
                block = slice(start, start + _BLOCK)
                photos = [_Photo(*pair) for pair in zip(files[block], figures[block], strict=True)]
                problems += _caption_block(captioner, photos, beams, options, kept)
                for photo in photos:
                    if photo.caption is not None:
                        tell(photo.file, photo.caption)
                        results.append({"image": str(photo.file), "caption": photo.caption})
                bar.update(len(photos))
        if output is not None and results:
            write_json(output, results)
    return results, problems


@dataclass
class _Photo:
    file: Path
    figure: Path | None  # to draw
    caption: str | None = None
    key: str = ""  # of its content and its figure


class _Kept:
    """Captions of an earlier call, in files of JSON.

    Args:
        folder: Of the files.
        key: Of captioner and options: captions of others are not taken.
    """

    def __init__(self, folder: Path, key: str):
        self.folder, self.key = folder, key
        self.captions = {}
        for path in sorted(folder.glob("*.json")):
            try:
                part = read_json(path, dict)
                if part["key"] == key:
                    self.captions |= {
                        str(name): str(text) for name, text in part["captions"].items()
                    }
            except (DataError, KeyError, AttributeError) as error:
                logger.warning("%s is damaged (%s): made again.", display(path), display(error))

    def take(self, photo: _Photo) -> None:
        """Gives the photo its caption if it has been captioned, and drawn, before."""
        figure = "" if photo.figure is None else f" {photo.figure.name}"
        photo.key = file_hash(photo.file) + figure
        if photo.figure is None or photo.figure.is_file():
            photo.caption = self.captions.get(photo.key)

    def add(self, photos: list[_Photo]) -> None:
        captions = {photo.key: photo.caption for photo in photos}
        name = part_name("".join([self.key, *captions]).encode(), ".json")
        write_json(self.folder / name, {"key": self.key, "captions": captions})


def _key(captioner, beams: int | None, options: dict) -> str:
    record = captioner.record
    told = [record.get("decoding"), record.get("backbone"), beams, options]
    digest = hashlib.sha256(json.dumps([*told, list(captioner.vocabulary.words)]).encode())
    for weight in captioner.decoder.get_weights():
        digest.update(np.ascontiguousarray(weight))
    return digest.hexdigest()


def _caption_block(captioner, photos: list[_Photo], beams, options, kept) -> list[str]:
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
    captions = captioner.caption_features(features, beams, **options)
    if todo[0].figure is not None:
        from common import plots

        maps = captioner.attention(features, captions)
        for photo, image, words, found in zip(todo, images, captions, maps, strict=True):
            if words:
                plots.save_figure(plots.attention_words(image, words, found), photo.figure)
    for photo, words in zip(todo, captions, strict=True):
        photo.caption = " ".join(words)
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


def _place(path: Path) -> str:
    return os.path.normcase(os.path.abspath(path))


def _spare(files: list[Path], targets: list[Path], option: str) -> None:
    """Makes sure that no photo is written over."""
    photos = {os.path.normcase(os.path.realpath(file)): file for file in files}
    for target in targets:
        photo = photos.get(os.path.normcase(os.path.realpath(target)))
        if photo is not None:
            raise ConfigError(f"{option} would write over the photo {photo}. Choose another path.")


def figure_names(files: list[Path]) -> list[str]:
    """A name for each photo's figure: the photo's own, with as much of its path as it takes.

    No two are equal, on file systems that do not tell small letters from capitals either.
    """
    if not files:
        return []
    try:
        root = os.path.commonpath([os.path.abspath(file.parent) for file in files])
    except ValueError:  # on several drives
        root = None
    candidates = [list(_candidates(file, root)) for file in files]
    counts = [Counter(map(_folded, level)) for level in zip(*candidates, strict=True)]
    names = []
    for levels in candidates:
        single = (c for c, n in zip(levels, counts, strict=True) if n[_folded(c)] == 1)
        names.append(next(single, levels[-1]))
    again = Counter(map(_folded, names))
    for i, name in enumerate(names):
        if again[_folded(name)] > 1 or len(name.encode()) > _LONGEST:
            short = name.encode()[: _LONGEST - 30].decode("utf-8", "ignore")
            names[i] = f"{short}-{part_name(os.fsencode(_place(files[i])), '')[:8]}"
    return [f"{name}.png" for name in names]


def _candidates(file: Path, root: str | None) -> Iterator[str]:
    folder = Path(os.path.abspath(file.parent))
    folders = folder.relative_to(root or folder.anchor).parts
    for parts in ([file.stem], [*folders, file.stem], [*folders, file.stem, file.suffix[1:]]):
        # Nothing that some file system does not take.
        yield re.sub(r'[\x00-\x1f\x7f<>:"/\\|?*\ud800-\udfff]', "_", "-".join(filter(None, parts)))


def _folded(name: str) -> str:
    return unicodedata.normalize("NFC", name).casefold()

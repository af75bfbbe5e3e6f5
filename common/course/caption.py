"""Captions for photos, with a trained captioner."""

from collections.abc import Callable
from pathlib import Path

from tqdm import tqdm

from common.errors import ConfigError, DataError

_BLOCK = 256  # photos in memory at a time


def caption(
    photos: list[Path],
    run: str | None,
    beams: int | None,
    no_repeated_trigram: bool,
    attention: Path | None,
    tell: Callable[[Path, str], None],
) -> tuple[list[dict], list[str]]:
    """Captions of photos, block by block.

    Args:
        photos: Image files and folders of them.
        run: Name or folder of a run; `None` for the weights that the repository carries.
        beams: Width of the beam; 1 for greedy; `None` for the run's own.
        no_repeated_trigram: Never the same three words twice in a caption.
        attention: Folder for figures of where the decoder looked, or `None`.
        tell: Called with each photo and its caption.

    Returns:
        `{"image": file name, "caption": text}` per photo, in their order; and why photos could
        not be read.

    Raises:
        ConfigError: for a beam below 1, an unknown run, or attention of a decoder without.
        DataError: if a path does not exist, or weights cannot be had.
    """
    if beams is not None and beams < 1:
        raise ConfigError(f"--beam must be 1 or more. Received: {beams}")
    # Heavy, and not needed to say the above.
    from common.data.photos import list_photos, read_photo
    from common.training.captioner import load_captioner

    files = list_photos(photos)
    captioner = load_captioner(run)
    options = {"no_repeated_trigram": True} if no_repeated_trigram else {}
    results, problems = [], []
    with tqdm(total=len(files), unit=" photos", disable=len(files) < _BLOCK) as bar:
        for start in range(0, len(files), _BLOCK):
            images, names = [], []
            for file in files[start : start + _BLOCK]:
                try:
                    images.append(_shrunk(read_photo(file), captioner.extractor.size))
                    names.append(file)
                except DataError as error:
                    problems.append(str(error))
            if images:
                features = captioner.features(images)
                captions = captioner.caption_features(features, beams, **options)
                for file, words in zip(names, captions, strict=True):
                    text = " ".join(words)
                    tell(file, text)
                    results.append({"image": file.name, "caption": text})
                if attention is not None:
                    _draw(captioner, features, images, names, captions, attention)
            bar.update(min(_BLOCK, len(files) - start))
    return results, problems


def _shrunk(image, size: int):
    """A large photo made smaller at once, so that a block of them fits into memory."""
    import cv2

    height, width = image.shape[:2]
    factor = 4 * size / max(height, width)
    if factor >= 1:
        return image
    shape = (max(1, round(width * factor)), max(1, round(height * factor)))
    return cv2.resize(image, shape, interpolation=cv2.INTER_AREA)


def _draw(captioner, features, images, names, captions, folder: Path) -> None:
    from common import plots

    maps = captioner.attention(features, captions)
    if maps is None:
        name = captioner.record["decoder"]["name"]
        raise ConfigError(f"The decoder {name!r} has no attention to draw. Leave --attention out.")
    for image, file, words, found in zip(images, names, captions, maps, strict=True):
        if words:
            figure = plots.attention_words(image, words, found)
            plots.save_figure(figure, folder / f"{file.stem}.png")

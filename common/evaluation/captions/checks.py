"""Captions and references as the package wants them, or an error that says what is wrong, where."""

from collections.abc import Iterable, Sequence

import numpy as np

from common.errors import ConfigError, DataError

Caption = Sequence[str]
References = Sequence[Sequence[Caption]]


def check_captions(captions: Sequence[Caption], references: References) -> None:
    """Are these captions and references as the package's docstring says?

    Raises:
        DataError: if not: what is wrong, and where.
    """
    check_words(captions)
    check_references(references)
    if len(captions) != len(references):
        raise DataError(
            f"{len(captions)} captions, but references of {len(references)} images. "
            "Give one caption per image, in the same order."
        )


def check_references(references: References, name: str = "references") -> None:
    """As `check_captions`, of references alone; `name` is for the message."""
    _check_list(references, name, "a list of lists of words per image")
    for i, of_image in enumerate(references):
        _check_list(of_image, f"{name}[{i}]", "the lists of words of an image")
        if not of_image:
            raise DataError(f"{name}[{i}] is empty: leave out images that nobody described.")
        for k, caption in enumerate(of_image):
            _check_caption(caption, name, i, k)
            if not caption:
                raise DataError(f"{name}[{i}][{k}] has no word: leave it out.")
    if not references:
        raise DataError(f"{name}: there is no image.")


def check_words(captions: Sequence[Caption], known: Iterable[str] = frozenset()) -> None:
    """As `check_captions`, of captions alone; `known` strings are words for sure."""
    _check_list(captions, "captions", "a list of words per image")
    # This runs for every batch of a reward: words are looked at once, `known` ones never.
    try:
        new = set().union(*captions).difference(known)
    except TypeError:
        new = {None}  # what cannot stand in a set is no word
    if not all(map(_is_list, captions)) or not all(map(_is_word, new)):
        for i, caption in enumerate(captions):
            _check_caption(caption, "captions", i)
    if not captions:
        raise DataError("There is no caption to judge.")


def images_of(captions, images, count: int, known) -> np.ndarray:
    """Which of `count` images each caption describes, checked; by default each one in order."""
    check_words(captions, known)
    images = np.arange(count) if images is None else np.asarray(images)
    if len(captions) != len(images):
        raise DataError(
            f"{len(captions)} captions for {len(images)} images. Give one each, or `images`."
        )
    if images.dtype.kind not in "iu" or images.min() < 0 or images.max() >= count:
        raise ConfigError(f"images must be whole numbers in 0..{count - 1}. Received: {images}")
    return images


def flatten(references, name="references") -> tuple[list[Caption], list[int]]:
    """All captions one after the other, and how many each image has."""
    check_references(references, name)
    return [text for of_image in references for text in of_image], [len(i) for i in references]


def _is_list(value) -> bool:
    return isinstance(value, (list, tuple))


def _is_word(value) -> bool:
    return isinstance(value, str) and value != "" and " " not in value


def _check_caption(caption, name, *place) -> None:
    if _is_list(caption):
        wrong = next((f"holds {word!r}" for word in caption if not _is_word(word)), None)
        if wrong is None:
            return
    else:
        wrong = f"is {str(caption)[:40]!r}, of type {type(caption).__name__}"
    where = name + "".join(f"[{i}]" for i in place)
    raise DataError(
        f"{where} {wrong}, where a list of words is wanted. "
        "Split texts with `common.data.vocabulary.normalise`, decode numbers with `Vocabulary`."
    )


def _check_list(value, name, wanted) -> None:
    if not _is_list(value):
        raise DataError(
            f"{name} must be {wanted}. Received: {str(value)[:40]!r}, of type "
            f"{type(value).__name__}"
        )

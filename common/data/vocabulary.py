"""Captions to words and words to numbers: one way for training and for metrics."""

import hashlib
import json
import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from common.errors import ConfigError, DataError
from common.files import read_json, write_json

SPECIAL = ("<pad>", "<start>", "<end>", "<unk>")
PAD, START, END, UNK = range(len(SPECIAL))
# What no caption that is written may have.
IMPOSSIBLE = (PAD, START, UNK)
# A caption that stops at one of these has mostly been cut off. People end captions so, too ("a
# dog with a collar on"): about 1 % of Flickr8k's captions.
BAD_ENDINGS = frozenset(
    "a an the this that these those some his her its their my your our "  # what comes before nouns
    "of in on at to for with from into onto by as near upon through during beside between "
    "and or but nor while who which where when than "
    "is are was were be been am has have".split()
)

# Combining marks: the vowels of Hindi, Thai or Arabic, accents without a letter of their own. All
# lie below the emoji; what frames a character (the key in U+20E3) is no part of a word.
_CODES = {c for c in range(0x300, 0x1F000) if unicodedata.category(chr(c)) in ("Mn", "Mc")}
_FIRST = sorted(c for c in _CODES if c - 1 not in _CODES)
_LAST = sorted(c for c in _CODES if c + 1 not in _CODES)
_MARKS = "".join(f"{chr(a)}-{chr(b)}" for a, b in zip(_FIRST, _LAST, strict=True))
# Joiners say how Indic and Persian letters are tied together.
_JOINERS = "\u200c\u200d"
# A word: letters or digits with their marks, and with apostrophes inside, as in "dog's". Letter by
# letter only one way on, so that the time grows with the length.
_PART = rf"\w[\w{_MARKS}{_JOINERS}]*"
_WORD = re.compile(rf"{_PART}(?:['\u2019]{_PART})*")
_PLAIN = re.compile("[a-z0-9]+(?:'[a-z0-9]+)*")  # the same in ASCII, twice as fast
# What cannot be seen: soft hyphens, word joiners, byte order marks, selectors of forms.
_INVISIBLE = re.compile(
    "[\u00ad\u034f\u180b-\u180f\u2060\ufe00-\ufe0f\ufeff\U000e0100-\U000e01ef]+"
)
# Thirty marks on a letter are more than any language has; to order more takes quadratic time.
_TOO_MANY_MARKS = re.compile(rf"([{_MARKS}]{{30}})[{_MARKS}]+")


def normalise(caption: str) -> list[str]:
    """The words of a caption in lower case, without punctuation.

    "A black-and-white dog's ball ." gives `["a", "black", "and", "white", "dog's", "ball"]`. Words
    are letters and digits of any script, with their combining marks, in Unicode's form NFC: "é"
    is one character, however it was typed.
    """
    text = caption.lower()
    if text.isascii():
        return _PLAIN.findall(text)
    text = _TOO_MANY_MARKS.sub(r"\1", _INVISIBLE.sub("", text))
    text = unicodedata.normalize("NFC", text)
    if "i\u0307" in text:  # What the Turkish capital dotted I becomes: an i with a second dot.
        text = unicodedata.normalize("NFC", re.sub("i\u0307+", "i", text))
    words = _WORD.findall(text.replace("_", " "))
    return [word.replace("\u2019", "'").rstrip(_JOINERS) for word in words]


class Vocabulary:
    """The words that a captioner knows, each with its number.

    The numbers 0 to 3 stand for `<pad>`, `<start>`, `<end>` and `<unk>` (any unknown word).

    Args:
        words: The other words, the most frequent first.
        min_count: How often a word had to occur, for the record.

    Raises:
        DataError: if a word is empty, comes twice, or is one of the special ones.
    """

    def __init__(self, words: Sequence[str], min_count: int = 1):
        self.words = (*SPECIAL, *words)
        self.min_count = min_count
        self.ids = {word: i for i, word in enumerate(self.words)}
        if len(self.ids) != len(self.words) or "" in self.ids:
            counts = Counter(self.words)
            wrong = [word for word, count in counts.items() if count > 1 or not word]
            raise DataError(
                f"A vocabulary has each word once. Empty or repeated: {str(wrong[:5])[:200]}"
            )

    @classmethod
    def build(cls, captions: Iterable[Sequence[str]], min_count: int = 5) -> "Vocabulary":
        """The words that occur at least `min_count` times in captions (lists of words).

        Build it from training captions only: a word that stands in test captions alone could not
        have been learned, and must count as unknown.

        Raises:
            ConfigError: if no word occurs so often.
        """
        counts = Counter(word for caption in captions for word in caption)
        # Sorted by count, then by letters: the same captions in any order give the same numbers.
        frequent = sorted((-count, word) for word, count in counts.items() if count >= min_count)
        if not frequent:
            raise ConfigError(
                f"No word occurs {min_count} times in the training captions. Lower min_count."
            )
        return cls([word for _, word in frequent], min_count)

    def __len__(self) -> int:
        return len(self.words)

    def __contains__(self, word: str) -> bool:
        return word in self.ids

    def __eq__(self, other) -> bool:
        return isinstance(other, Vocabulary) and self.words == other.words

    def __hash__(self) -> int:
        return hash(self.words)

    def fingerprint(self) -> str:
        """16 hexadecimal digits of all words in their order: what the numbers of a model mean."""
        return hashlib.sha256(json.dumps(self.words).encode()).hexdigest()[:16]

    def encode(self, captions: Sequence[Sequence[str]], length: int) -> np.ndarray:
        """Numbers of captions (lists of words), int32 `(captions, length)`.

        Each row is `<start>`, the words, `<end>`, and `<pad>` up to the length. What does not fit
        is cut off, `<end>` with it: a caption that was cut did not end there.
        """
        tokens = np.full((len(captions), length), PAD, "int32")
        for row, caption in zip(tokens, captions, strict=True):
            ids = [START, *(self.ids.get(word, UNK) for word in caption), END][:length]
            row[: len(ids)] = ids
        return tokens

    def decode(self, tokens: Sequence[int] | np.ndarray) -> list[str]:
        """The words of one row of numbers up to `<end>`; `<start>` and `<pad>` are left out."""
        words = []
        for token in tokens:
            if token == END:
                break
            if token not in (START, PAD):
                words.append(self.words[int(token)])
        return words

    def to_dict(self) -> dict:
        """Plain JSON values, special words left out."""
        return {"min_count": self.min_count, "words": list(self.words[len(SPECIAL) :])}

    @classmethod
    def from_dict(cls, values: dict) -> "Vocabulary":
        """What `to_dict` gave.

        Raises:
            DataError: if it is no such thing.
        """
        words = values.get("words") if isinstance(values, dict) else None
        if not isinstance(words, list) or not all(isinstance(word, str) for word in words):
            raise DataError("A vocabulary is a JSON object whose `words` is a list of texts.")
        if broken := [word for word in words if re.search("[\ud800-\udfff]", word)]:
            raise DataError(f"Words with half a character: {str(broken[:5])[:200]}")
        min_count = values.get("min_count", 1)
        if type(min_count) is not int or min_count < 0:
            raise DataError(f"`min_count` must be a whole number. Found: {min_count!r:.60}")
        return cls(words, min_count)

    def save(self, path: str | Path) -> None:
        """Writes readable JSON."""
        write_json(path, self.to_dict())

    @classmethod
    def load(cls, path: str | Path) -> "Vocabulary":
        """Reads what `save` wrote.

        Raises:
            DataError: if the file is missing or no vocabulary.
        """
        try:
            return cls.from_dict(read_json(path))
        except DataError as error:
            raise DataError(f"{path}: {error}") from error

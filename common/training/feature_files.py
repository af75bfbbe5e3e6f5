"""The files that features are kept in: written whole, found again by content, checked."""

import hashlib
import logging
import zlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np

from common.errors import DataError
from common.files import read_json, require_space, write_atomically, write_json

logger = logging.getLogger(__name__)

# To be raised when the same files would be read into other pixels.
_READER = 1


@dataclass(frozen=True)
class FeatureKey:
    """What features are of; two sets with the same key are the same, byte by byte.

    Attributes:
        backbone: Its name.
        weights: `weights_hash` of it.
        shape: Regions in height and width, channels.
        images: Hash of the names and contents of the images, in their order.
        mirrored: Whether of the mirrored images.
    """

    backbone: str
    weights: str
    shape: tuple[int, int, int]
    images: str
    mirrored: bool = False

    def to_dict(self) -> dict:
        return {**vars(self), "shape": list(self.shape)}


class KeptFeatures:
    """Features on disk, and what is known of them.

    `features.npy` has the features, `images.json` names and contents of their images, `state.json`
    how many are done, which images could not be read, and checksums: `blocks` of `[start, stop,
    crc]`, and, once all is done, size and time of `features.npy`, so that it need not be read.

    Args:
        folder: Where they are, or will be.
        key: What they are of.
        names, hashes: Of the images, and of their contents.
    """

    def __init__(self, folder: Path, key: FeatureKey, names: Sequence[str], hashes: list[str]):
        self.folder, self.key, self.names, self.hashes = folder, key, names, hashes
        self.path = folder / "features.npy"
        height, width, channels = key.shape
        self.shape = (len(hashes), height * width, channels)
        self.row_bytes = 2 * height * width * channels
        self.damaged: list[int] = []

    def is_whole(self) -> bool:
        """Whether all is there, as it was written, and nothing is left to be tried again."""
        try:
            self.state = self._read_state()
            return self._is_as_written() and not self.state["bad"]
        except (DataError, OSError, ValueError, EOFError):
            return False

    def open(self) -> None:
        """Takes up what an earlier call left, as far as it is whole, or begins anew."""
        self.state = self._found() or self._new()
        self.header = self.path.stat().st_size - len(self.hashes) * self.row_bytes

    def _read_state(self) -> dict:
        state = _checked_state(read_json(self.folder / "state.json", dict), self.key)
        if not state["bad"].keys() <= set(self.names):
            raise ValueError("state.json tells of other images")
        array = self.read()
        if array.shape != self.shape or array.dtype != np.float16 or not array.flags.c_contiguous:
            raise ValueError(f"features.npy holds {array.dtype} {array.shape}")
        # Rows are written by their places, counted from the end of the file.
        if array.offset + array.nbytes != self.path.stat().st_size:
            raise ValueError("features.npy is longer than it should be")
        return state

    def _is_as_written(self) -> bool:
        whole = self.state["done"] == len(self.hashes)
        return whole and self.state["kept"] == _size_and_time(self.path)

    def _found(self) -> dict | None:
        if not (self.folder / "state.json").exists():
            return None
        try:
            self.state = self._read_state()
        except (DataError, OSError, ValueError, EOFError) as error:
            logger.warning("%s is damaged (%s): extracting anew.", self.folder, error)
            return None
        if not self._is_as_written():
            array = self.read()
            for start, stop, crc in self.state["blocks"]:
                if zlib.crc32(np.ascontiguousarray(array[start:stop])) != crc:
                    self.damaged += range(start, stop)
            if self.damaged:
                what = "%s is damaged: %d of its images are extracted anew."
                logger.warning(what, self.path, len(self.damaged))
        return self.state

    def _new(self) -> dict:
        require_space(self.folder, len(self.hashes) * self.row_bytes + 2**20)
        (self.folder / "state.json").unlink(missing_ok=True)
        with write_atomically(self.path) as temporary:
            np.lib.format.open_memmap(temporary, "w+", "float16", self.shape).flush()
        pairs = list(zip(self.names, self.hashes, strict=True))
        write_json(self.folder / "images.json", pairs)
        return {"key": self.key.to_dict(), "done": 0, "bad": {}, "blocks": [], "kept": None}

    def read(self) -> np.ndarray:
        """The features as a read-only memory map."""
        return _load(self.path)

    def write(self, file: BinaryIO, numbers: Sequence[int], rows: np.ndarray) -> None:
        """Writes rows by number. Through the file: a full disk kills whoever writes into a map."""
        for number, row in zip(numbers, np.ascontiguousarray(rows, "float16"), strict=True):
            file.seek(self.header + number * self.row_bytes)
            file.write(row)

    def save(self, whole: bool = False) -> None:
        """Writes the state; `whole`: all is done and on the disk."""
        self.state["kept"] = _size_and_time(self.path) if whole else None
        write_json(self.folder / "state.json", self.state)

    def checksums(self, numbers: Iterable[int]) -> None:
        """Brings the checksums of the blocks with these rows up to date."""
        changed, array = set(numbers), self.read()
        for block in self.state["blocks"]:
            if not changed.isdisjoint(range(*block[:2])):
                block[2] = zlib.crc32(np.ascontiguousarray(array[block[0] : block[1]]))

    def others(self) -> dict[str, np.ndarray]:
        """Rows of other sets of the same backbone, by the contents of their images."""
        found: dict[str, np.ndarray] = {}
        missing = {*self.hashes} - {"none"}  # which is of any that could not be read
        for path in sorted(self.folder.parent.glob("*/images.json")):
            if path.parent == self.folder:
                continue
            try:
                state = read_json(path.with_name("state.json"), dict)
                pairs = read_json(path, list)
                array = _load(path.with_name("features.npy"))
                kept = state["kept"] == _size_and_time(path.with_name("features.npy"))
                # Also tells of contents that are not those of the features.
                wanted = {**self.key.to_dict(), "images": images_hash(pairs)}
                if kept and state["key"] == wanted:
                    for row, (name, content) in zip(array, pairs, strict=True):
                        if content in missing and name not in state["bad"]:
                            found[content] = row
            except (DataError, OSError, ValueError, EOFError, KeyError, TypeError):
                continue  # cannot be used
        return found


def _load(path: Path) -> np.ndarray:
    """A read-only memory map.

    Raises:
        OSError, ValueError: if the file is missing or damaged.
    """
    try:
        return np.load(path, mmap_mode="r", allow_pickle=False)
    except OSError:
        raise
    except Exception as error:  # NumPy parses the header as Python
        raise ValueError(f"{path.name} has a damaged header: {error}") from error


def _size_and_time(path: Path) -> list[int]:
    status = path.stat()
    return [status.st_size, status.st_mtime_ns]


def _checked_state(state: dict, key: FeatureKey) -> dict:
    """The state of these features, if it is one.

    Raises:
        ValueError: if it is not.
    """
    kinds = {"key": dict, "done": int, "bad": dict, "blocks": list, "kept": (list, type(None))}
    for name, kind in kinds.items():
        if name not in state or not isinstance(state[name], kind):
            raise ValueError(f"state.json has no {name}")
    end = 0
    for block in state["blocks"]:
        numbers = isinstance(block, list) and [type(number) for number in block] == [int] * 3
        if not (numbers and block[0] == end < block[1]):
            raise ValueError("state.json has other blocks than it should")
        end = block[1]
    if state["key"] != key.to_dict() or state["done"] != end:
        raise ValueError("state.json is not of these features")
    return state


def images_hash(pairs: Iterable[tuple[str, str]]) -> str:
    """A fingerprint of images, by their names and the hashes of their contents."""
    return digest([f"reader {_READER}", *(f"{image} {content}" for image, content in pairs)])


def digest(texts: Iterable[str]) -> str:
    """Sixteen digits of texts, in their order."""
    text = "\n".join(texts)
    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()[:16]

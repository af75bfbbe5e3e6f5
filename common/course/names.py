"""Names for the files that a command makes, one for each input, and none that is an input."""

import os
import re
import unicodedata
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from common.course.parts import part_name
from common.errors import ConfigError

_LONGEST = 150  # bytes of a figure's name


def figure_names(files: list[Path]) -> list[str]:
    """A name for each file's figure: the file's own, with as much of its path as it takes.

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


def _place(path: Path) -> str:
    return os.path.normcase(os.path.abspath(path))


def spare(files: list[Path], targets: list[Path], option: str) -> None:
    """Makes sure that no input is written over.

    Raises:
        ConfigError: if a target is one of the files; names it.
    """
    inputs = {os.path.normcase(os.path.realpath(file)): file for file in files}
    for target in targets:
        file = inputs.get(os.path.normcase(os.path.realpath(target)))
        if file is not None:
            raise ConfigError(f"{option} would write over the image {file}. Choose another path.")


def utf8(name: object) -> str:
    """A file's name as a table's text, which is UTF-8 where a name need not be."""
    return str(name).encode("utf-8", "backslashreplace").decode()

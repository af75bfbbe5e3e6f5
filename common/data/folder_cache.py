"""What is kept beside a folder of images for the next time, and who may write there."""

import hashlib
import logging
import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from common.errors import CourseError
from common.files import hold
from common.paths import display, home_dir

logger = logging.getLogger(__name__)


@contextmanager
def holding(path: Path, root: Path) -> Iterator[bool]:
    """Lets one process at a time read `root`; gives whether it holds the lock file `path`.

    A cache only saves time: where no lock can be had, this is told and work goes on without one.
    """
    with ExitStack() as stack:
        try:
            stack.enter_context(hold(path, f"reads {root}"))
        except CourseError as error:
            logger.warning("Nothing of %s is kept for the next time: %s", display(root), error)
            yield False
            return
        yield True


def cache_folder(root: Path) -> Path | None:
    """The first of two folders that can be written to."""
    places = [root / ".course-cache"]
    home = home_dir()
    if user := os.environ.get("XDG_CACHE_HOME") or (home and home / ".cache"):
        digest = hashlib.sha256(os.fsencode(root.resolve())).hexdigest()[:16]
        places.append(Path(user) / "keras-course" / digest)
    for folder in places:
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError:
            continue
        if os.access(folder, os.W_OK):
            return folder
    return None

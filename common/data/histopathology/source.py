"""Where the IDC set is found, or comes from."""

from pathlib import Path

from common.choices import DOWNLOADS
from common.data.download import download, downloading, extract
from common.data.histopathology.cache import read_patches
from common.data.histopathology.tree import NESTED
from common.data.images import ImageData
from common.data.kaggle import HOW_TO_AUTHENTICATE, kaggle_auth
from common.data.listing import first_file
from common.errors import CourseError, DataError
from common.paths import data_dir

# Where the authors keep the archive: first the address on Janowczyk's own site, then the one that
# Kaggle's page gives as the origin. Neither publishes a checksum.
URLS = (
    "https://andrewjanowczyk.com/wp-static/IDC_regular_ps50_idx5.zip",
    "http://gleason.case.edu/webdata/jpi-dl-tutorial/IDC_regular_ps50_idx5.zip",
)
_KAGGLE_SET = "paultimothymooney/breast-histopathology-images"
KAGGLE_URL = f"https://www.kaggle.com/api/v1/datasets/download/{_KAGGLE_SET}"
KAGGLE_PAGE = f"https://www.kaggle.com/datasets/{_KAGGLE_SET}"

_PLACES = ("histopathology", NESTED)
_ARCHIVE, _KAGGLE_ARCHIVE = "IDC_regular_ps50_idx5.zip", "breast-histopathology-images.zip"


def load_histopathology() -> ImageData:
    """The IDC set, found under `COURSE_DATA` or downloaded there (1.6 GB).

    Returns:
        As `read_patches`, named "histopathology".

    Raises:
        DataError: if it can neither be found nor downloaded (says what to do), or as
            `read_patches`.
    """
    return read_patches(histopathology_dir(), name="histopathology")


def histopathology_dir() -> Path:
    """The folder of the IDC set; downloads it if it is absent.

    Looks in this order:

    1. `COURSE_DATA/histopathology`, then `COURSE_DATA/IDC_regular_ps50_idx5`;
    2. the archives `COURSE_DATA/IDC_regular_ps50_idx5.zip` (the authors') and
       `COURSE_DATA/breast-histopathology-images.zip` (Kaggle's);
    3. the authors' address, then Kaggle, which gives public sets without credentials too, though
       not always.

    An archive is unpacked into `COURSE_DATA/histopathology`.

    Raises:
        DataError: if nothing could be downloaded: names every address, what was wrong with it,
            and the ways out.
    """
    found, dest = find_histopathology(), data_dir() / _PLACES[0]
    if found and found.is_dir():
        return found
    return extract(found or _download(dest), dest)


def find_histopathology() -> Path | None:
    """The folder of the IDC set, else an archive of it; `None` if neither is there."""
    root = data_dir()
    folders = (root / place for place in _PLACES if (root / place).is_dir())
    return next(folders, None) or first_file([root / _ARCHIVE, root / _KAGGLE_ARCHIVE])


def _download(dest: Path) -> Path:
    original, kaggle = dest.with_name(_ARCHIVE), dest.with_name(_KAGGLE_ARCHIVE)
    ways_out = (
        "Do one of these and run the same again:\n"
        f"  - for Kaggle, {HOW_TO_AUTHENTICATE};\n"
        f"  - download {KAGGLE_PAGE} in a browser and unpack it, so that there is "
        f"{dest}/<patient>/0/ and {dest}/<patient>/1/;\n"
        f"  - download {URLS[0]} and put it at {original}."
    )
    missing, reasons = f"The IDC histopathology set is not in {dest}", []
    with downloading(missing, DOWNLOADS["histopathology"], ways_out):
        for archive, urls, auth in (
            (original, URLS, lambda: None),
            (kaggle, KAGGLE_URL, kaggle_auth),
        ):
            try:
                return download(urls, archive, None, auth=auth())
            except CourseError as error:  # credentials that cannot be read are one, too
                reasons.append(str(error))
        raise DataError("\n".join(reasons))

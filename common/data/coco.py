"""MSCOCO: photos of everyday scenes, five captions each; a seeded part of them.

Lin et al., "Microsoft COCO: Common Objects in Context" (2014); Chen et al., "Microsoft COCO
Captions" (2015). The split that papers report on is that of Karpathy and Fei-Fei (2015).
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.parse import quote

import numpy as np

from common.data.archives import name_problem
from common.data.caption_files import REFERENCES, CaptionReport, add_caption
from common.data.caption_splits import SPLITS
from common.data.captions import CaptionData
from common.data.checks import check_count, check_split
from common.data.connections import new_session
from common.data.download import download, downloading, extract
from common.data.karpathy import KARPATHY, KARPATHY_SIZE, is_number, read_karpathy, short
from common.data.listing import first_file, some
from common.errors import DataError
from common.files import check_output, hold, read_json
from common.paths import data_dir
from common.progress import progress_bar

PARTS = ("train2017", "val2017")
# No checksums are published. The authors' address is a bucket of S3, which has no certificate of
# its own; under Amazon's name the same files come over https. Theirs only where that is closed.
HOSTS = ("https://s3.amazonaws.com/images.cocodataset.org", "http://images.cocodataset.org")
ANNOTATIONS = "annotations/annotations_trainval2017.zip"
ANNOTATIONS_SIZE, PHOTO_MB = "250 MB", 0.163  # of a photo, on average
JSON = "dataset_coco.json"
TRAIN_IMAGES = 40_000
_CONNECTIONS = 8
_LONGEST_PHOTO = 50 * 10**6
# Web pages that an earlier version kept as photos are short, and so are few photos.
_SHORT_PHOTO = 1 << 16


def load_coco(
    split: str,
    folder: str | Path | None = None,
    *,
    images: int = TRAIN_IMAGES,
    seed: int = 0,
    karpathy: bool = False,
    limit: int | None = None,
    progress: bool = True,
) -> CaptionData:
    """One split of a seeded part of MSCOCO; downloads what is absent, the part's images only.

    Layout: `annotations/captions_{train,val}2017.json`, `train2017/`, `val2017/`. Without
    `karpathy`, the training images are drawn from `train2017`, and `val2017` is cut, in a drawn
    order, into dev and test.

    Args:
        split: "train", "dev" or "test".
        folder: Where it lies, by default `COURSE_DATA/coco`.
        images: Training images drawn, and as many at most for dev and test.
        seed: Of the drawing.
        karpathy: Draw from the parts of Karpathy's `dataset_coco.json`; dev and test are whole
            then (5,000 images each), unless `images` is fewer.
        limit: Take at most so many of these, the first ones.
        progress: Show a progress bar while downloading.

    Returns:
        The images in the order of their numbers; names are `part/file`.

    Raises:
        ConfigError: for an unknown split, or fewer than one image.
        DataError: if files are missing or damaged: says which, and the entry.
    """
    check_split(split, SPLITS)
    check_count("images", images)
    folder = data_dir() / "coco" if folder is None else Path(folder)
    report = CaptionReport()
    parts = {part: _annotations(folder, part, report) for part in PARTS}
    captions = {file: texts for part in parts.values() for file, texts in part.items()}
    if karpathy:
        pool = _karpathy_pool(folder, split, captions)
    elif split == "train":
        pool = [*parts["train2017"]]
    else:
        pool = [*parts["val2017"]]
        order = np.random.default_rng([seed, 1]).permutation(len(pool))
        half = len(pool) // 2
        chosen = order[:half] if split == "dev" else order[half:]
        pool = [pool[i] for i in sorted(chosen)]
    if images < len(pool):
        drawn = np.random.default_rng([seed, 0]).choice(len(pool), images, replace=False)
        pool = [pool[i] for i in sorted(drawn)]
    pool = pool[:limit]
    _fetch(pool, folder, progress)
    report.few_captions = [file for file in pool if len(captions[file]) < REFERENCES]
    report.log("coco")
    return CaptionData(tuple(pool), tuple(map(captions.get, pool)), "coco", split, folder)


def _annotations(folder: Path, part: str, report: CaptionReport) -> dict[str, tuple[str, ...]]:
    """The captions in a file of annotations, by `part/name` of the image, in order of numbers."""
    path = _find_annotations(folder, f"captions_{part}.json")
    content = read_json(path, dict)
    for key in ("images", "annotations"):
        if not isinstance(content.get(key), list):
            raise DataError(f"{path} has no list `{key}`. Restore the original file.")

    def wrong(key: str, i: int, problem: str) -> DataError:
        return DataError(f"{path}, {key}[{i}]: {problem}. Restore the original file.")

    names: dict[int, str] = {}
    for i, image in enumerate(content["images"]):
        if not isinstance(image, dict) or not {"id", "file_name"} <= image.keys():
            raise wrong("images", i, "`id` or `file_name` is missing")
        number, name = image["id"], image["file_name"]
        if not is_number(number):
            raise wrong("images", i, f"`id` is no whole number: {short(number)}")
        if not isinstance(name, str):
            raise wrong("images", i, f"`file_name` is no text: {short(name)}")
        if problem := name_problem(name):
            raise wrong("images", i, f"`file_name` {short(name)} {problem}")
        if names.setdefault(number, name) != name:
            raise wrong("images", i, f"{number} is the `id` of {short(names[number])} already")
    if len(set(names.values())) < len(names):
        twice = [name for name, count in Counter(names.values()).items() if count > 1]
        raise DataError(
            f"{path}: of several images is the `file_name` {some(twice)}. Restore the original "
            "file."
        )
    captions: dict[str, list[str]] = {}
    for i, annotation in enumerate(content["annotations"]):
        if not isinstance(annotation, dict) or not {"image_id", "caption"} <= annotation.keys():
            raise wrong("annotations", i, "`image_id` or `caption` is missing")
        number, caption = annotation["image_id"], annotation["caption"]
        if type(number) is not int or number not in names:
            raise DataError(
                f"{path}, annotations[{i}] is of the image {short(number)}, which is not among "
                "`images`. Restore the original file."
            )
        add_caption(captions, names[number], caption, f"{path.name}:annotations[{i}]", report)
    told = {name: found for name, found in captions.items() if found}
    report.images_without_captions += sorted(set(names.values()) - told.keys())
    if not told:
        raise DataError(f"{path} has no caption.")
    in_order = [names[number] for number in sorted(names) if names[number] in told]
    return {f"{part}/{name}": tuple(told[name][:REFERENCES]) for name in in_order}


def _karpathy_pool(folder: Path, split: str, files: Iterable[str]) -> list[str]:
    """Those of the files that are in a part of Karpathy's split, in the order of their names."""
    places = (folder / JSON, folder / "caption_datasets" / JSON, folder / "annotations" / JSON)
    path = first_file(places)
    if path is None:
        archive = folder / KARPATHY.rsplit("/", 1)[-1]
        ways_out = "Put it there, or do without Karpathy's split."
        missing = f"{JSON} of COCO is not in {folder}"
        with downloading(missing, KARPATHY_SIZE, ways_out, archive):
            download([KARPATHY], archive, None)
        path = extract(archive, folder / archive.stem) / JSON
    _, lists, numbers = read_karpathy(path, CaptionReport())
    # The files of 2014 and 2017 have other names, and the same numbers.
    by_name = {file.partition("/")[2]: file for file in files}
    wanted = [f"{numbers.get(name, -1):012d}.jpg" for name in lists[split]]
    if absent := [name for name in wanted if name not in by_name]:
        raise DataError(
            f"{len(absent):,} images of {path} are not in the annotations of 2017 "
            f"({some(absent)}). Restore the original files."
        )
    return [by_name[name] for name in sorted(wanted)]


def _find_annotations(folder: Path, name: str) -> Path:
    """A file of annotations, downloaded if it is absent."""
    archive = folder / ANNOTATIONS.rsplit("/", 1)[-1]
    unpacked = folder / archive.stem
    places = (folder / "annotations" / name, unpacked / "annotations" / name)
    path = first_file(places)
    if path is None:
        ways_out = "Put captions_train2017.json and captions_val2017.json into that folder."
        missing = f"{name} of COCO is not in {folder / 'annotations'}"
        with downloading(missing, ANNOTATIONS_SIZE, ways_out, archive):
            download([f"{host}/{ANNOTATIONS}" for host in HOSTS], archive, None)
            extract(archive, unpacked)
        path = places[1]
        if not path.is_file():
            raise DataError(
                f"There is no {path}. Delete {unpacked} and {archive}, and run the same again."
            )
    return path


def _fetch(files: Sequence[str], folder: Path, progress: bool) -> None:
    """Downloads the images that are not there: a part of 40,000 is a third of the archive."""
    if not _absent(files, folder):
        return
    with hold(folder / ".photos.lock", "downloads photos of COCO"), new_session() as session:
        if not (absent := _absent(files, folder)):
            return
        for part in {Path(file).parent for file in absent}:
            check_output(folder / part / "photo.jpg")

        def fetch(file: str) -> None:
            urls = [f"{host}/{quote(file)}" for host in HOSTS]
            download(urls, folder / file, None, most_bytes=_LONGEST_PHOTO, session=session)

        missing = f"{len(absent):,} of {len(files):,} photos of COCO are not in {folder}"
        missing += f" ({some(absent)})"
        size = f"some {len(absent) * PHOTO_MB:,.0f} MB"
        ways_out = "Unpack train2017.zip and val2017.zip there, or run the same again: "
        ways_out += "what has arrived is kept."
        with (
            downloading(missing, size, ways_out),
            ThreadPoolExecutor(_CONNECTIONS) as pool,
        ):
            try:
                arriving = pool.map(fetch, absent)
                what = {"total": len(absent), "unit": " photos", "disable": not progress}
                for _ in progress_bar(arriving, "photos of COCO", **what):
                    pass
            finally:
                pool.shutdown(cancel_futures=True)


def _absent(files: Sequence[str], folder: Path) -> list[str]:
    return [file for file in files if not _is_photo(folder / file)]


def _is_photo(path: Path) -> bool:
    """Whether an image is there, by a cheap look: reading it tells the rest."""
    try:
        if path.stat().st_size > _SHORT_PHOTO:
            return True
        with path.open("rb") as file:
            return file.read(4).startswith((b"\xff\xd8", b"\x89PNG", b"RIFF", b"GIF8", b"BM"))
    except OSError:
        return False

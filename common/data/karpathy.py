"""Karpathy's files of captions and splits, one form for Flickr8k, Flickr30k and MSCOCO."""

import json
from pathlib import Path

from common.data.archives import name_problem
from common.data.caption_files import CaptionReport, Lists, add_caption
from common.errors import DataError
from common.files import read_json
from common.paths import display

# dataset_flickr8k.json, dataset_flickr30k.json and dataset_coco.json; no checksum is published.
KARPATHY = "https://cs.stanford.edu/people/karpathy/deepimagesent/caption_datasets.zip"
KARPATHY_SIZE = "37 MB"
# COCO's "restval" is the part of its validation images that everyone trains on.
_SPLITS = {"train": "train", "restval": "train", "val": "dev", "test": "test"}


def read_karpathy(path: Path, report: CaptionReport) -> tuple[Lists, Lists, dict[str, int]]:
    """Captions by name of the image, names by split, and COCO's numbers by name.

    Args:
        path: A JSON object whose `images` have `filename`, `split` and `sentences` with `raw`.
        report: Gets captions without a word.

    Raises:
        DataError: for another form (says which entry), or a name that comes twice.
    """
    content = read_json(path, dict)
    if not isinstance(content.get("images"), list):
        raise DataError(f"{path} has no list `images`. Restore Karpathy's file.")

    def wrong(i: int, problem: str) -> DataError:
        return DataError(f"{path}, images[{i}]: {problem}. Restore Karpathy's file.")

    captions: Lists = {}
    lists: Lists = {"train": [], "dev": [], "test": []}
    numbers: dict[str, int] = {}
    taken: set[int] = set()
    for i, image in enumerate(content["images"]):
        if problem := _problem(image):
            raise wrong(i, problem)
        name = image["filename"]
        if name in captions:
            raise wrong(i, f"{name} comes twice")
        captions[name] = []
        for k, sentence in enumerate(image["sentences"]):
            where = f"{path.name}:images[{i}].sentences[{k}]"
            add_caption(captions, name, sentence["raw"], where, report)
        lists[_SPLITS[image["split"]]].append(name)
        if "cocoid" in image:
            number = numbers[name] = image["cocoid"]
            if number in taken:
                raise wrong(i, f"the `cocoid` {number} comes twice")
            taken.add(number)
    return captions, lists, numbers


def _problem(image: object) -> str | None:
    """What is wrong with an entry, whatever JSON holds; `None` if nothing is."""
    if not isinstance(image, dict):
        return "no object"
    for key in ("filename", "split", "sentences"):
        if key not in image:
            return f"`{key}` is missing"
    name, split, sentences = image["filename"], image["split"], image["sentences"]
    if not isinstance(name, str):
        return f"`filename` is no text: {short(name)}"
    if problem := name_problem(name):
        return f"`filename` {short(name)} {problem}"
    if not isinstance(split, str) or split not in _SPLITS:
        return f"the split {short(split)} is unknown ({', '.join(_SPLITS)})"
    if not isinstance(sentences, list):
        return "`sentences` is no list"
    for k, sentence in enumerate(sentences):
        if not isinstance(sentence, dict) or not isinstance(sentence.get("raw"), str):
            return f"sentences[{k}] has no text `raw`"
    if "cocoid" in image and not is_number(image["cocoid"]):
        return f"`cocoid` is no whole number: {short(image['cocoid'])}"
    return None


def is_number(value: object) -> bool:
    """Whether a value of JSON can be the number of an image (`True` is an `int`, too)."""
    return type(value) is int and 0 <= value < 2**63


def short(value: object) -> str:
    """The beginning of any value of JSON, for an error."""
    if isinstance(value, (dict, list)):
        return "an object" if isinstance(value, dict) else "a list"
    return display(json.dumps(value))[:80]

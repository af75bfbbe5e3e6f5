"""Karpathy's files of captions and splits, one form for Flickr8k, Flickr30k and MSCOCO."""

from pathlib import Path

from common.data.caption_files import CaptionReport, add_caption
from common.errors import DataError
from common.files import read_json

# dataset_flickr8k.json, dataset_flickr30k.json and dataset_coco.json; no checksum is published.
KARPATHY = "https://cs.stanford.edu/people/karpathy/deepimagesent/caption_datasets.zip"
# COCO's "restval" is the part of its validation images that everyone trains on.
_SPLITS = {"train": "train", "restval": "train", "val": "dev", "test": "test"}


def read_karpathy(
    path: Path, report: CaptionReport
) -> tuple[dict[str, list[str]], dict[str, list[str]], dict[str, int]]:
    """Captions by name of the image, names by split, and COCO's numbers by name.

    Args:
        path: A JSON object whose `images` have `filename`, `split` and `sentences` with `raw`.
        report: Gets captions without a word.

    Raises:
        DataError: for another form (says which entry), or a name that comes twice.
    """
    content = read_json(path)
    if not isinstance(content, dict) or not isinstance(content.get("images"), list):
        raise DataError(f"{path} has no list `images`. Restore Karpathy's file.")
    captions: dict[str, list[str]] = {}
    lists: dict[str, list[str]] = {"train": [], "dev": [], "test": []}
    numbers: dict[str, int] = {}
    for i, image in enumerate(content["images"]):
        try:
            name, split = image["filename"], _SPLITS[image["split"]]
            texts = [sentence["raw"] for sentence in image["sentences"]]
        except (KeyError, TypeError) as error:
            raise DataError(
                f"{path}, images[{i}]: {error} is missing or unknown. Restore Karpathy's file."
            ) from error
        if name in captions:
            raise DataError(f"{path}, images[{i}]: {name} comes twice. Restore Karpathy's file.")
        captions[name] = []
        for k, text in enumerate(texts):
            add_caption(captions, name, text, f"{path.name}:images[{i}].sentences[{k}]", report)
        lists[split].append(name)
        if "cocoid" in image:
            numbers[name] = image["cocoid"]
    return captions, lists, numbers

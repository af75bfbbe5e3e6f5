"""Networks in the folders of runs and of released weights: read, described, written.

Whatever precision a network was trained in: it is judged in float32 and released in half precision,
each time built anew from its record.
"""

import io
from collections.abc import Sequence
from pathlib import Path

import h5py
import keras
import numpy as np

from common.data.vocabulary import Vocabulary
from common.errors import ConfigError, DataError
from common.files import read_json, write_atomically, write_json
from common.models.captioning import Decoder, decoder
from common.models.ensemble import Ensemble
from common.models.resnet import ResNetConfig, resnet
from common.training.backend import dtype_policy
from common.training.generation import build_decoder
from common.training.runs import check_files, file_hashes, read_model, read_record

CAPTIONING = "phase3_captioning"
WEIGHTS = "model.weights.h5"
_LARGE = 4096  # values; smaller arrays are a small part of a file, and kept whole
RESTORE = "Restore it: git checkout -- phase*/weights"


def read_network(folder: Path, advice: str | None = None, policy: str = "float32") -> keras.Model:
    """The network of a run's folder, finished or not, or of released weights.

    Args:
        folder: Where it is.
        advice: What to do about damaged files, by default to train anew.
        policy: Keras dtype policy.

    Raises:
        DataError: if files are missing or damaged, or do not fit together.
    """
    described = read_description(folder)
    check_files(folder, described, advice)
    network = build(described, folder, policy)
    trained = folder / "model.keras"
    if not trained.exists():
        load_weights(network, folder / WEIGHTS)
        return network
    try:
        network.set_weights(read_model(trained).get_weights())
    except ValueError as error:
        raise DataError(f"Record and model in {folder} do not fit together: {error}") from error
    return network


def read_description(folder: Path) -> dict:
    """What a run, finished or not, or released weights are of: the record, or the config."""
    if (folder / "record.json").exists():
        return read_record(folder)
    return read_json(folder / "config.json", dict)


def build(described: dict, folder: Path, policy: str = "float32") -> keras.Model:
    """The network that a record describes, untrained.

    Args:
        described: A record or a config: `network` (a `ResNetConfig` as a dict) and `classes`, and
            `members` if it is of an ensemble (what each has beside what they share); or `decoder`
            (its arguments and its `name`) and `backbone` (with its `shape`).
        folder: Where it stands, for the error.
        policy: Keras dtype policy.

    Raises:
        DataError: if it describes none.
    """
    try:
        with dtype_policy(policy):
            if "members" in described:
                members = enumerate(member_records(described))
                return Ensemble([_resnet(member, f"member{i}") for i, member in members])
            if "decoder" not in described:
                return _resnet(described)
            height, width, channels = described["backbone"]["shape"]
            return build_decoder(decoder(**described["decoder"]), height * width, channels)
    except (ConfigError, KeyError, TypeError, ValueError, AttributeError) as error:
        raise DataError(
            f"{folder / 'record.json'} describes no network of this course ({error}). Restore it, "
            "or train anew."
        ) from error


def _resnet(described: dict, name: str = "resnet") -> keras.Model:
    config = ResNetConfig.from_dict(described["network"])
    return resnet(config, num_classes=len(described["classes"]), name=name)


def member_records(record: dict) -> list[dict]:
    """The records of an ensemble's members, each whole; of another network its own alone."""
    return [record | member for member in record.get("members", [{}])]


def trained_on(record: dict) -> list[set[str]]:
    """The patients that each member was trained on; of none where its record does not say."""
    return [set(map(str, own.get("trained_on") or [])) for own in member_records(record)]


def ensemble_record(records: Sequence[dict]) -> dict:
    """What the records of several networks share, with the rest of each in `members`.

    Of settings that differ in a part, such as two recipes, the other part stands at the top, too.
    """
    shared = _shared(records)
    members = [
        {k: v for k, v in record.items() if shared.get(k) != v and k not in ("files", "threshold")}
        for record in records
    ]
    summed = ("parameters", "macs", "seconds")
    sums = {key: sum(r[key] for r in records) for key in summed if all(key in r for r in records)}
    name = f"{records[0]['run_name']} and {len(records) - 1} more"
    return shared | {"run_name": name, "members": members} | sums


def _shared(found: Sequence[dict]) -> dict:
    shared = {}
    for key, value in found[0].items():
        values = [each.get(key) for each in found]
        if all(other == value for other in values):
            shared[key] = value
        elif all(isinstance(other, dict) for other in values) and (part := _shared(values)):
            shared[key] = part
    return shared


def load_weights(model: keras.Model, path: Path) -> None:
    """Loads a file of released weights.

    Raises:
        DataError: if it is missing, damaged or of another network.
    """
    try:
        model.load_weights(path)
    except Exception as error:  # whatever Keras and h5py make of changed bytes
        raise DataError(f"{path} is missing or damaged: {str(error)[:300]}. {RESTORE}") from error


def write_half(model: keras.Model, half: keras.Model, folder: Path) -> None:
    """Writes a network's weights by way of the same network in float16.

    Large arrays keep eight significant bits, as many as bfloat16 has, and are compressed: the file
    is a fifth smaller, which is the place of one more member of an ensemble.
    """
    half.set_weights(model.get_weights())
    with write_atomically(folder / WEIGHTS) as temporary:
        half.save_weights(temporary, overwrite=True)
        _compress(temporary)


def _compress(path: Path) -> None:
    buffer = io.BytesIO()
    with h5py.File(path, "r") as source, h5py.File(buffer, "w") as target:

        def copy(name: str, item: h5py.Group | h5py.Dataset) -> None:
            if isinstance(item, h5py.Group):
                copied = target.require_group(name)
            elif item.size < _LARGE or item.dtype.kind != "f":
                copied = target.create_dataset(name, data=item[()])
            else:
                share, exponent = np.frexp(item[()])
                value = np.ldexp(np.round(share * 256) / 256, exponent).astype(item.dtype)
                copied = target.create_dataset(
                    name, data=value, shuffle=True, compression="gzip", compression_opts=9
                )
            copied.attrs.update(item.attrs)

        target.attrs.update(source.attrs)
        source.visititems(copy)
    path.write_bytes(buffer.getvalue())


def write_record(record: dict, folder: Path) -> None:
    """Writes the record beside released weights, and ties it to them."""
    record["files"] = file_hashes(folder)
    write_json(folder / "record.json", record)


def read_captioner(folder: Path, policy: str = "float32") -> tuple[Decoder, Vocabulary]:
    """Decoder and vocabulary of a run's folder or of released weights; see `read_network`.

    Raises:
        DataError: if files are missing or damaged, or do not fit together.
    """
    network = read_network(folder, policy=policy)
    vocabulary = Vocabulary.load(folder / "vocabulary.json")
    if not isinstance(network, Decoder):
        raise DataError(f"{folder} holds no decoder of captions. Restore the files of one run.")
    if network.vocabulary_size != len(vocabulary):
        raise DataError(
            f"{folder / 'vocabulary.json'} has {len(vocabulary)} words, the decoder in {folder} "
            f"was made for {network.vocabulary_size}. Restore the files of one run."
        )
    return network, vocabulary


def read_captioner_record(folder: Path) -> dict:
    """The record of a finished captioner.

    Raises:
        ConfigError: if it is of another phase.
        DataError: if it is damaged.
    """
    record = read_record(folder)
    if record.get("phase") != CAPTIONING:
        raise ConfigError(
            f"The run in {folder} is one of {record.get('phase')}, not of {CAPTIONING}."
        )
    kinds = {
        "backbone": {"name": str, "weights": str, "hash": str, "shape": list},
        "decoder": {"name": str, "vocabulary_size": int},
        "decoding": {"beams": int, "length_penalty": (int, float)},
    }
    for part, values in kinds.items():
        found = record.get(part)
        for key, kind in values.items():
            if not isinstance(found, dict) or not isinstance(found.get(key), kind):
                raise DataError(
                    f"{folder / 'record.json'} tells no {part}.{key}: it is damaged, or of another "
                    "version of the course. Restore the file, or train anew."
                )
    return record

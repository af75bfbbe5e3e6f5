"""Tests of common.choices: its lists are those of the code, and wrong names are told."""

from pathlib import Path

import pytest

from common import choices
from common.data import image_folder, splits, word_vectors
from common.errors import ConfigError, DataError, did_you_mean
from common.evaluation import rewards
from common.layers import embedding
from common.models import DECODERS, backbones
from common.models.resnet import PRESETS
from common.training import backend, caption_task, recipes

LISTS = {
    "MODELS": tuple(PRESETS),
    "SPLITS": splits.SPLITS,
    "AUGMENTATIONS": tuple(recipes.AUGMENTATIONS),
    "IMBALANCES": recipes.IMBALANCES,
    "BACKBONES": (*backbones.BACKBONES, caption_task.SCENES),
    "DECODERS": tuple(DECODERS),
    "VECTOR_MODES": embedding.VECTOR_MODES,
    "BASELINES": recipes.BASELINES,
    "REWARDS": tuple(rewards.REWARDS),
    "SCORES": rewards.SCORES,
}


@pytest.mark.parametrize("name", LISTS)
def test_lists_are_those_of_the_code(name):
    assert sorted(getattr(choices, name)) == sorted(LISTS[name])


def test_embeddings_and_devices_are_those_of_the_code():
    assert set(word_vectors.GLOVE) <= set(choices.EMBEDDINGS)
    with pytest.raises(ConfigError) as caught:
        caption_task.embedding_vectors("nosuch", None, [])
    told = str(caught.value).partition("Choose one of: ")[2].rstrip(".").split(", ")
    assert sorted(told) == sorted(choices.CHOICES["embedding"])
    for devices in choices.DEVICES:
        backend.device_settings(devices=devices)


@pytest.mark.parametrize(
    ("word", "known", "near"),
    [
        ("cifar", ["synthetic", "cifar10"], "cifar10"),
        ("CIFAR-10", ["synthetic", "cifar10"], "cifar10"),
        ("resnet21", ["resnet20", "resnet32", "fast"], "resnet20"),
        ("histo", ["synthetic", "histopathology"], "histopathology"),
        ("laptob", ["smoke", "laptop"], "laptop"),
        ("zebra", ["smoke", "laptop"], None),
        ("", ["smoke"], None),
        ("x" * 100_000, ["smoke"], None),
    ],
)
def test_the_nearest_name(word, known, near):
    assert did_you_mean(word, known) == (f" Did you mean {near!r}?" if near else "")


# --- data sets ---


def write(path):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"")


@pytest.fixture
def trees(tmp_path, monkeypatch):
    """A folder for phase 1, one for phase 2, and others."""
    monkeypatch.chdir(tmp_path)
    for split in ("train", "test"):
        for name in ("pets/{}/cat", "pets/{}/dog", "empty/{}/cat", "empty/{}/dog", "one/{}/cat"):
            write(tmp_path / name.format(split) / "1.png")
    write(tmp_path / "slides" / "9001" / "0" / "9001_idx5_x1_y1_class0.png")
    write(tmp_path / "classes" / "cat" / "1.png")
    for name in "abc":
        write(tmp_path / "photos" / f"{name}.jpg")
    (tmp_path / "photos" / "captions.txt").write_text("image,caption\na,dog\nb,cat\nc,cow\n")
    (tmp_path / "empty" / "test" / "dog" / "1.png").unlink()


ONE, TWO, THREE = choices.PHASES


@pytest.mark.parametrize(
    ("dataset", "phases"),
    [
        ("synthetic", [ONE, TWO, THREE]),
        ("cifar10", [ONE]),
        ("folder:pets", [ONE]),
        ("pets", [ONE]),
        ("./pets", [ONE]),
        ("folder:slides", [TWO]),
        ("histopathology", [TWO]),
        ("coco", [THREE]),
        ("folder:photos", [THREE]),
        ("photos", [THREE]),
        ("coco-karpathy:100", [THREE]),
    ],
)
def test_right_data_sets(trees, dataset, phases):
    choices.check_dataset(dataset, phases)


@pytest.mark.parametrize(
    ("dataset", "phases", "message"),
    [
        ("cifar", [ONE], "'cifar'. Did you mean 'cifar10'"),
        ("synthetc", [ONE, TWO, THREE], "Did you mean 'synthetic'"),
        ("cifar10", [ONE, TWO, THREE], "run phase1 --dataset cifar10"),
        ("histopathology", [ONE, TWO], "run phase2 --dataset histopathology"),
        ("flickr8k", [ONE], "'flickr8k' is a data set of phase3_captioning. phase1_cifar has: syn"),
        ("folder:pets", [ONE, TWO, THREE], "run phase1 --dataset folder:pets"),
        ("folder:slides", [ONE, TWO], "run phase2 --dataset folder:slides"),
        ("folder:photos", [ONE, TWO, THREE], "run phase3 --dataset folder:photos"),
        ("folder:pest", [ONE], "There is no folder 'pest'. Did you mean 'pets'?"),
        ("nowhere/pets", [ONE], "There is no folder 'nowhere/pets'."),
        ("folder:", [ONE], "There is no folder ''."),
        ("folder:" + "x" * 5000, [TWO], "There is no folder 'xxx"),
        ("folder:a\0b", [TWO], "There is no folder"),
        (
            "folder:pets",
            [THREE],
            "pets looks like data for phase1_cifar, not for phase3_captioning",
        ),
        ("folder:nowhere", [THREE], "There is no folder 'nowhere'. Wanted: photos of your own"),
        ("coco:0", [THREE], "No data set and no folder is named 'coco:0'. Did you mean 'coco'"),
        ("coco:\u00b2", [THREE], "named 'coco:\u00b2'. Did you mean 'coco'"),
        ("coco:" + "9" * 5000, [THREE], "No data set and no folder is named 'coco:9999"),
        ("cifar10:5", [ONE], "No data set and no folder is named 'cifar10:5'. Did you mean"),
        ("folder:classes", [ONE], "train is not a folder"),
        ("folder:one", [ONE], "one class only"),
        ("slides", [ONE], "slides looks like data for phase2_histopathology, not for phase1"),
        ("folder:empty", [ONE], "No image in"),
        ("folder:classes", [TWO], "classes"),
    ],
)
def test_wrong_data_sets(trees, dataset, phases, message):
    with pytest.raises((ConfigError, DataError)) as caught:
        choices.check_dataset(dataset, phases)
    assert message in str(caught.value)


def test_the_folder_of_all_data_is_checked(monkeypatch):
    monkeypatch.setenv("COURSE_DATA", "/nowhere")
    choices.check_dataset("synthetic", [ONE])
    with pytest.raises(ConfigError, match="COURSE_DATA='/nowhere' is not a folder"):
        choices.check_dataset("cifar10", [ONE])


def test_what_looks_right_is_not_read(trees, monkeypatch):
    monkeypatch.setattr(image_folder, "read_image_folder", lambda *_: pytest.fail("read"))
    choices.check_dataset("folder:pets", [ONE])


def test_the_data_set_is_the_given_one_else_that_of_the_environment_else_real(trees, monkeypatch):
    monkeypatch.setenv("COURSE_DATASET", "synthetic")
    assert choices.resolve_dataset(ONE, "cifar10") == "cifar10"
    assert choices.resolve_dataset(ONE, Path("pets")) == "pets"
    assert {choices.resolve_dataset(phase) for phase in choices.PHASES} == {"synthetic"}
    for unset in (lambda: monkeypatch.setenv("COURSE_DATASET", ""), monkeypatch.undo):
        unset()
        monkeypatch.delenv("COURSE_DATASET", raising=False)
        found = [choices.resolve_dataset(phase) for phase in choices.PHASES]
        assert found == ["cifar10", "histopathology", "flickr8k"]


@pytest.mark.parametrize(
    ("phase", "variable", "message"),
    [
        (
            ONE,
            "cifr10",
            "COURSE_DATASET='cifr10': No data set and no folder is named 'cifr10'. Did",
        ),
        (
            TWO,
            "cifar10",
            "COURSE_DATASET='cifar10': 'cifar10' is a data set of phase1_cifar. phase2",
        ),
        (
            THREE,
            "folder:pets",
            "COURSE_DATASET='folder:pets': pets looks like data for phase1",
        ),
        (TWO, "folder:pest", "There is no folder 'pest'. Did you mean 'pets'?"),
    ],
)
def test_a_wrong_variable_is_named(trees, monkeypatch, phase, variable, message):
    monkeypatch.setenv("COURSE_DATASET", variable)
    with pytest.raises((ConfigError, DataError)) as caught:
        choices.resolve_dataset(phase)
    assert message in str(caught.value) and str(caught.value).endswith("or unset it.")
    with pytest.raises((ConfigError, DataError)) as caught:
        choices.resolve_dataset(phase, variable)
    assert message.partition(": ")[2] in str(caught.value)
    assert "COURSE_DATASET" not in str(caught.value)


def test_the_size_of_every_download_is_known():
    named = {name for sets in choices.PHASES.values() for name in sets}
    assert choices.DOWNLOADS.keys() == named - {"synthetic", choices.OWN}


# --- parameters ---


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("model", "resnet20"),
        ("model", None),
        ("backbone", "mobilenet_0.75"),
        ("backbone", "scenes"),
        ("embedding", "bert:a/b"),
        ("embedding", "glove:glove-wiki-gigaword-100"),
        ("embedding", "glove-wiki-gigaword-50"),
        ("reward", {"bleu_4": 0.5, "truth": 1}),
        ("validation", 0),
        ("validation", 0.2),
        ("patience", 0),
        ("weights", "random"),
        ("weights", "."),
        ("decoder", "all"),
        ("something", -5),
    ],
)
def test_right_values(name, value):
    choices.check_value(name, value, "all")


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("model", "resnet21", "Did you mean 'resnet20'"),
        ("split", "patient", "Did you mean 'patients'"),
        ("augmentation", "color", "Did you mean 'colour'"),
        ("imbalance", "focl", "Did you mean 'focal'"),
        ("devices", "two", "Choose one of: one, all"),
        ("decoder", "lstn", "Did you mean 'lstm'"),
        ("decoder", "all", "Choose one of: rnn"),
        ("backbone", "resnet51", "Did you mean 'resnet50'"),
        ("embedding", "glov", "Did you mean 'glove'"),
        ("embedding", "glove:nosuch.txt", "there is no such file"),
        ("vector_mode", "freeze", "Did you mean 'frozen'"),
        ("baseline", "greed", "Did you mean 'greedy'"),
        ("reward", "cider", "Did you mean 'cider_d'"),
        ("reward", {"bleu": 1}, "Did you mean 'bleu_4'"),
        ("reward", {}, "give weights"),
        ("weights", "imagent", "Did you mean 'imagenet'"),
        ("lists", "nowhere", "there is no such file"),
        ("epochs", 0, "1 or more"),
        ("images", -1, "1 or more"),
        ("dropout", 1.0, "below 1"),
        ("learning_rate", 0.0, "more than 0"),
        ("validation", -0.1, "0 or more"),
    ],
)
def test_wrong_values(name, value, message):
    with pytest.raises(ConfigError, match=message):
        choices.check_value(name, value)

"""From data to run folder to captions, on photos of one colour."""

import json
import os
import shutil
import subprocess
import sys
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

import keras
import numpy as np
import pytest
from small_photos import renamed, tiny_backbone, write_photos

from common.course.release import release
from common.data.vocabulary import Vocabulary
from common.errors import ConfigError, DataError
from common.evaluation.captioners import bleu_4, choose_decoding, judge, judge_on_dev
from common.evaluation.rewards import CaptionReward
from common.training import caption_task as tasks
from common.training import released, store
from common.training.backend import device_settings
from common.training.callbacks import kept_epoch
from common.training.caption_task import (
    Rows,
    caption_task,
    embedding_identity,
    embedding_vectors,
)
from common.training.captioner import load_captioner
from common.training.experiment import run_config, train
from common.training.recipes import (
    RewardRecipe,
    caption_recipe,
    decoder_arguments,
    reward_recipe,
)
from common.training.released import release_captioner, released_captioner
from common.training.runs import Run
from common.training.self_critical import SelfCritical
from common.training.store import read_captioner
from common.training.teacher_forcing import TeacherForcing

SMALL = {"width": 16, "dropout": 0.0, "max_length": 8}
RECIPE = caption_recipe("smoke", "photos", epochs=12, batch_size=4, learning_rate=0.02)
SETTINGS = device_settings(precision="float32")
DECODING = {"method": "beam", "beams": 2, "length_penalty": 0.7}


def use_photos(patch, folder):
    """Makes `load_captions` and the backbone those of the test."""
    data = write_photos(folder, 12)
    patch.setattr(tasks, "load_captions", lambda dataset, split, limit=None: renamed(data, split))
    use_backbone(patch)
    patch.setattr(released, "released_folder", lambda phase: folder.parent / phase / "weights")
    return data


def use_backbone(patch, **options):
    for module in ("caption_task", "captioner"):
        patch.setattr(
            f"common.training.{module}.image_backbone", lambda *_: tiny_backbone(**options)
        )


def multi_head(task, **options):
    return TeacherForcing("multi_head", task, arguments=SMALL, **options)


def config(task, settings=None):
    options = {"phase": store.CAPTIONING, "dataset": "photos", "profile": "smoke"}
    return run_config(multi_head(task), RECIPE, settings or SETTINGS, **options)


@pytest.fixture(scope="module")
def course(tmp_path_factory):
    """A task, and a finished run of the multi-head decoder."""
    folder = tmp_path_factory.mktemp("course")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("COURSE_OUTPUTS", str(folder / "outputs"))
        use_photos(patch, folder / "photos")
        task = caption_task("photos", "smoke", mirrored=True, min_count=1, progress=False)
        run = Run("multi", config(task))
        learns = multi_head(task, score=bleu_4)
        trained = train(learns, RECIPE, SETTINGS, run=run, progress=False)
        run.save_record(metrics={"test_bleu_4": 0.0}, decoding=DECODING)
        yield task, trained, run, folder


@pytest.fixture
def at_home(course, monkeypatch):
    """The same surroundings for a single test."""
    task, trained, run, folder = course
    monkeypatch.setenv("COURSE_OUTPUTS", str(folder / "outputs"))
    data = use_photos(monkeypatch, folder / "photos")
    return data, task, trained, run, folder


def test_task(course):
    task, *_ = course
    assert task.backbone["name"] == tasks.BACKBONE
    assert task.backbone["shape"] == [2, 2, 6]
    assert task.features["train"].features.shape == (12, 4, 6)
    assert task.features["train"].mirrored.shape == (12, 4, 6)
    assert task.features["dev"].mirrored is None
    assert set(task.vocabulary.words[4:]) == {"a", "red", "blue", "picture", "is", "here", "shown"}


def test_learns_the_colours(course):
    task, trained, *_ = course
    table, captions = judge(trained.network, task, "test", {"greedy": {"method": "greedy"}})
    colours = [words[1] for words in captions["greedy"]]
    assert colours == ["red", "blue"] * 6
    assert table.loc["greedy", "bleu_4"] == pytest.approx(100)
    assert "true_captions" not in table


def test_chooses_a_length_penalty_on_dev_images(course):
    task, trained, *_ = course
    options, table, sure = choose_decoding(trained.network, task, beams=2, penalties=(0.5, 1.0))
    assert options["beams"] == 2 and options["length_penalty"] in (0.5, 1.0)
    assert list(table.index) == ["penalty 0.5", "penalty 1.0"]
    assert sure["n"] == len(task.data["dev"])


def test_what_studies_keep_of_a_captioner(course):
    task, trained, *_ = course
    found = judge_on_dev(trained.network, task)
    assert found["bleu_4"] == found["greedy_bleu_4"] == pytest.approx(100)
    assert found["greedy_length"] == 5 and found["length_penalty"] > 0
    assert "true_captions" not in found


def test_bad_photos_are_left_out_of_data_and_features(tmp_path, monkeypatch):
    monkeypatch.setenv("COURSE_OUTPUTS", str(tmp_path / "outputs"))
    data = use_photos(monkeypatch, tmp_path / "photos")
    data.path(5).write_bytes(b"")
    task = caption_task("photos", "smoke", mirrored=True, min_count=1, progress=False)
    assert len(task.data["train"]) == len(task.features["train"]) == 11
    assert "005.jpg" not in task.data["train"].names
    rows = task.features["train"].features
    assert isinstance(rows, Rows)  # still on the disk
    assert rows.shape == (11, 4, rows.shape[2]) and rows.nbytes == np.asarray(rows).nbytes
    np.testing.assert_array_equal(np.asarray(rows), rows.array[[0, 1, 2, 3, 4, *range(6, 12)]])
    np.testing.assert_array_equal(rows[[6, 0]], rows.array[[7, 0]])
    assert np.asarray(rows).any(axis=(1, 2)).all()


def test_finished_run_is_not_trained_again(at_home):
    _, task, trained, run, _ = at_home
    before = (run.folder / "model.keras").stat().st_mtime_ns
    again = train(multi_head(task), RECIPE, SETTINGS, run=run)
    assert (run.folder / "model.keras").stat().st_mtime_ns == before
    for one, other in zip(again.network.get_weights(), trained.network.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)
    assert len(again.history) == len(trained.history)


def test_a_run_has_a_record_as_soon_as_it_is_trained(at_home):
    data, task, trained, run, _ = at_home
    early = Run("early", run.config)
    for name in ("model.keras", "vocabulary.json", "history.csv"):
        shutil.copy(run.folder / name, early.folder)
    train(multi_head(task), RECIPE, SETTINGS, run=early)
    kept = trained.history.iloc[kept_epoch(trained.history["val_score"])]
    assert early.record["metrics"] == {"val_loss": pytest.approx(kept["val_loss"])}
    assert early.record["epochs"] == RECIPE.epochs
    # It can be used, by a usual way of decoding.
    captions = load_captioner("early").captions([data.read_image(i) for i in range(2)])
    assert [words[1] for words in captions] == ["red", "blue"]


def test_photos_in_captions_out(at_home):
    data, task, trained, run, _ = at_home
    loaded = load_captioner("multi", batch_size=5)
    images = [data.read_image(i) for i in range(12)]
    assert [words[1] for words in loaded.captions(images)] == ["red", "blue"] * 6
    # The same as from the features on disk, greedily and with the record's beam.
    features = task.features["test"].features
    assert loaded.captions(images, 1) == loaded.scored_captions(features, 1)[0]
    assert loaded.captions(images) == loaded.generator.captions(features, **DECODING)
    large = np.repeat(np.repeat(images[0], 100, axis=0), 100, axis=1)
    assert loaded.captions([large])[0][1] == "red"


def test_features_pass_through_float16_as_in_training(at_home):
    data, *_ = at_home
    assert load_captioner("multi").features([data.read_image(0)]).dtype == np.float16


def test_attention_is_a_map_for_each_word(at_home):
    data, *_ = at_home
    loaded = load_captioner("multi")
    features = loaded.features([data.read_image(0), data.read_image(1)])
    captions = [["a", "red", "picture"], ["a", "blue", "picture", "is", "here"]]
    maps = loaded.attention(features, captions)
    heads = loaded.decoder.num_blocks, loaded.decoder.num_heads
    assert [found.shape for found in maps] == [(3, *heads, 2, 2), (5, *heads, 2, 2)]
    for found in maps:
        np.testing.assert_allclose(found.sum(axis=(-2, -1)), 1, atol=1e-5)


def test_released_weights_write_the_same_captions(at_home):
    data, _, _, run, folder = at_home
    place, record = release_captioner("multi")
    assert sorted(path.name for path in place.iterdir()) == [
        "model.weights.h5",
        "record.json",
        "vocabulary.json",
    ]
    assert json.loads((place / "vocabulary.json").read_text())["words"]
    released = load_captioner()
    assert released.record == record
    images = [data.read_image(i) for i in range(12)]
    assert released.captions(images) == load_captioner("multi").captions(images)
    # Half the bytes of float32, and a little for names.
    weights = sum(4 * w.size for w in released.decoder.get_weights())
    assert (place / "model.weights.h5").stat().st_size < weights + 200_000


@pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="no other with this backend")
def test_a_release_tells_what_its_file_writes(at_home, monkeypatch):
    _, task, _, _, _ = at_home
    asked = []
    monkeypatch.setattr(tasks, "caption_task", lambda *given, **_: asked.append(given) or task)
    place, record = release("phase3", ["multi"])
    assert asked == [(record["source"], record["profile"])]
    assert record["metrics"]["test_bleu_4"] == record["test"]["beam 3"]["bleu_4"]
    assert record["confidence"]["test"]["threshold"] == record["confidence"]["threshold"]
    said = load_captioner().scored_captions(task.features["test"].features)[0]
    assert [sample["caption"] for sample in record["samples"]] == [" ".join(w) for w in said[:10]]
    before = {path: path.read_bytes() for path in place.iterdir()}

    def gone(*_, **__):
        raise DataError("its photos are gone")

    monkeypatch.setattr(tasks, "caption_task", gone)
    with pytest.raises(DataError, match="gone"):
        release("phase3", ["multi"])
    assert {path: path.read_bytes() for path in place.iterdir()} == before


INSTALLED = [name for name in ("tensorflow", "jax", "torch") if find_spec(name)]
FRESH = """
import json, sys
sys.path[:0] = [{tests!r}]
from small_photos import *
from common.training import captioner
captioner.image_backbone = lambda name, weights: tiny_backbone()
loaded = captioner.load_captioner("multi")
images = [cv2.imread(p)[..., ::-1] for p in {paths!r}]
print(json.dumps(loaded.captions(images)))
"""


@pytest.mark.parametrize("backend", INSTALLED)
def test_same_captions_in_a_fresh_process_on_each_backend(at_home, backend):
    data, *_ = at_home
    paths = [str(data.path(i)) for i in range(4)]
    script = FRESH.format(tests=str(Path(__file__).parent), paths=paths)
    root = Path(__file__).resolve().parents[2]
    done = subprocess.run(
        [sys.executable, "-c", script],
        cwd=root,
        env=os.environ | {"KERAS_BACKEND": backend},
        capture_output=True,
        text=True,
        check=True,
    )
    here = load_captioner("multi").captions([data.read_image(i) for i in range(4)])
    assert json.loads(done.stdout.splitlines()[-1]) == here


def test_other_backbone_weights_are_refused(at_home, monkeypatch):
    use_backbone(monkeypatch, seed=5)
    with pytest.raises(DataError, match="with other weights"):
        load_captioner("multi")


@pytest.fixture
def copied(at_home, tmp_path):
    """The folder of a copy of the run."""
    *_, run, _ = at_home
    for path in run.folder.iterdir():
        if path.is_file():
            (tmp_path / path.name).write_bytes(path.read_bytes())
    return tmp_path


def change_words(folder, change):
    values = json.loads((folder / "vocabulary.json").read_text())
    values["words"] = change(values["words"])
    (folder / "vocabulary.json").write_text(json.dumps(values))


def test_vocabulary_that_does_not_fit(copied):
    change_words(copied, lambda words: words[::-1])  # as many words, and each another one
    with pytest.raises(DataError, match=r"vocabulary\.json is missing or damaged, or of another"):
        load_captioner(copied)
    record = json.loads((copied / "record.json").read_text())
    del record["files"]  # of an earlier version of the course
    (copied / "record.json").write_text(json.dumps(record))
    change_words(copied, lambda words: [*words, "zebra"])
    with pytest.raises(DataError, match="has 12 words, the decoder in .* was made for 11"):
        read_captioner(copied)
    (copied / "vocabulary.json").unlink()
    with pytest.raises(DataError, match=r"vocabulary\.json"):
        load_captioner(copied)


ODD = {
    "no decoding": lambda record: record.pop("decoding"),
    "beams a text": lambda record: record["decoding"].update(beams="3"),
    "no backbone": lambda record: record.pop("backbone"),
    "backbone a text": lambda record: record.update(backbone="mobilenet"),
    "no hash": lambda record: record["backbone"].pop("hash"),
    "decoder a list": lambda record: record.update(decoder=[1]),
    "metrics a list": lambda record: record.update(metrics=[]),
    "no name": lambda record: record.update(run_name=3),
}


@pytest.mark.parametrize("what", ODD)
def test_records_of_another_form_are_told(what, copied):
    record = json.loads((copied / "record.json").read_text())
    ODD[what](record)
    (copied / "record.json").write_text(json.dumps(record))
    with pytest.raises(DataError, match=r"record\.json"):
        load_captioner(copied)


def test_a_run_is_of_its_data_not_of_a_count(at_home, monkeypatch):
    """Other captions, photos, or words in another order are another run; the place is not."""
    data, task, _, run, folder = at_home

    edited = replace(data, captions=(("a red thing",) * 2, *data.captions[1:]))
    changed = replace(task, data={**task.data, "train": edited})
    turned = replace(task, vocabulary=Vocabulary(task.vocabulary.words[:3:-1], 1))
    photos = replace(task, images={**task.images, "test": "0123"})
    for other in (changed, turned, photos):
        with pytest.raises(ConfigError, match=r"differs in: data\)"):
            Run("multi", config(other))
        assert Run.labelled("multi", config(other)).name.startswith("multi-")
    with pytest.raises(ConfigError, match="differs in: backend"):
        Run("multi", config(task, replace(SETTINGS, backend="another")))
    elsewhere = {**task.backbone, "weights": "D:/weights.h5"}
    device = replace(SETTINGS, device="gpu", precision="mixed_bfloat16", jit_compile=True)
    assert Run("multi", config(replace(task, backbone=elsewhere), device)).finished


def test_runs_that_cannot_be_used(at_home, tmp_path):
    with pytest.raises(ConfigError, match="There is no run 'nothing'"):
        load_captioner("nothing")
    with pytest.raises(ConfigError, match="has not finished"):
        load_captioner(tmp_path)
    (tmp_path / "record.json").write_text('{"phase": "phase1_cifar"}')
    with pytest.raises(ConfigError, match="is one of phase1_cifar, not of phase3"):
        load_captioner(tmp_path)


def test_words_begin_with_vectors_from_a_file(at_home, tmp_path):
    _, task, *_ = at_home
    path = tmp_path / "glove.txt"
    path.write_text("a 1 0 2\nred 0 1 1\nblue 0 2 1\n")
    captions = [caption for image in task.features["train"].references for caption in image]
    vectors = embedding_vectors(f"glove:{path}", task.vocabulary, captions)
    assert embedding_vectors("random", task.vocabulary, captions) is None
    own = embedding_vectors("word2vec", task.vocabulary, captions)
    assert own.found[4:].all() and own.vectors.shape == (len(task.vocabulary), 50)
    recipe = replace(RECIPE, epochs=1)
    moved = {}
    for mode in ("frozen", "projected", "tuned"):
        arguments = {**SMALL, "vector_mode": mode}
        learns = TeacherForcing("rnn", task, arguments=arguments, vectors=vectors)
        trained = train(learns, recipe, SETTINGS, progress=False)
        before = task.build("rnn", vectors=vectors, **arguments).embedding.get_weights()
        after = trained.network.embedding.get_weights()
        names = [w.name for w in trained.network.embedding.weights]
        moved[mode] = {n for n, a, b in zip(names, after, before, strict=True) if (a != b).any()}
    assert moved == {
        "frozen": {"bias"},
        "projected": {"map", "bias"},
        "tuned": {"embeddings", "map", "bias"},
    }
    with pytest.raises(ConfigError, match="embedding='elmo' is unknown"):
        embedding_vectors("elmo", task.vocabulary, captions)


def test_a_file_of_vectors_is_told_by_its_content(at_home, tmp_path):
    _, task, *_ = at_home
    found = []
    for name, number in (("a/v.txt", 1), ("b/v.txt", 1), ("c/v.txt", 2)):
        path = tmp_path / name
        path.parent.mkdir()
        path.write_text(f"a {number} 0 2\nred 0 1 1\n")
        vectors = embedding_vectors(f"glove:{path}", task.vocabulary, [])
        found.append(embedding_identity(f"glove:{path}", vectors))
    assert found[0] == found[1] != found[2] and found[0]["embedding"] == "glove:v.txt"
    assert embedding_identity("bert", vectors) == {"embedding": "bert"}
    found = []
    for name, content in (("d/minilm", b"1"), ("e/minilm", b"1"), ("f/minilm", b"2")):
        (tmp_path / name).mkdir(parents=True)
        (tmp_path / name / "model.h5").write_bytes(content)
        found.append(embedding_identity(f"keras_bert:{tmp_path / name}", vectors))
    assert found[0] == found[1] != found[2] and found[0]["embedding"] == "keras_bert:minilm"
    assert embedding_identity("random", None) == {}


def test_goes_on_by_a_reward(at_home):
    """From a finished run, into a run of its own, which is released beside the first one."""
    _, task, trained, start, folder = at_home
    recipe = RewardRecipe(epochs=1, batch_size=4, captions=3)
    reward = CaptionReward("bleu_4", task.features["train"].references)
    learns = SelfCritical(start.folder, task, reward, bleu_4)
    run = Run(
        "rewarded",
        run_config(
            learns, recipe, SETTINGS, phase=store.CAPTIONING, dataset="photos", profile="smoke"
        ),
    )
    assert run.config["start"] == "multi" and run.config["decoder"] == start.config["decoder"]

    def go_on():
        return train(learns, recipe, SETTINGS, run=run, progress=False)

    found = go_on()
    old, new = trained.network.get_weights(), found.network.get_weights()
    assert any(not np.array_equal(a, b) for a, b in zip(old, new, strict=True))
    assert go_on().history.equals(found.history)  # found again
    run.save_record(metrics={}, decoding=DECODING)
    release_captioner("multi")
    place, record = release_captioner("rewarded")
    assert place.name == "rewarded" and record["reward"] == {"bleu_4": 1.0}
    assert released_captioner() == place
    assert released_captioner(teacher_forced=True) == place.parent
    assert load_captioner().record == record
    shutil.rmtree(place)


def test_reward_training_of_another_vocabulary(at_home):
    _, task, _, start, _ = at_home
    other = replace(task, vocabulary=Vocabulary(task.vocabulary.words[5:], 1))
    with pytest.raises(DataError, match="has a vocabulary of 11 words, this task another one of"):
        train(SelfCritical(start.folder, other, None, bleu_4), RewardRecipe(1), SETTINGS)
    backbone = {**task.backbone, "hash": "0123"}
    with pytest.raises(DataError, match="with other weights"):
        other = replace(task, backbone=backbone)
        train(SelfCritical(start.folder, other, None, bleu_4), RewardRecipe(1), SETTINGS)


def test_recipes():
    assert caption_recipe("laptop", "flickr8k").mirrored
    assert not caption_recipe("laptop", "synthetic").mirrored  # left is not right
    assert caption_recipe("smoke", "synthetic", epochs=3, batch_size=None).epochs == 3
    with pytest.raises(ConfigError, match="A CaptionRecipe has: epochs"):
        caption_recipe("smoke", "synthetic", epoch=3)
    assert reward_recipe("laptop", "flickr8k", captions=3).captions == 3
    with pytest.raises(ConfigError, match="A RewardRecipe has: epochs"):
        reward_recipe("smoke", "synthetic", caption=3)
    assert "units" in decoder_arguments("lstm", "flickr8k")
    assert "units" not in decoder_arguments("multi_head", "flickr8k")

"""From twenty drawn photos with captions of one's own, in two languages, to captions of them."""

import logging

import keras
import pytest
from small_photos import tiny_backbone, write_photos

from common.data import data_state, load_captions
from common.evaluation.captioners import choose_decoding, dev_score, for_record, judge, ways_of
from common.training.backend import device_settings
from common.training.caption_task import caption_task, min_count_of
from common.training.captioner import load_captioner
from common.training.experiment import own_label, run_config, train
from common.training.recipes import caption_recipe
from common.training.runs import Run
from common.training.store import CAPTIONING
from common.training.teacher_forcing import TeacherForcing, standard_run

pytestmark = pytest.mark.skipif(
    keras.backend.backend() != "tensorflow", reason="no other with this backend"
)
SMALL = {"width": 16, "dropout": 0.0, "max_length": 8}
SETTINGS = device_settings(precision="float32")
# Of red photos and of blue ones, in English and in German.
TEXTS = (("A red picture.", "Ein rötliches Bild."), ("A blue picture.", "Ein bläuliches Bild."))
RED, BLUE = {"red", "rötliches"}, {"blue", "bläuliches"}


@pytest.fixture(scope="module")
def own(tmp_path_factory):
    """The folder, and a task on it."""
    folder = tmp_path_factory.mktemp("course")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("COURSE_OUTPUTS", str(folder / "outputs"))
        for module in ("caption_task", "captioner"):
            name = f"common.training.{module}.image_backbone"
            patch.setattr(name, lambda *_: tiny_backbone())
        photos = folder / "my photos"
        names = write_photos(photos, 20).names  # red ones and blue ones in turn
        lines = [f"{name},{TEXTS[i % 2][i // 2 % 2]}" for i, name in enumerate(names)]
        text = "\n".join(["image,caption", *lines])
        (photos / "captions.txt").write_text(text, encoding="utf-8")
        yield photos, caption_task(f"folder:{photos}", "laptop", mirrored=True, progress=False)


def test_task(own):
    photos, task = own
    assert {split: len(data) for split, data in task.data.items()} == {
        "train": 16,
        "dev": 2,
        "test": 2,
    }
    # Each word, although some stand in few captions.
    assert {*task.vocabulary.words[4:]} == {"a", "picture", "ein", "bild", *RED, *BLUE}
    assert len(task.features["train"].features) == 16
    label = own_label(task.dataset, task)
    assert label == f"own-my-photos-{task.fingerprint()[:8]}"


def test_trained_captioned_and_judged(own):
    """As lesson 5 does it, and `caption --run`."""
    _, task = own
    given = {"batch_size": 4, "learning_rate": 0.02}
    recipe = caption_recipe("smoke", task.dataset, len(task.data["train"]), **given)
    assert recipe.epochs == 20
    learns = TeacherForcing("multi_head", task, dev_score(task), SMALL)
    about = {"phase": CAPTIONING, "dataset": task.dataset, "profile": "smoke"}
    run = Run.labelled("own", run_config(learns, recipe, SETTINGS, **about))
    trained = train(learns, recipe, SETTINGS, run=run, progress=False)
    chosen, tried, sure = choose_decoding(trained.network, task, beams=2, penalties=(0.7,))
    table, written = judge(trained.network, task, "test", ways_of(chosen))
    kept = for_record(table, written, tried, task)
    record = run.save_record(decoding=chosen, confidence=sure, **kept)
    assert record["dataset"] == "my photos" and "test_bleu_4" in record["metrics"]
    captioner = load_captioner(run.name)
    for data in task.data.values():
        colours = [BLUE if int(image[:3]) % 2 else RED for image in data.names]
        captions = captioner.captions([data.read_image(i) for i in range(len(data))])
        assert all(colour & {*words} for colour, words in zip(colours, captions, strict=True))


def test_the_standard_run_is_named_after_the_folder(own, monkeypatch):
    _, task = own
    name = "common.training.teacher_forcing.train"
    monkeypatch.setattr(name, lambda *_, run, **__: type("Trained", (), {"run": run}))
    run = standard_run("rnn", task, "laptop", 0, None)
    assert run.name.startswith("own-my-photos-") and run.name.endswith(
        "-laptop-mobilenet_0.75-rnn-seed0"
    )
    assert run.config["recipe"]["epochs"] == 200


def test_captions_that_are_too_long_are_told(own, tmp_path, caplog, monkeypatch):
    photos, _ = own
    monkeypatch.setenv("COURSE_OUTPUTS", str(tmp_path))
    folder = tmp_path / "long"
    folder.mkdir()
    for path in photos.glob("*.jpg"):
        (folder / path.name).write_bytes(path.read_bytes())
    lines = [f"{path.name},{'very ' * 17}long" for path in folder.glob("*.jpg")]
    (folder / "captions.txt").write_text("\n".join(["image,caption", *lines]))
    with caplog.at_level(logging.WARNING):
        caption_task(str(folder), "smoke", progress=False)
        assert "words" not in caplog.text
        longer = [line.replace("long", "too long") for line in lines]
        (folder / "captions.txt").write_text("\n".join(["image,caption", *longer]))
        caption_task(str(folder), "smoke", progress=False)
    assert "long: 16 of 16 training captions have more than 18 words" in caplog.text


def test_few_captions_make_more_passes_and_a_whole_vocabulary():
    def epochs(images, profile="laptop", dataset="folder:mine"):
        return caption_recipe(profile, dataset, images).epochs

    assert [epochs(n) for n in (1, 320, 1600, 6000)] == [200, 100, 20, 20]
    assert epochs(16, "smoke") == 20 and epochs(600, "smoke") == 5
    assert epochs(16, dataset="flickr8k") == epochs(16, dataset="coco:16") == 20
    assert caption_recipe("laptop", "mine", 16, epochs=3).epochs == 3
    assert [min_count_of("folder:mine", n) for n in (16, 999, 2500, 4000, 30_000)] == [
        1,
        1,
        3,
        5,
        5,
    ]
    assert min_count_of("flickr8k", 16) == 5 and min_count_of("synthetic", 16) == 1


def test_the_state_of_the_folder_tells_of_changes(own):
    photos, _ = own
    before = data_state(f"folder:{photos}")
    assert len(load_captions(photos, "dev")) == 2 and data_state(str(photos)) == before

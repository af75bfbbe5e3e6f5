"""Studies of captioners on photos of one colour; most without their trainings."""

from dataclasses import replace

import keras
import numpy as np
import pandas as pd
import pytest
from killing import KilledError
from small_photos import renamed, tiny_backbone, write_photos

from common.choices import STUDIES
from common.course import study as command
from common.data.word_vectors import WordVectors
from common.errors import ConfigError
from common.files import read_json
from common.models.captioning import decoder
from common.training import caption_task as tasks
from common.training import teacher_forcing
from common.training.backend import device_settings
from common.training.loop import FitResult
from common.training.recipes import caption_recipe, decoder_arguments
from common.training.recipes import captioning as recipes
from common.training.studies import find_study
from common.training.studies.captions import backbone_costs
from common.training.studies.phase3 import CANDIDATES, PHASE, RUNGS

pytestmark = pytest.mark.skipif(
    keras.backend.backend() != "tensorflow", reason="no other with this backend"
)
SETTINGS = device_settings(precision="float32")
SMALL = {"width": 8, "max_length": 8, "places_std": 0.0}


@pytest.fixture
def photos(tmp_path, monkeypatch):
    """Twelve photos in place of Flickr8k, small decoders, and vectors of four words of seven."""
    monkeypatch.setenv("COURSE_OUTPUTS", str(tmp_path / "outputs"))
    monkeypatch.setenv("COURSE_DATA", str(tmp_path))
    data = write_photos(tmp_path / "photos", 12)
    monkeypatch.setattr(tasks, "load_captions", lambda _, split, limit=None: renamed(data, split))
    for module in ("caption_task", "studies.captions"):
        place = f"common.training.{module}.image_backbone"
        monkeypatch.setattr(place, lambda *_: tiny_backbone())
    monkeypatch.setitem(recipes.SIZES, "photos", SMALL)
    monkeypatch.setitem(recipes.RECURRENT, "photos", {"units": 8, "dropout": 0.4})
    monkeypatch.setitem(recipes.SELF_ATTENTION, "photos", {"num_blocks": 1, "dropout": 0.3})
    (tmp_path / "glove").mkdir()
    text = "a 1 0 2\nred 0 1 1\nblue 0 2 1\npicture 2 2 0\n"
    (tmp_path / "glove" / "glove.6B.50d.txt").write_text(text)
    (tmp_path / "minilm").mkdir()

    def bert(vocabulary, preset):
        assert preset == tmp_path / "minilm"
        numbers = np.random.default_rng(0).standard_normal((len(vocabulary), 5), dtype="float32")
        return WordVectors("BERT", numbers, np.arange(len(vocabulary)) > 3)

    monkeypatch.setattr(tasks, "keras_bert_vectors", bert)


@pytest.fixture
def trained(monkeypatch):
    """The names of runs, which leave the decoder as it was and say that all went well."""
    names = []

    def fit(network, vocabulary, train, dev, recipe, settings, *, folder, **options):
        names.append(folder.name)
        rows = [
            {"epoch": i + 1, "loss": 2.0, "val_loss": 3.0 - i, "val_score": 5.0, "seconds": 0.5}
            for i in range(recipe.epochs)
        ]
        table = pd.DataFrame(rows)
        table.to_csv(folder / "history.csv", index=False)
        return FitResult(table, 0.5 * recipe.epochs)

    monkeypatch.setattr(teacher_forcing, "fit_captioner", fit)
    return names


class Judge:
    """Gives these values of CIDEr-D, one after another."""

    def __init__(self, *values):
        self.values = list(values)

    def __call__(self, network, task):
        return {"cider_d": self.values.pop(0), "bleu_4": 20.0}


def no_score(task):
    return None


def run(study, *values):
    """What is kept of a study in the end, whose captioners have these values of CIDEr-D."""
    *_, results = study.run("flickr8k", SETTINGS, no_score, Judge(*values))
    return results


def arms_and_seeds(results):
    return [(row["arm"], row["seed"]) for row in results["rows"]]


def test_backbones(photos, trained):
    """The two best go on; what is trained is lesson 5's, and found again."""
    study = find_study(PHASE, "backbones").only(seeds=[0, 1])
    assert study.trainings == 5
    results = run(study, 40, 30, 50, 41, 51)
    names = ["mobilenet_0.75", "resnet50", "efficientnetb0"]
    wanted = [(name, 0) for name in names] + [(names[0], 1), (names[2], 1)]
    assert arms_and_seeds(results) == wanted
    assert [row["cider_d"] for row in results["rows"]] == [40, 30, 50, 41, 51]
    assert {k: results[k] for k in ("dataset", "profile", "split", "n", "seeds")} == {
        "dataset": "flickr8k",
        "profile": "laptop",
        "split": "dev",
        "n": 12,
        "seeds": [0, 1],
    }
    assert results["data"]["n_train"] == 12 and results["hardware"]["processor"]
    row = results["rows"][2]
    assert (row["backbone"], row["decoder"], row["epochs"]) == (names[2], "multi_head", 20)
    assert row["kept_epoch"] == 1 and row["val_loss"] == 3.0 and row["seconds"] == 10.0
    # A convolution of 4x4 pixels and 6 channels.
    assert row["backbone_parameters"] == 4 * 4 * 3 * 6 + 6 and row["images_per_second"] > 0
    assert len(trained) == 5
    task = study.task(names[2], "flickr8k")
    found = teacher_forcing.standard_run("multi_head", task, "laptop", 0, None)
    assert found.name == row["run"] == trained[2] and len(trained) == 5
    # 12 images and their mirror images, of 49 regions and 1,000 numbers of two bytes.
    numbers = np.zeros((12, 49, 1000), "float16")
    part = replace(task.features["train"], features=numbers, mirrored=numbers)
    costs = backbone_costs(replace(task, features={"train": part}), rounds=1)
    assert costs["features_mb"] == 2.4


def test_vectors(photos, trained):
    study = find_study(PHASE, "vectors")
    kinds = ("random, 50 numbers", "GloVe, tuned", "GloVe, rows shuffled", "BERT, frozen")
    names = [f"{kind}, all" for kind in kinds] + ["word2vec, tuned, a tenth"]
    results = run(study.only(names, [0]), *range(5))
    rows = {row["arm"]: row for row in results["rows"]}
    assert list(rows) == names and len(set(trained)) == 5
    glove, tenth = rows["GloVe, tuned, all"], rows[names[-1]]
    assert (glove["epochs"], glove["n_train"]) == (6, 12)
    assert (tenth["epochs"], tenth["n_train"]) == (18, 1)
    # "a red picture is here": three of five; "is", "here", "shown" have no vector.
    assert glove["coverage_words"] == round(4 / 7, 4) and glove["coverage_occurrences"] == 0.6
    assert "coverage_words" not in rows["GloVe, rows shuffled, all"]
    assert rows["BERT, frozen, all"]["coverage_words"] == 1
    task = study.task(names[0], "flickr8k")
    given = {name: study.learns(name, task).vectors.vectors for name in names[:3]}
    assert given[names[0]].shape == (11, 50)
    plain, shuffled = given[names[1]], given[names[2]]
    assert not np.array_equal(plain, shuffled)
    np.testing.assert_array_equal(np.sort(plain, axis=0), np.sort(shuffled, axis=0))
    modes = {name: study.learns(name, task).arguments["vector_mode"] for name in names[:4]}
    assert list(modes.values()) == ["tuned", "tuned", "tuned", "frozen"]


def test_shares_are_drawn_alike_for_all_arms_of_a_seed(photos):
    study = find_study(PHASE, "vectors")
    arms = {name: replace(arm, share=0.5) for name, arm in study.arms.items()}
    study = replace(study, arms=arms)
    task = study.task("GloVe, tuned, all", "flickr8k")
    drawn = {}
    for arm in ("GloVe, tuned, all", "random, 50 numbers, all"):
        for seed in (0, 1):
            part = study.learns(arm, task, seed=seed).task
            drawn[arm, seed] = part.data["train"].names
            assert len(part.features["train"]) == len(set(drawn[arm, seed])) == 6
            assert part.vocabulary is task.vocabulary and part.data["dev"] is task.data["dev"]
    first, _, _, last = drawn.values()
    assert first == drawn["random, 50 numbers, all", 0] != last


def test_ladder(photos, trained, monkeypatch):
    monkeypatch.setitem(recipes.SELF_ATTENTION, "photos", {"dropout": 0.3})
    rungs = ["one block", "self_attention", "multi_head"]
    results = run(find_study(PHASE, "ladder").only(rungs, [0]), *range(3))
    assert arms_and_seeds(results) == [(rung, 0) for rung in rungs]
    assert {row["epochs"] for row in results["rows"]} == {6}
    parameters = {row["arm"]: row["parameters"] for row in results["rows"]}
    # Feed-forward: two matrices with biases between 8 and 32 numbers, and a norm. A block has it,
    # eight matrices with biases of 8 times 8, and two norms.
    feed_forward = (8 * 32 + 32) + (32 * 8 + 8) + 16
    less = (feed_forward + 8 * 72 + 32) + feed_forward
    assert parameters["self_attention"] - parameters["one block"] == less
    assert parameters["self_attention"] == parameters["multi_head"]


def test_ladder_own(photos, trained):
    """What is best with the first seed is trained with others; the common one is the ladder's."""
    study = find_study(PHASE, "ladder_own").only(["rnn"], [1])
    assert study.trainings == 4
    results = run(study, 1.0, 3.0, 2.0, 4.0)
    shown = command.table(results).set_index("arm")  # without the seed that chose
    names = list(study.arms)
    assert shown["cider_d"].to_dict() == {names[0]: 1.0, names[1]: 4.0, names[2]: 2.0}
    assert arms_and_seeds(results) == [*((name, 0) for name in names), (names[1], 1)]
    assert {row["group"] for row in results["rows"]} == {"rnn"}
    assert [row["epochs"] for row in results["rows"]] == [6, 10, 20, 10]
    run(find_study(PHASE, "ladder").only(["rnn"], [0]))
    assert len(trained) == 4


def test_a_killed_study_goes_on(photos, trained, monkeypatch):
    study = find_study(PHASE, "ladder").only(["rnn", "one block"], [0])
    fit, killed, kept = teacher_forcing.fit_captioner, [], []

    def fit_once(network, *arguments, folder, **options):
        if trained and not killed:
            killed.append(folder.name)
            raise KilledError
        return fit(network, *arguments, folder=folder, **options)

    monkeypatch.setattr(teacher_forcing, "fit_captioner", fit_once)
    with pytest.raises(KilledError):
        for results in study.run("flickr8k", SETTINGS, no_score, Judge(1.0)):
            kept += results["rows"]
    assert [row["arm"] for row in kept] == ["rnn"]
    results = run(study, 2.0)
    assert results["rows"][0] == kept[0]
    assert arms_and_seeds(results) == [("rnn", 0), ("one block", 0)]
    # In the very folder in which it was killed: `fit_captioner` goes on there.
    assert trained == [kept[0]["run"], *killed] and len(killed) == 1


def test_the_command_goes_on_with_a_table(photos, trained, monkeypatch):
    """Rows of what is not named stay; a whole study begins anew."""
    monkeypatch.setattr(command, "dev_score", no_score)
    monkeypatch.setattr(command, "judge_on_dev", Judge(1.0, 2.0, 3.0))
    held, hold = [], command.hold
    monkeypatch.setattr(command, "hold", lambda *given: held.append(given) or hold(*given))

    def train(*arms, **options):
        return command.train_study(PHASE, "ladder", "flickr8k", False, arms=arms, **options)

    train("lstm", seeds=[1])
    results, path = train("rnn", "lstm", seeds=[0])
    assert arms_and_seeds(results) == [("rnn", 0), ("lstm", 0), ("lstm", 1)]
    assert read_json(path, dict) == results and results["seeds"] == [0, 1]
    # Two of them at once would write over each other's rows.
    assert held == [(path.with_name(".ladder.lock"), "trains the study 'ladder'")] * 2
    shown = command.table(results).set_index("arm")
    assert shown["cider_d"].to_dict() == {"rnn": 2.0, "lstm": 2.0}
    assert shown["seeds"].to_dict() == {"rnn": 1, "lstm": 2}
    assert shown.loc["lstm", "deviation"] == pytest.approx(np.sqrt(2))
    whole = replace(find_study(PHASE, "ladder").only(["rnn"]), seeds=(0,))
    monkeypatch.setattr(command, "find_study", lambda *_: whole)
    assert arms_and_seeds(train()[0]) == [("rnn", 0)]
    monkeypatch.setattr(command, "judge_on_dev", Judge(5.0))
    little, path = train(smoke=True)
    assert (path.name, little["profile"], little["rows"][0]["epochs"]) == (
        "ladder-smoke.json",
        "smoke",
        1,
    )
    with pytest.raises(ConfigError, match="--smoke trains too little to be kept"):
        command.train_study(PHASE, "ladder", "flickr8k", True, smoke=True)


def test_arms_and_groups_by_name():
    own = find_study(PHASE, "ladder_own")
    assert {arm.group for arm in own.only(["rnn", "lstm"]).arms.values()} == {"rnn", "lstm"}
    with pytest.raises(ConfigError, match="ladder has no arm 'rnnn'. Did you mean 'rnn'"):
        find_study(PHASE, "ladder").only(["rnnn"])
    vectors = find_study(PHASE, "vectors")
    frozen = "GloVe, frozen, all"
    assert list(vectors.only(seeds=[1]).order([])) == [
        (name, 1) for name, arm in vectors.arms.items() if not arm.once
    ]
    assert list(vectors.only([frozen], [0, 1]).order([])) == [(frozen, 0), (frozen, 1)]
    backbones = find_study(PHASE, "backbones")
    assert len(list(backbones.only([*backbones.arms], [0, 1]).order([]))) == 2 * len(backbones.arms)


def test_the_arms_can_be_made():
    """Decoders, recipes and candidates, without data."""
    for name in STUDIES[PHASE]:
        for arm in find_study(PHASE, name).arms.values():
            caption_recipe("laptop", "flickr8k", **arm.recipe)
    for made in RUNGS.values():
        decoder(made["decoder"], 11, **made.get("arguments", {}))
    for rung, (common, *others) in CANDIDATES.items():
        recipe = caption_recipe("laptop", "flickr8k", epochs=6)
        dropout = decoder_arguments(RUNGS[rung]["decoder"], "flickr8k")["dropout"]
        assert common == (6, recipe.learning_rate, dropout, recipe.label_smoothing)
        assert len({common, *others}) == 3
    assert CANDIDATES.keys() == RUNGS.keys()

import functools
import math
import warnings
from collections import defaultdict

import numpy as np
import pytest
from nltk.translate import bleu_score, meteor_score

from common.data.vocabulary import BAD_ENDINGS, normalise
from common.errors import ConfigError, DataError
from common.evaluation import captions as cap
from common.evaluation.bootstrap import resample
from common.evaluation.captions import report, rouge_meteor
from common.evaluation.captions.bleu_score import bleu_of
from common.paths import data_dir

# Of these captions the first is right, the second too short; the third repeats itself and is cut
# off.
REFERENCES = [
    [["a", "dog", "runs", "in", "the", "snow"], ["a", "brown", "dog", "runs"]],
    [["two", "men", "play", "football"], ["men", "play", "with", "a", "ball"]],
    [["a", "girl", "climbs", "a", "wall"], ["a", "girl", "in", "pink", "is", "on", "a", "wall"]],
]
CAPTIONS = [
    ["a", "dog", "runs", "in", "the", "snow"],
    ["men", "play"],
    ["a", "girl", "a", "girl", "with", "a"],
]


def words(text):
    return [line.split() for line in text.split("/")]


def made_up(images=60, seed=0, references=5):
    """Sentences of few words, so that n-grams of all orders are shared; some captions are empty."""
    rng = np.random.default_rng(seed)

    def sentence(shortest=1):
        return [f"w{w}" for w in rng.zipf(1.6, rng.integers(shortest, 16)).clip(max=40)]

    captions = [sentence(0) for _ in range(images)]
    known = [[sentence() for _ in range(references)] for _ in range(images)]
    for i in range(0, images, 3):  # near to a reference
        captions[i] = known[i][0][:-2] + ["unseen", "unseen"]
    return captions, known


@functools.cache
def flickr8k():
    """References, and for each image another image's caption or, cut, one of its own; or `None`."""
    file = data_dir() / "flickr8k" / "Flickr8k.token.txt"
    if not file.is_file():
        return None
    references = defaultdict(list)
    for line in file.read_text(encoding="utf-8").splitlines()[:1500]:
        name, text = line.split("\t")
        references[name.split("#")[0]].append(normalise(text))
    references = list(references.values())
    captions = [of_image[0] for of_image in references[1:]] + [references[0][0]]
    captions[::3] = [of_image[1][:-1] for of_image in references[::3]]
    return captions, [of_image[1:] for of_image in references]


@pytest.fixture(params=["made up", "Flickr8k"])
def many(request):
    if request.param == "Flickr8k":
        return flickr8k() or pytest.skip("Flickr8k is not under COURSE_DATA")
    captions, references = made_up()
    return captions, [of[: 1 + i % 5] for i, of in enumerate(references)]


@pytest.fixture(autouse=True)
def no_warnings():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield


@pytest.fixture
def no_wordnet(monkeypatch):
    monkeypatch.setattr(rouge_meteor, "_why_no_wordnet", lambda: "not here")


def by_nltk(captions, references):
    weights = [(1 / n,) * n for n in range(1, 5)]
    scores = bleu_score.corpus_bleu(references, captions, weights)
    return [100 * score for score in scores]


def by_pycocoevalcap(scorer, captions, references):
    known = {i: [" ".join(text) for text in of] for i, of in enumerate(references)}
    judged = {i: [" ".join(text)] for i, text in enumerate(captions)}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return scorer.compute_score(known, judged)


def test_bleu_by_hand():
    scores = cap.bleu(words("the the the cat"), [words("the cat sat/a cat on the mat the")])
    # "the" counts twice, as in the second reference; of three 2-grams only "the cat" is there.
    assert scores["bleu_1"] == pytest.approx(100 * 3 / 4)
    assert scores["bleu_2"] == pytest.approx(100 * math.sqrt(3 / 4 * 1 / 3))
    assert scores["bleu_3"] == scores["bleu_4"] == 0
    # All is right, but half is missing; of equally close references the shorter one counts.
    scores = cap.bleu(words("a dog"), [words("a dog runs fast/dog a runs fast")])
    assert scores["bleu_2"] == pytest.approx(100 * math.exp(1 - 4 / 2))
    scores = cap.bleu(words("a b c"), [words("a b/a b c d")])
    assert scores["bleu_2"] == pytest.approx(100 * math.sqrt(2 / 2 * 3 / 3))


def test_bleu_is_that_of_nltk(many):
    captions, references = many
    expected = by_nltk(captions, references)
    assert min(expected) > 1
    assert list(cap.bleu(captions, references).values()) == pytest.approx(expected, abs=1e-9)
    counts = cap.SentenceBleu(references).counts(captions).sum(axis=0)
    assert list(bleu_of(counts).values()) == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize("caption", ["", "x", "x y z u v", "a", "a dog", "dog a b snow", "in the"])
def test_bleu_is_zero_where_nothing_matches(caption):
    captions, references = words(caption), REFERENCES[:1]
    scores = list(cap.bleu(captions, references).values())
    counts = cap.SentenceBleu(references).counts(captions)[0]
    assert [score > 0 for score in scores] == list(np.logical_and.accumulate(counts[:4] > 0))
    assert list(bleu_of(counts).values()) == pytest.approx(scores, abs=1e-9)


@pytest.mark.parametrize("smoothing", list(cap.SMOOTHINGS))
def test_sentence_bleu_is_that_of_nltk(many, smoothing):
    captions, references = many
    captions = [*captions, [], ["a"], ["nobody-says-so"], captions[0][:3]]
    images = np.append(np.arange(len(references)), [0, 0, 0, 0])
    smooth = getattr(bleu_score.SmoothingFunction(), smoothing)
    expected = [
        bleu_score.sentence_bleu(references[i], caption, smoothing_function=smooth)
        for i, caption in zip(images, captions, strict=True)
    ]
    found = cap.SentenceBleu(references, smoothing).score(captions, images)
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-9)
    assert found.max() > 0.2 and found[-4] == 0


def test_sentence_bleu_of_a_batch():
    captions, references = made_up()
    scorer = cap.SentenceBleu(references)
    images = np.array([3, 0, 3])
    found = scorer.score([captions[i] for i in images], images)
    np.testing.assert_allclose(found, scorer.score(captions)[images], atol=1e-12)
    assert len(scorer) == len(references)


def test_sentence_bleu_refuses():
    scorer = cap.SentenceBleu(REFERENCES)
    with pytest.raises(ConfigError, match="smoothing='method7' is unknown. Choose one of"):
        cap.SentenceBleu(REFERENCES, "method7")
    with pytest.raises(ConfigError, match="images must be whole numbers in 0"):
        scorer.score([["a"]], [len(REFERENCES)])
    with pytest.raises(DataError, match="1 captions for 2 images"):
        scorer.score([["a"]], [0, 1])
    with pytest.raises(DataError, match="where a list of words is wanted"):
        scorer.score(["a dog"], [0])


def test_cider_d_by_hand():
    scorer = cap.CiderD([words("a dog"), words("a cat")])
    # "a" stands with both images and counts nothing; there are no 3-grams and 4-grams.
    captions = words("a dog/a cat/dog dog/a dog a//cat")
    scores = scorer.score(captions, [0, 0, 0, 0, 0, 1])
    assert scores[0] == pytest.approx(10 * (1 + 1) / 4)
    assert scores[1] == 0
    assert scores[2] == pytest.approx(10 * 0.5 / 4)  # the second dog is clipped
    penalty = math.exp(-1 / (2 * 6**2))
    assert scores[3] == pytest.approx(10 * (1 + math.sqrt(0.5)) / 4 * penalty)
    assert scores[4] == 0
    assert scores[5] == pytest.approx(10 * 1 / 4 * penalty)
    assert len(scorer) == 2


def test_idf_of_other_images():
    corpus = cap.CiderD([words("a dog/the dog"), words("a cat"), words("a cat"), words("a cat")])
    scorer = cap.CiderD([words("a dog sits")], corpus)
    # Of the 1-grams "a" counts nothing, "dog" log 4 and, unknown to the corpus, "sits" log 4; of
    # the 2-grams and 3-grams each log 4.
    found = scorer.score(words("a dog sits/a dog/a cat"), [0, 0, 0])
    penalty = math.exp(-1 / (2 * 6**2))
    assert found[0] == pytest.approx(10 * 3 / 4)
    assert found[1] == pytest.approx(10 * 2 * math.sqrt(0.5) / 4 * penalty)
    assert found[2] == 0
    # On the one image alone every idf would be 0.
    assert cap.CiderD([words("a dog sits")]).score(words("a dog sits")) == [0]


def test_cider_d_is_that_of_pycocoevalcap(many):
    cider = pytest.importorskip("pycocoevalcap.cider.cider")
    captions, references = many
    mean, each = by_pycocoevalcap(cider.Cider(), captions, references)
    assert mean > 0.1
    np.testing.assert_allclose(cap.CiderD(references).score(captions), each, atol=1e-6)
    assert cap.cider_d(captions, references) == pytest.approx(100 * mean, abs=1e-4)


def test_cider_d_of_a_batch():
    captions, references = made_up()
    scorer = cap.CiderD(references)
    all_scores = scorer.score(captions)
    images = np.array([7, 3, 7, 59])
    some = scorer.score([captions[i] for i in images], images)
    np.testing.assert_allclose(some, all_scores[images], atol=1e-12)


def test_cider_d_of_empty_captions_and_one_image():
    assert (cap.CiderD(REFERENCES).score([[], [], []]) == 0).all()
    assert cap.CiderD(REFERENCES[:1]).score(CAPTIONS[:1]) == [0]  # every idf is log 1


def test_cider_d_refuses():
    scorer = cap.CiderD(REFERENCES)
    with pytest.raises(DataError, match="2 captions for 3 images"):
        scorer.score(CAPTIONS[:2])
    for images in ([0, 3], [-1, 0], [0.0, 1.0]):
        with pytest.raises(ConfigError, match="0..2"):
            scorer.score(CAPTIONS[:2], images)
    many_words = [[[f"w{i}" for i in range(2**16)]]]
    with pytest.raises(DataError, match="65,535"):
        cap.CiderD(many_words)


def test_rouge_l_by_hand():
    captions = words("a b c d/x/")
    scores = cap.rouge_l(captions, [words("a c"), words("y/z"), words("a")])
    assert scores == pytest.approx([2.44 * 0.5 * 1 / (1 + 1.44 * 0.5), 0, 0])
    # Precision from the first reference, recall from the second.
    scores = cap.rouge_l(words("a b c d"), [words("a b c x y z/d")])
    assert scores == pytest.approx([2.44 * 0.75 * 1 / (1 + 1.44 * 0.75)])


def test_rouge_l_is_that_of_pycocoevalcap(many):
    rouge = pytest.importorskip("pycocoevalcap.rouge.rouge")
    captions, references = many
    _, each = by_pycocoevalcap(rouge.Rouge(), captions, references)
    assert each.mean() > 0.1
    np.testing.assert_allclose(cap.rouge_l(captions, references), each, atol=1e-6)


def test_meteor_without_wordnet(monkeypatch):
    class WordNet:
        @staticmethod
        def ensure_loaded():
            raise LookupError("Resource wordnet not found.")

    monkeypatch.setattr("nltk.corpus.wordnet", WordNet())
    assert cap.meteor(CAPTIONS, REFERENCES) is None
    assert cap.caption_scores(CAPTIONS, REFERENCES)["meteor"] is None
    assert "nltk.downloader wordnet" in cap.what_is_missing()["meteor"]


def test_meteor_with_a_wordnet_that_knows_no_synonyms(monkeypatch):
    class WordNet:
        @staticmethod
        def synsets(word):
            return []

    monkeypatch.setattr(rouge_meteor, "_why_no_wordnet", lambda: None)
    score = functools.partial(meteor_score.meteor_score, wordnet=WordNet())
    monkeypatch.setattr(meteor_score, "meteor_score", score)
    scores = cap.meteor(CAPTIONS, REFERENCES)
    assert cap.what_is_missing() == {}
    # All six words match in one piece.
    assert scores[0] == pytest.approx(1 - 0.5 / 6**3)
    assert 0 < scores[1] < 1
    assert cap.caption_scores(CAPTIONS, REFERENCES)["meteor"] == pytest.approx(100 * scores.mean())
    assert "meteor" in cap.caption_intervals(CAPTIONS, REFERENCES, 10).index


def test_scores(no_wordnet):
    train = [words("men play/a girl climbs"), words("the dog runs in the house")]
    scores = cap.caption_scores([*CAPTIONS, CAPTIONS[1]], [*REFERENCES, REFERENCES[1]], train)
    assert scores["bad_endings"] == 1 / 4
    assert scores["distinct"] == 3 / 4
    assert scores["words_used"] == 10
    assert scores["length"] == (6 + 2 + 6 + 2) / 4
    assert scores["longest_copy"] == (4 + 2 + 2 + 2) / 4  # "dog runs in the", "men play", "a girl"
    assert scores["copied"] == 2 / 4
    assert scores["rouge_l"] == pytest.approx(
        100 * cap.rouge_l([*CAPTIONS, CAPTIONS[1]], [*REFERENCES, REFERENCES[1]]).mean()
    )
    without = cap.caption_scores(CAPTIONS, REFERENCES)
    assert set(scores) - set(without) == {"longest_copy", "copied"}


def test_an_empty_caption_ends_badly(no_wordnet):
    scores = cap.caption_scores([[], ["a", "dog"], ["dogs"]], REFERENCES)
    assert scores["bad_endings"] == pytest.approx(1 / 3)
    assert {"a", "the", "with", "of", "and", "in", "is", "her"} <= BAD_ENDINGS


def test_longest_copy():
    captions = words("a b c d e/x a b/z//b c a b c d")
    train = [words("a b c d/a b"), words("q b c a b")]
    assert list(cap.longest_copy(captions, train)) == [4, 2, 0, 0, 4]
    # A run ends with its text: "d a" stands in none.
    assert list(cap.longest_copy(words("d a"), train)) == [1]


def test_longest_copy_is_that_of_a_plain_search():
    captions, references = made_up(seed=1)
    train = [f" {' '.join(text)} " for of_image in made_up(seed=2)[1] for text in of_image]

    def plain(caption):
        runs = [caption[i:j] for j in range(len(caption) + 1) for i in range(j)]
        found = [run for run in runs if any(f" {' '.join(run)} " in text for text in train)]
        return max(map(len, found), default=0)

    expected = [plain(caption) for caption in captions]
    assert list(cap.longest_copy(captions, made_up(seed=2)[1])) == expected
    assert len(set(expected)) > 3


def test_people_are_judged_against_the_others(no_wordnet):
    _, references = made_up(images=20, references=3)
    scores = cap.human_scores(references)
    turns = [
        cap.caption_scores(
            [of[k] for of in references], [[*of[:k], *of[k + 1 :]] for of in references]
        )
        for k in range(3)
    ]
    for name in ("bleu_1", "cider_d", "rouge_l", "words_used"):
        assert scores[name] == pytest.approx(np.mean([turn[name] for turn in turns]))
    assert scores["meteor"] is None


def test_a_machine_judged_as_people_are(no_wordnet):
    captions, references = made_up(images=20)
    fair = cap.human_scores(references, captions)
    usual = cap.caption_scores(captions, references)
    assert fair["length"] == usual["length"]
    # One reference less to agree with.
    assert fair["bleu_1"] < usual["bleu_1"] and fair["rouge_l"] < usual["rouge_l"]


@pytest.mark.parametrize("keep", [slice(1, None), slice(None, 1)])
def test_people_need_references_of_one_number(keep):
    references = [of[keep] if i else of for i, of in enumerate(REFERENCES)]
    with pytest.raises(DataError, match="the same number"):
        cap.human_scores(references)
    with pytest.raises(DataError, match="two or more"):
        cap.human_scores([of[:1] for of in REFERENCES])


def test_images_that_several_people_described():
    a, b, c = ["a"], ["b"], ["c"]
    several, told = cap.with_several([[a], [a, b, c], [b], [c, a]])
    assert several.tolist() == [1, 3] and told == [[a, b], [c, a]]
    several, told = cap.with_several([[a], [b]])
    assert several.tolist() == [] and told == []


def test_intervals_hold_the_scores(no_wordnet):
    captions, references = made_up(images=150)
    table = cap.caption_intervals(captions, references, samples=300)
    scores = cap.caption_scores(captions, references)
    assert list(table.columns) == ["value", "low", "high"]
    assert list(table.index) == [*cap.BLEUS, "cider_d", "rouge_l", "bad_endings"]
    for name, row in table.iterrows():
        assert row["value"] == pytest.approx(scores[name], abs=1e-9)
        assert row["low"] <= row["value"] <= row["high"]
    assert (table["low"] < table["high"]).drop("bad_endings").all()
    # Of a mean, the interval is nearly that of the normal distribution.
    each = 100 * cap.rouge_l(captions, references)
    width = 2 * 1.96 * each.std() / math.sqrt(len(each))
    assert table.loc["rouge_l", "high"] - table.loc["rouge_l", "low"] == pytest.approx(
        width, rel=0.2
    )


def test_a_resample_is_scored_as_the_images_it_holds():
    captions, references = made_up()
    weights = resample(len(captions), 5, seed=3)
    assert (weights.sum(axis=1) == len(captions)).all()
    scores = report._resampled(captions, references, weights)
    for sample, row in enumerate(weights.astype(int)):
        drawn = np.repeat(np.arange(len(captions)), row)
        expected = by_nltk([captions[i] for i in drawn], [references[i] for i in drawn])
        received = [scores[name][sample] for name in cap.BLEUS]
        assert received == pytest.approx(expected, abs=1e-9)
        each = cap.CiderD(references).score(captions)[drawn]
        assert scores["cider_d"][sample] == pytest.approx(100 * each.mean())


def test_intervals_follow_their_seed():
    captions, references = made_up()
    table = cap.caption_intervals(captions, references, 100, seed=1)
    assert table.equals(cap.caption_intervals(captions, references, 100, seed=1))
    assert not table.equals(cap.caption_intervals(captions, references, 100, seed=2))


def test_captioners_are_compared_on_the_same_images():
    captions, references = made_up(images=150)
    shorter = [caption[:-1] or ["w1"] for caption in captions]
    methods = {"full": captions, "shorter": shorter}
    table = cap.compare_captions(methods, references, "full", samples=200)
    table = table.set_index(["method", "metric"])
    own = table.loc["full", ["difference", "difference_low", "difference_high"]]
    assert (own.to_numpy() == 0).all()
    alone = cap.caption_intervals(shorter, references, samples=200)
    np.testing.assert_allclose(table.loc["shorter", ["value", "low", "high"]], alone[:])
    row = table.loc[("shorter", "rouge_l")]
    # What both share cancels out: the difference is known better than either.
    assert row["difference_high"] - row["difference_low"] < row["high"] - row["low"]


def test_intervals_refuse():
    with pytest.raises(DataError, match="two of them"):
        cap.caption_intervals(CAPTIONS[:1], REFERENCES[:1])
    with pytest.raises(ConfigError, match="samples=0"):
        cap.caption_intervals(CAPTIONS, REFERENCES, samples=0)
    with pytest.raises(ConfigError, match="'beam' is none of: greedy"):
        cap.compare_captions({"greedy": CAPTIONS}, REFERENCES, "beam")


@pytest.mark.parametrize(
    "function",
    [cap.bleu, cap.cider_d, cap.rouge_l, cap.meteor, cap.caption_scores, cap.caption_intervals],
)
@pytest.mark.parametrize(
    ("captions", "references", "message"),
    [
        (["a dog", "men", "a girl"], REFERENCES, r"captions\[0\] is 'a dog', of type str"),
        ([["a dog"], *CAPTIONS[1:]], REFERENCES, r"captions\[0\] holds 'a dog'"),
        ([*CAPTIONS[:2], [4, 5, 2]], REFERENCES, r"captions\[2\] holds 4.*Vocabulary"),
        ("a dog", REFERENCES, "captions must be"),
        (CAPTIONS, [*REFERENCES[:2], ["a girl"]], r"references\[2\]\[0\] is 'a girl'"),
        (CAPTIONS, ["a dog", *REFERENCES[1:]], r"references\[0\] must be"),
        (CAPTIONS, [*REFERENCES[:2], []], r"references\[2\] is empty"),
        (CAPTIONS, [*REFERENCES[:2], [["a"], []]], r"references\[2\]\[1\] has no word"),
        (CAPTIONS[:2], REFERENCES, "2 captions, but references of 3 images"),
        (CAPTIONS, REFERENCES[:2], "3 captions, but references of 2 images"),
    ],
)
def test_bad_input_is_refused(function, captions, references, message):
    with pytest.raises(DataError, match=message):
        function(captions, references)


def test_nothing_to_judge_is_refused():
    with pytest.raises(DataError, match="no caption"):
        cap.bleu([], [])
    with pytest.raises(DataError, match="no image"):
        cap.CiderD([])
    with pytest.raises(DataError, match=r"captions\[0\] is 'a dog'"):
        cap.longest_copy(["a dog"], REFERENCES)
    with pytest.raises(DataError, match=r"the training captions\[0\]\[0\] is 'a dog'"):
        cap.longest_copy(CAPTIONS, [["a dog"]])

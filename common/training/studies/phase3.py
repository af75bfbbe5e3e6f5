"""The comparisons of phase 3, on dev images: of Flickr8k one half of the official dev list.

Everything is chosen and told on the same 500 images: differences between arms are fair, the scores
themselves a little too good. The test images take no part.

Hours on two cores with AVX2 and without bfloat16, where a pass of `multi_head` over Flickr8k takes
three minutes, one of `rnn` half as long, one of `attention_lstm` 1.6 times:

| study | seed 0 | each further seed | what is shared |
|---|---|---|---|
| backbones | 3.1, and 1.5 for features | 2.1: the two best | runs of lesson 5 |
| vectors | 4.1 | 2.1: the arms of the text | features and one run of backbones, ladder |
| ladder | 1.7 | 1.7 | features of backbones |
| ladder_own | 5.9 | 3 to 4: the best of each rung | runs of ladder, lesson 5 |
"""

from common.training.studies.captions import BACKBONE, CaptionArm, CaptionStudy

PHASE = "phase3_captioning"
# Passes where many trainings have to fit into a night.
_SHORT = {"epochs": 6}

RUNGS = {
    "rnn": {"decoder": "rnn"},
    "lstm": {"decoder": "lstm"},
    "attention_lstm": {"decoder": "attention_lstm"},
    # What the next one adds to this are depth and the feed-forward parts; what this one takes from
    # the one before is the recurrence.
    "one block": {
        "decoder": "self_attention",
        "arguments": {"num_blocks": 1, "feed_forward": False},
    },
    "self_attention": {"decoder": "self_attention"},
    "multi_head": {"decoder": "multi_head"},
}
# Of each rung: passes, peak of the learning rate, dropout, label smoothing. The first one is that
# of the common budget. The recipe's twenty passes are left out where LOG.md tells that the images
# are learned by heart long before.
CANDIDATES = {
    "rnn": ((6, 2e-3, 0.4, 0.1), (10, 1e-3, 0.2, 0.1), (20, 2e-3, 0.4, 0.1)),
    "lstm": ((6, 2e-3, 0.4, 0.1), (10, 1e-3, 0.4, 0.1), (10, 2e-3, 0.5, 0.2)),
    "attention_lstm": ((6, 2e-3, 0.4, 0.1), (9, 1e-3, 0.4, 0.1), (9, 1e-3, 0.5, 0.2)),
    "one block": ((6, 2e-3, 0.3, 0.1), (10, 2e-3, 0.1, 0.1), (20, 2e-3, 0.2, 0.1)),
    "self_attention": ((6, 2e-3, 0.3, 0.1), (10, 1e-3, 0.2, 0.1), (20, 2e-3, 0.3, 0.1)),
    "multi_head": ((6, 2e-3, 0.3, 0.1), (10, 1e-3, 0.2, 0.1), (20, 2e-3, 0.3, 0.1)),
}


def _backbones() -> CaptionStudy:
    """Each with the recipe of the profile; the two best with three seeds."""
    names = ("mobilenet_0.75", "resnet50", BACKBONE)
    arms = {name: CaptionArm(backbone=name) for name in names}
    question = "What does a better backbone give, and what does it cost?"
    return CaptionStudy("backbones", PHASE, question, arms, finalists=2, costs=True)


def _vectors() -> CaptionStudy:
    """With a tenth of the images three times the passes: a third of the steps.

    BERT is all-MiniLM-L6-v2, in the folder `minilm` of `COURSE_DATA`.
    """
    glove, bert = {"embedding": "glove"}, {"embedding": "keras_bert:minilm"}
    kinds = {
        "random, as wide as the decoder": {},
        "random, 50 numbers": {"numbers": 50},
        "GloVe, tuned": glove,
        "GloVe, rows shuffled": {**glove, "shuffled": True},
        "GloVe, projected": {**glove, "mode": "projected", "once": True},
        "GloVe, frozen": {**glove, "mode": "frozen", "once": True},
        "BERT, tuned": bert,
        "BERT, projected": {**bert, "mode": "projected", "once": True},
        "BERT, frozen": {**bert, "mode": "frozen", "once": True},
        "word2vec, tuned": {"embedding": "word2vec", "once": True},
    }
    shares = {"a tenth": (0.1, {"epochs": 18}), "all": (1.0, _SHORT)}
    arms = {
        f"{kind}, {group}": CaptionArm(recipe=recipe, share=share, group=group, **options)
        for group, (share, recipe) in shares.items()
        for kind, options in kinds.items()
    }
    question = "Do words that others have learned help, with few images and with many?"
    return CaptionStudy("vectors", PHASE, question, arms)


def _ladder() -> CaptionStudy:
    arms = {rung: CaptionArm(**made, recipe=_SHORT) for rung, made in RUNGS.items()}
    question = "What is each rung worth, at a common budget?"
    return CaptionStudy("ladder", PHASE, question, arms)


def _ladder_own() -> CaptionStudy:
    """Chosen by one seed; who tells a mean leaves that seed out, or says so."""
    arms = {}
    for rung, candidates in CANDIDATES.items():
        for epochs, rate, dropout, smoothing in candidates:
            made = {**RUNGS[rung], "group": rung}
            made["arguments"] = {**made.get("arguments", {}), "dropout": dropout}
            recipe = {"epochs": epochs, "learning_rate": rate, "label_smoothing": smoothing}
            told = f"{epochs} passes at {rate:g}, dropout {dropout:g}, smoothing {smoothing:g}"
            arms[f"{rung}: {told}"] = CaptionArm(**made, recipe=recipe)
    question = "What is each rung worth, with the schedule and regularisation that suit it?"
    return CaptionStudy("ladder_own", PHASE, question, arms, finalists=1)


MAKERS = {
    "backbones": _backbones,
    "vectors": _vectors,
    "ladder": _ladder,
    "ladder_own": _ladder_own,
}

"""What training by a reward costs, as ratios measured side by side in one run.

    python benchmarks/rewards.py scoring [--dataset synthetic] [--rounds 5]
    python benchmarks/rewards.py step [--dataset synthetic] [--decoder multi_head]
    python benchmarks/rewards.py sampling [--decoder multi_head]

`scoring`: sentence BLEU-4 against nltk's `sentence_bleu` with the same smoothing, CIDEr-D against
`pycocoevalcap`, of the captions of one step (32 images, 5 captions of each), and the largest
difference of the scores. The captions are people's, a third of their words exchanged.

`step`: how a step of 32 images divides into drawing captions, scoring them and learning from them.

`sampling`: drawing 5 captions of each image against writing one greedily; the captions are all as
long as can be.

Decoders have the size that they have for photos and random weights.
"""

import argparse

import numpy as np
from captioning import CHANNELS, MAX_LENGTH, REGIONS, made, median_times, never_ending, vocabulary

IMAGES, CAPTIONS = 32, 5


def captions_of_a_step(options):
    """References of all training images, and captions and image numbers as a step draws them."""
    from common.data import load_captions

    data = load_captions(options.dataset, "train", 6000)
    references = data.references
    words = sorted({word for of_image in references for text in of_image for word in text})
    rng = np.random.default_rng(0)
    images = np.repeat(rng.choice(len(references), IMAGES, replace=False), CAPTIONS)
    captions = [
        [word if rng.random() > 1 / 3 else str(rng.choice(words)) for word in references[i][k]]
        for i, k in zip(images, rng.integers(0, 5, len(images)), strict=True)
    ]
    return references, captions, images


def scoring(options) -> None:
    from nltk.translate.bleu_score import SmoothingFunction, sentence_bleu
    from pycocoevalcap.cider.cider import Cider

    from common.evaluation.captions import CiderD, SentenceBleu

    references, captions, images = captions_of_a_step(options)
    method = SmoothingFunction().method1
    ours = {"BLEU-4": SentenceBleu(references, "method1"), "CIDEr-D": CiderD(references)}
    # pycocoevalcap counts on the images it scores: ours does, too, when compared.
    own = [references[i] for i in images]
    texts = {k: [" ".join(words) for words in of_image] for k, of_image in enumerate(own)}
    told = {k: [" ".join(words)] for k, words in enumerate(captions)}
    theirs = {
        "BLEU-4": lambda: [
            sentence_bleu(references[i], words, smoothing_function=method)
            for words, i in zip(captions, images, strict=True)
        ],
        "CIDEr-D": lambda: Cider().compute_score(texts, told)[1],
    }
    scores = {
        "BLEU-4": ours["BLEU-4"].score(captions, images),
        "CIDEr-D": CiderD(own).score(captions),
    }
    for name, library in (("BLEU-4", "nltk"), ("CIDEr-D", "pycocoevalcap")):
        seconds = median_times(
            {
                "ours": lambda name=name: [ours[name].score(captions, images) for _ in range(10)],
                library: theirs[name],
            },
            options.rounds,
        )
        difference = np.abs(np.asarray(theirs[name]()) - scores[name]).max()
        print(
            f"{name} of {len(captions)} captions: ours {100 * seconds['ours']:.2f} ms, {library} "
            f"{1000 * seconds[library]:.1f} ms, {10 * seconds[library] / seconds['ours']:.1f} "
            f"times; largest difference of scores {difference:.1e}"
        )


def step(options) -> None:
    from common.data.vocabulary import Vocabulary
    from common.evaluation.rewards import CaptionReward
    from common.training.backend import device_scope, device_settings
    from common.training.generation import Generator
    from common.training.self_critical import Critic, Rewarded, RewardRecipe

    references, _, _ = captions_of_a_step(options)
    known = Vocabulary.build([words for of_image in references for words in of_image], 5)
    settings = device_settings()
    recipe = RewardRecipe(1, IMAGES, CAPTIONS)
    with device_scope(settings):
        network = made(options.decoder, len(known))
        model = Rewarded(network)
        model.compile(recipe.make_optimizer(1000), jit_compile=settings.jit_compile)
    rng = np.random.default_rng(0)
    features = rng.random((IMAGES, REGIONS, CHANNELS)).astype("float16")
    images = rng.choice(len(references), IMAGES, replace=False)
    generator = Generator(network, known, IMAGES)
    for reward in ("bleu_4", "mix"):
        critic = Critic(generator, CaptionReward(reward, references), recipe)
        drawn = critic(features, images, seed=0)
        x = {"features": features, "tokens": drawn["tokens"]}
        seconds = median_times(
            {
                "drawing": lambda: generator.tokens(features, "sample", captions=CAPTIONS),
                "scoring": lambda c=critic, d=drawn: c.rewards(d["tokens"][..., 1:], images),
                "learning": lambda x=x, d=drawn: model.train_on_batch(
                    x, d["advantages"].astype("float32")
                ),
            },
            options.rounds,
        )
        whole = sum(seconds.values())
        parts = ", ".join(f"{name} {100 * s / whole:.0f} %" for name, s in seconds.items())
        print(f"{options.decoder}, {settings}, {reward}: {1000 * whole:.0f} ms a step: {parts}")


def sampling(options) -> None:
    from common.training.backend import device_scope, device_settings
    from common.training.generation import Generator

    settings = device_settings()
    with device_scope(settings):
        network = never_ending(made(options.decoder))
    rng = np.random.default_rng(0)
    features = rng.random((IMAGES, REGIONS, CHANNELS)).astype("float16")
    generator = Generator(network, vocabulary(), IMAGES)
    seconds = median_times(
        {
            "greedy": lambda: generator.tokens(features),
            "drawn": lambda: generator.tokens(features, "sample", captions=CAPTIONS),
        },
        options.rounds,
    )
    print(
        f"{options.decoder}, {settings}: one greedy caption of {MAX_LENGTH - 1} words for each of "
        f"{IMAGES} images {1000 * seconds['greedy']:.0f} ms, {CAPTIONS} drawn of each "
        f"{1000 * seconds['drawn']:.0f} ms: {seconds['drawn'] / seconds['greedy']:.2f} times the "
        f"time for {CAPTIONS} times the captions"
    )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("what", choices=("scoring", "step", "sampling"))
    parser.add_argument("--dataset", default="synthetic")
    parser.add_argument("--decoder", default="multi_head")
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    globals()[options.what](options)

"""Whether TensorFlow and JAX write the same captions with the same weights, in float32.

    python benchmarks/caption_backends.py --dataset flickr8k [--run RUN] [--split test]

Each backend writes, in a process of its own, greedy captions and those of beams of 3 and 5, from
the same features. Where two captions differ, the script shows how near the tie was: the smallest
margin, in log probability (of beams: in score), by which the plain search in this file keeps one
beginning and drops another. Exit status 1 if fewer than 99 % are the same, or a difference is no
near-tie.
"""

import argparse
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

BEAMS = {"greedy": 1, "beam 3": 3, "beam 5": 5}
NEAR = 1e-4  # of a margin; float32 has seven digits, and a score is a sum of some twelve numbers


def write(run: str | None, folder: Path) -> None:
    """What the process of one backend does."""
    import keras

    from common.training.captioner import load_captioner

    captioner = load_captioner(run)
    features = np.load(folder / "features.npy")
    found = {}
    for way, beams in BEAMS.items():
        options = {"method": "beam", "beams": beams, **penalty(captioner)} if beams > 1 else {}
        found[way] = captioner.generator.tokens(features, **options)[0][:, 0]
    np.savez(folder / f"{keras.backend.backend()}.npz", **found)


def penalty(captioner) -> dict:
    return {"length_penalty": captioner.record["decoding"]["length_penalty"]}


def narrowest_margin(captioner, features: np.ndarray, beams: int) -> float:
    """The closest choice of a plain beam search of one image (of one beam: greedy)."""
    from common.data.vocabulary import END, IMPOSSIBLE, PAD, START

    exponent = penalty(captioner)["length_penalty"] if beams > 1 else 0.0
    length, margin = captioner.generator.length, np.inf
    kept, pool, greedy = [([], 0.0)], [], []

    def score(item):
        return item[1] / len(item[0]) ** exponent

    for _ in range(length):
        grown = [item for item in kept if END in item[0]]
        going = [item for item in kept if END not in item[0]]
        if not going:
            break
        given = np.full((len(going), length), PAD, "int32")
        for row, (words, _) in zip(given, going, strict=True):
            row[: len(words) + 1] = [START, *words]
        logits = np.asarray(captioner.decoder(features[None], given[None]), "float64")[0]
        logits = logits[:, len(going[0][0])]
        logits[:, IMPOSSIBLE] = -np.inf
        log_p = logits - np.logaddexp.reduce(logits, axis=-1, keepdims=True)
        likeliest = None
        for (words, total), row in zip(going, log_p, strict=True):
            best = np.argpartition(-row, beams + 1)[: beams + 1]
            grown += [([*words, int(word)], total + row[word]) for word in best]
            if words == greedy:
                likeliest = [*words, int(row.argmax())]
        greedy = likeliest
        # The greedy one goes first until it has ended, see `beam_search`.
        grown.sort(key=lambda item: (item[0] != greedy, -score(item)))
        margin = min(margin, score(grown[beams - 1]) - score(grown[beams]))
        kept = grown[:beams]
        pool += [item for item in kept if item[0][-1] == END and item not in pool]
    finals = sorted(map(score, pool + [item for item in kept if END not in item[0]]), reverse=True)
    return min(margin, finals[0] - finals[1]) if beams > 1 else margin


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--run", help="by default the weights that the repository carries")
    parser.add_argument("--dataset", default="flickr8k")
    parser.add_argument("--split", default="test")
    parser.add_argument("--child", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        write(options.run, options.child)
        return 0

    from common.data import load_captions
    from common.training.captioner import load_captioner
    from common.training.features import extract_features

    captioner = load_captioner(options.run)
    backbone = captioner.extractor.backbone
    name = captioner.record["backbone"]["name"]
    found = extract_features(load_captions(options.dataset, options.split), backbone, name)
    features = np.asarray(found.array[found.usable()], "float32")
    captions = {}
    with tempfile.TemporaryDirectory() as folder:
        np.save(Path(folder) / "features.npy", features)
        for backend in ("tensorflow", "jax"):
            command = [sys.executable, __file__, "--child", folder]
            command += ["--run", options.run] if options.run else []
            subprocess.run(command, env={**os.environ, "KERAS_BACKEND": backend}, check=True)
            with np.load(Path(folder) / f"{backend}.npz") as archive:
                captions[backend] = dict(archive)
    failed = False
    for way, beams in BEAMS.items():
        ours, theirs = (captions[backend][way] for backend in ("tensorflow", "jax"))
        differ = np.flatnonzero((ours != theirs).any(axis=-1))
        same = 1 - len(differ) / len(ours)
        failed |= same < 0.99
        print(f"{way}: {100 * same:.2f} % of {len(ours)} captions are the same")
        for i in differ:
            margin = narrowest_margin(captioner, features[i], beams)
            failed |= margin > NEAR
            texts = (" ".join(captioner.vocabulary.decode(row[i])) for row in (ours, theirs))
            print(f"  image {i}, closest choice {margin:.1e}: {' | '.join(texts)}")
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())

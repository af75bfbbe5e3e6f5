"""What captioning costs, as ratios measured side by side in one run.

    python benchmarks/captioning.py decoding [--decoder multi_head] [--rounds 3]
    python benchmarks/captioning.py layers [--rounds 5]
    python benchmarks/captioning.py steps [--rounds 3]
    python benchmarks/captioning.py features [--images 2000] [--backbone mobilenet_0.75]

`decoding`: captions per second of batched greedy decoding and of beam search against the loop of
the usual tutorials: one image at a time, the whole `model(...)` called anew for every word on all
words so far, the next word chosen in NumPy. All write captions of the same number of words: the
weights are random, and nothing ends before the last word.

`layers`: our LSTM against `keras.layers.LSTM`, our multi-head attention against Keras's, each with
the same weights: forward and backward, compiled, in turns.

`steps`: time of a training step of each decoder of the ladder, and what bounds it: what is left of
it with a vocabulary of 64 words (the logits cost the rest), with one caption word (the steps in
time cost the rest), and forward only.

`features`: images per second from files on disk to features on disk, and of reading and of
computing alone; the anonymous memory of the process (what is mapped from files is not counted) at
most in the first tenth of the time and in the rest, and the features' size on disk.

Ratios are medians over the rounds, in which the variants take turns: the speed of a shared machine
drifts, and so they meet the same weather.
"""

import argparse
import tempfile
import threading
import time
from pathlib import Path

import numpy as np
import psutil
from histopathology import anonymous_memory

REGIONS, CHANNELS, WORDS = 49, 768, 2538
MAX_LENGTH = 24


def median_times(variants: dict, rounds: int) -> dict[str, float]:
    """Median seconds of each function over the rounds; each is called once before."""
    for function in variants.values():
        function()
    seconds = {name: [] for name in variants}
    for _ in range(rounds):
        for name, function in variants.items():
            start = time.perf_counter()
            function()
            seconds[name].append(time.perf_counter() - start)
    return {name: float(np.median(values)) for name, values in seconds.items()}


def made(name: str, words: int = WORDS, length: int = MAX_LENGTH, **arguments):
    from common.models.captioning import decoder
    from common.training.generation import build_decoder

    network = decoder(name, words, max_length=length, **arguments)
    return build_decoder(network, REGIONS, CHANNELS)


def never_ending(network):
    """The word `<end>` becomes the opposite of a frequent one: so all captions are as long."""
    from common.data.vocabulary import END

    weights = network.get_weights()
    place = next(i for i, w in enumerate(weights) if w.shape == (WORDS, network.width))
    weights[place][END] = -10 * np.abs(weights[place]).mean(axis=0)
    network.set_weights(weights)
    return network


def vocabulary(words: int = WORDS):
    from common.data.vocabulary import SPECIAL, Vocabulary

    return Vocabulary([f"word{i}" for i in range(words - len(SPECIAL))])


def decoding(options) -> None:
    from keras import ops

    from common.data.vocabulary import END, START
    from common.training.backend import device_scope, device_settings
    from common.training.generation import Generator

    settings = device_settings()
    print(f"{options.decoder}, {settings}")
    with device_scope(settings):
        network = never_ending(made(options.decoder))
    rng = np.random.default_rng(0)
    features = rng.random((options.images, REGIONS, CHANNELS), dtype="float32")
    generator = Generator(network, vocabulary(), min(100, options.images))
    few = features[: options.loop]

    def loop():
        """As in most tutorials, but for `model(...)` in place of the slower `model.predict`."""
        for image in few:
            words = np.zeros((1, MAX_LENGTH - 1), "int32")
            words[0, 0] = START
            for t in range(MAX_LENGTH - 1):
                logits = ops.convert_to_numpy(network(image[None], words))
                word = int(logits[0, t].argmax())
                if word == END:
                    break
                if t + 1 < MAX_LENGTH - 1:
                    words[0, t + 1] = word

    lengths = (generator.tokens(features)[0] > 0).sum(axis=-1)
    seconds = median_times(
        {
            "one image at a time": loop,
            "greedy": lambda: generator.tokens(features),
            "beam 3": lambda: generator.tokens(features, "beam", beams=3),
            "beam 5": lambda: generator.tokens(features, "beam", beams=5),
        },
        options.rounds,
    )
    rates = {
        name: (len(few) if name == "one image at a time" else len(features)) / value
        for name, value in seconds.items()
    }
    print(f"words per caption: {lengths.mean():.1f} of {MAX_LENGTH - 1}")
    for name, rate in rates.items():
        print(f"{name}: {rate:.1f} captions/s, {rate / rates['one image at a time']:.1f} times")


def layers(options) -> None:
    import keras
    from keras import ops

    import common.layers as ours
    from common.training.backend import gradient_function

    rng = np.random.default_rng(0)
    shapes = {"LSTM": (64, 23, 256), "multi-head attention": (64, 64, 256)}
    for policy in ("float32", "mixed_bfloat16"):
        keras.config.set_dtype_policy(policy)
        for title, shape in shapes.items():
            if title == "LSTM":
                pair = {
                    "ours": ours.LSTM(512, return_sequences=True),
                    "Keras": keras.layers.LSTM(512, return_sequences=True),
                }
                for layer in pair.values():
                    layer.build(shape)
                pair["ours"].set_weights(pair["Keras"].get_weights())
                calls = {name: layer for name, layer in pair.items()}
            else:
                mine = ours.MultiHeadAttention(4, 64)
                theirs = keras.layers.MultiHeadAttention(4, 64)
                mine.build(shape, shape)
                theirs.build(shape, shape)
                values = [
                    w.reshape(v.shape)
                    for w, v in zip(theirs.get_weights(), mine.variables, strict=True)
                ]
                mine.set_weights(values)
                calls = {
                    "ours": lambda x, layer=mine: layer(x, x, use_causal_mask=True),
                    "Keras": lambda x, layer=theirs: layer(x, x, use_causal_mask=True),
                }
            x = rng.standard_normal(shape).astype("float32")
            functions = {
                name: gradient_function(
                    lambda x, call=call: (ops.mean(ops.square(call(x))), ops.zeros(()))
                )
                for name, call in calls.items()
            }
            values = {name: float(f(x)[0]) for name, f in functions.items()}
            seconds = median_times(
                {name: lambda f=f, x=x: _wait(f, x, 5) for name, f in functions.items()},
                options.rounds,
            )
            print(
                f"{title}, {policy}: ours {1000 * seconds['ours'] / 5:.1f} ms, Keras "
                f"{1000 * seconds['Keras'] / 5:.1f} ms, ratio "
                f"{seconds['ours'] / seconds['Keras']:.2f} (values {values['ours']:.6f} and "
                f"{values['Keras']:.6f})"
            )


def _wait(function, x, times: int) -> None:
    from keras import ops

    for _ in range(times):
        _, _, gradient = function(x)
    ops.convert_to_numpy(gradient)


def steps(options) -> None:
    from common.models.captioning import DECODERS
    from common.training.backend import device_scope, device_settings
    from common.training.teacher_forcing import CaptionRecipe, TeacherForced

    settings = device_settings()
    rng = np.random.default_rng(0)
    batch, captions = 32, 5
    print(f"{batch} images x {captions} captions of {MAX_LENGTH - 1} words, {settings}")
    print("decoder | parameters | step | with 64 words | of one word | forward only")
    for name in DECODERS:
        variants, count = {}, 0
        for variant, (words, length) in {
            "step": (WORDS, MAX_LENGTH),
            "few words": (64, MAX_LENGTH),
            "one word": (WORDS, 2),
        }.items():
            with device_scope(settings):
                network = made(name, words, length)
                model = TeacherForced(network, 0.1)
                model.compile(
                    CaptionRecipe(epochs=1).make_optimizer(1000), jit_compile=settings.jit_compile
                )
            count = count or network.count_params()
            tokens = rng.integers(4, words, (batch, captions, length)).astype("int32")
            features = rng.random((batch, REGIONS, CHANNELS)).astype("float16")
            x = {"features": features, "tokens": tokens}
            variants[variant] = lambda m=model, x=x: [
                m.train_on_batch(x, x["tokens"]) for _ in range(3)
            ]
            if variant == "step":
                variants["forward"] = lambda m=model, x=x: [
                    m.test_on_batch(x, x["tokens"]) for _ in range(3)
                ]
        seconds = {k: v / 3 for k, v in median_times(variants, options.rounds).items()}
        whole = seconds["step"]
        shares = [seconds[k] / whole for k in ("few words", "one word", "forward")]
        print(
            f"{name} | {count:,} | {1000 * whole:.0f} ms | "
            + " | ".join(f"{100 * share:.0f} %" for share in shares)
        )


class MemoryWatch:
    """The anonymous memory of this process, looked at ten times a second; a context manager."""

    def __enter__(self):
        self.seen, self.done = [], threading.Event()
        self.thread = threading.Thread(target=self.watch)
        self.thread.start()
        return self

    def watch(self):
        while not self.done.wait(0.1):
            self.seen.append(anonymous_memory(psutil.Process()) / 1e6)

    def __exit__(self, *error):
        self.done.set()
        self.thread.join()


def features(options) -> None:
    import cv2

    from common.data.captions import CaptionData
    from common.models.backbones import backbone
    from common.training.features import Extractor, extract_features, to_input

    network = backbone(options.backbone, options.weights)
    rng = np.random.default_rng(0)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        names = tuple(f"{i:05}.jpg" for i in range(options.images))
        for file in names:  # 500x375, as photos of Flickr8k; smooth, so that JPEG is as usual
            small = rng.integers(0, 256, (24, 32, 3), dtype=np.uint8)
            cv2.imwrite(str(folder / file), cv2.resize(small, (500, 375)))
        data = CaptionData(names, (("a photo",),) * len(names), "photos", "train", folder)
        few = data.subset(range(64))
        extract_features(few, network, options.backbone, root=folder / "warm", progress=False)
        start = time.perf_counter()
        with MemoryWatch() as memory:
            found = extract_features(data, network, options.backbone, root=folder / "features")
        whole = time.perf_counter() - start
        size = (found.folder / "features.npy").stat().st_size / 1e9
        start = time.perf_counter()
        images = [to_input(data.read_image(i), 224) for i in range(64)]
        reading = (time.perf_counter() - start) / 64
        extractor, batch = Extractor(network), np.stack(images)
        seconds = median_times({"computing": lambda: extractor(batch)}, 5)["computing"] / 64
    print(
        f"{options.backbone}: {options.images / whole:.0f} images/s; reading a photo takes "
        f"{1000 * reading:.1f} ms on one core, computing {1000 * seconds:.1f} ms"
    )
    tenth = max(1, len(memory.seen) // 10)
    print(
        f"{options.images:,} images: {whole / 60:.1f} minutes, {size:.2f} GB on disk; memory "
        f"{max(memory.seen[:tenth]):.0f} MB at most in the first tenth, "
        f"{max(memory.seen[tenth:]):.0f} MB in the rest"
    )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("what", choices=("decoding", "layers", "steps", "features"))
    parser.add_argument("--decoder", default="multi_head")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--images", type=int, default=500)
    parser.add_argument("--loop", type=int, default=5, help="images of the tutorial's loop")
    parser.add_argument("--backbone", default="mobilenet_0.75")
    parser.add_argument("--weights", default="random")
    options = parser.parse_args()
    globals()[options.what](options)

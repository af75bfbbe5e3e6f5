"""What captioning costs, as ratios measured side by side in one run.

    python benchmarks/captioning.py decoding [--decoder multi_head] [--rounds 3]
    python benchmarks/captioning.py layers [--rounds 5]
    python benchmarks/captioning.py steps [--rounds 3]
    python benchmarks/captioning.py features [--images 2000] [--backbone mobilenet_0.75]
    python benchmarks/captioning.py folder [--images 1000] [--backbone mobilenet_0.75]

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

`folder`: captions per second from a folder of JPEG photos to a file of captions, as the command
`caption` makes them, with a captioner that is loaded and compiled already. Beside it what that
consists of, each alone: photos read and made small by as many threads as there are cores, the
backbone on arrays in memory, the words. And a plain Keras program with the same weights:
`image_dataset_from_directory`, `predict` in batches of 32, then a loop in Python that calls the
decoder anew for each word of 32 captions, the likeliest word chosen in NumPy; it has a fifth of the
photos. The captioner is the released one if it sees through the backbone, and the weights can be
had; else it is random, and no caption ends before its last word. The photos are those of
`COURSE_DATA/photos` again and again, or drawn where there are none. Processor time tells what is to
be had at best where all cores are busy all the time, and what a busy machine hides.

Ratios are medians over the rounds, in which the variants take turns: the speed of a shared machine
drifts, and so they meet the same weather.
"""

import argparse
import os
import tempfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from unittest.mock import patch

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


def made(name: str, words: int = WORDS, length: int = MAX_LENGTH, channels: int = CHANNELS):
    from common.models.captioning import decoder
    from common.training.generation import build_decoder

    return build_decoder(decoder(name, words, max_length=length), REGIONS, channels)


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


def write_photos(folder: Path, count: int, photos=()) -> tuple[str, ...]:
    """JPEG files of 500x375, as photos of Flickr8k: those given in turn, or smooth drawn ones."""
    import cv2

    rng, images = np.random.default_rng(0), [cv2.imread(str(photo)) for photo in photos]
    names = tuple(f"{i:05}.jpg" for i in range(count))
    folder.mkdir()
    for i, name in enumerate(names):
        image = images[i % len(images)] if images else rng.integers(0, 256, (24, 32, 3), np.uint8)
        cv2.imwrite(str(folder / name), cv2.resize(image, (500, 375)))
    return names


def features(options) -> None:
    from common.data.captions import CaptionData
    from common.models.backbones import backbone
    from common.training.features import Extractor, extract_features, to_input

    network = backbone(options.backbone, options.weights)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        names = write_photos(folder / "photos", options.images)
        captions = (("a photo",),) * len(names)
        data = CaptionData(names, captions, "photos", "train", folder / "photos")
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


def captioner_of(options):
    """The released captioner if it sees through this backbone, else one that never ends."""
    from common.errors import DataError
    from common.models.backbones import backbone, weights_hash
    from common.training.captioner import Captioner, load_captioner
    from common.training.generation import DECODING
    from common.training.released import released_captioner
    from common.training.store import read_captioner_record

    if read_captioner_record(released_captioner())["backbone"]["name"] == options.backbone:
        try:
            return load_captioner(), "the released captioner"
        except DataError as error:
            print(error)
    network = backbone(options.backbone, options.weights)
    shape = network.output_shape[1:]
    described = {"name": options.backbone, "hash": weights_hash(network), "shape": shape}
    decoder = never_ending(made(options.decoder, length=20, channels=shape[-1]))
    record = {"backbone": described, "decoding": DECODING}
    return Captioner(decoder, vocabulary(), network, record), f"{options.decoder}, random"


def plain_keras(captioner, folder: Path) -> list[str]:
    """Captions as a plain program writes them."""
    import keras

    from common.data.vocabulary import END, START

    network, decoder = captioner.extractor.backbone, captioner.decoder
    photos = keras.utils.image_dataset_from_directory(
        folder, labels=None, image_size=network.input_shape[1:3], shuffle=False, verbose=False
    )  # in batches of 32
    found = network.predict(photos, verbose=0)
    found = found.reshape(len(found), -1, found.shape[-1])
    captions = []
    for start in range(0, len(found), 32):
        features = found[start : start + 32]
        words = np.full((len(features), decoder.max_length), END, "int32")
        words[:, 0] = START
        ended = np.zeros(len(features), bool)
        for t in range(1, decoder.max_length):
            logits = keras.ops.convert_to_numpy(decoder(features, words[:, :-1]))
            words[~ended, t] = logits[~ended, t - 1].argmax(axis=-1)
            ended |= words[:, t] == END
            if ended.all():
                break
        captions += [" ".join(captioner.vocabulary.decode(row)) for row in words]
    return captions


def folder(options) -> None:
    from common.course import caption as command
    from common.data.image_files import one_opencv_thread
    from common.data.photos import list_photos, read_photo
    from common.paths import data_dir
    from common.training.backend import device_settings, hardware
    from common.training.features import to_input

    captioner, what = captioner_of(options)
    extractor = captioner.extractor
    with tempfile.TemporaryDirectory() as name:
        place, known = Path(name), sorted((data_dir() / "photos").glob("*.jpg"))
        write_photos(place / "photos", options.images, known)
        few = len(write_photos(place / "few", max(1, options.images // 5), known))
        files = list_photos([place / "photos"])
        kilobytes = sum(file.stat().st_size for file in files) / 1000 / len(files)

        def read():
            with one_opencv_thread(), ThreadPoolExecutor(os.cpu_count()) as pool:
                return list(pool.map(lambda x: to_input(read_photo(x), extractor.size), files))

        def backbone():
            for i in range(0, len(images), extractor.batch_size):
                extractor(images[i : i + extractor.batch_size])

        images = np.stack(read())
        features = captioner.features(images)

        def files_to_text(beams=None):
            photos = command.check([place / "photos"], beams, None, place / "a.json", False)
            with patch("common.training.captioner.load_captioner", lambda run: captioner):
                command.caption(photos, None, beams, False, lambda photo: None, place / "a.json")

        variants = {
            "reading": (len(files), read),
            "backbone": (len(files), backbone),
            "words": (len(files), lambda: captioner.scored_captions(features)),
            "files to text": (len(files), files_to_text),
            "greedily": (len(files), lambda: files_to_text(1)),
            "plain Keras": (few, lambda: plain_keras(captioner, place / "few")),
        }
        spent = {name: [] for name in variants}

        def noted(name):
            start = time.process_time()
            variants[name][1]()
            spent[name].append(time.process_time() - start)

        seconds = median_times({name: partial(noted, name) for name in variants}, options.rounds)
    milliseconds = {name: 1000 * seconds[name] / n for name, (n, _) in variants.items()}
    processors = {name: 1000 * np.median(spent[name][1:]) / n for name, (n, _) in variants.items()}
    machine, beams = hardware(), captioner.record["decoding"]["beams"]
    print(
        f"{machine['processor']}, {machine['cores']} cores; {device_settings('float32')}\n"
        f"{options.backbone}, {what}, {beams} beams; {len(files)} photos of 500x375, "
        f"{kilobytes:.0f} kB each; {options.rounds} rounds"
    )
    print("| | photos/s | ms a photo | of the three | ms of processors |\n|---|---|---|---|---|")
    alone = sum(list(milliseconds.values())[:3])
    for i, (name, value) in enumerate(milliseconds.items()):
        share = f"{100 * value / alone:.0f} %" if i < 3 else ""
        print(f"| {name} | {1000 / value:.1f} | {value:.2f} | {share} | {processors[name]:.2f} |")
    for told in ("files to text", "greedily"):
        print(
            f"{told}: {milliseconds['backbone'] / milliseconds[told]:.2f} of the backbone's rate, "
            f"{processors['backbone'] / processors[told]:.2f} by processor time; "
            f"{milliseconds['plain Keras'] / milliseconds[told]:.1f} times plain Keras"
        )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("what", choices=("decoding", "layers", "steps", "features", "folder"))
    parser.add_argument("--decoder", default="multi_head")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--images", type=int, help="500 by default, 1000 for `folder`")
    parser.add_argument("--loop", type=int, default=5, help="images of the tutorial's loop")
    parser.add_argument("--backbone", default="mobilenet_0.75")
    parser.add_argument("--weights", default="random")
    options = parser.parse_args()
    options.images = options.images or (1000 if options.what == "folder" else 500)
    globals()[options.what](options)

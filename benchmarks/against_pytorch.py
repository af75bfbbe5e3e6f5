"""Images per second of a training step: our code on TensorFlow and JAX against plain PyTorch.

    python benchmarks/against_pytorch.py [--networks fast_small fast] [--output results.json]
    python benchmarks/against_pytorch.py --profile

Of PyTorch the wheel for CPUs is enough: `pip install torch --index-url
https://download.pytorch.org/whl/cpu`; `torch.compile` needs a C++ compiler, too. Where PyTorch is
installed in another environment, `--torch-python` names its Python.

The networks are the same: PyTorch's gets our weights, and before anything is timed its logits have
to equal ours, and its number of trained weights. `airbench94`, with "fast", is the network that the
fast one descends from: for orientation.

- plain: forward, backward and update by SGD with Nesterov momentum, no augmentation. Ours is the
  course's `fit`, PyTorch's a loop over the same images, eager and with `torch.compile`.
- recipe: the course's whole step, with augmentation, smoothed labels and Muon.

Each contender has a process of its own, and in each round all take turns, `--steps` steps long, so
that they meet the same weather. All compute on the processor, on the same cores (`--threads`, on
Linux). Rates are medians over the rounds; `ratio` is to the better PyTorch of the same network: the
median of the rounds' own ratios, and in brackets the least and the largest. GFLOP/s: 6 operations
for each multiply-add of `count_macs` and image (2 forward, 4 backward), also where the frozen stem
needs no gradient.

`--profile`: for each convolution of the network the milliseconds and GFLOP/s of its forward pass
and of its two gradients alone, compiled by `tf.function` and eager in PyTorch; of norms,
activations and poolings the time of both passes together.
"""

import argparse
import importlib.util
import json
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict
from pathlib import Path
from types import SimpleNamespace

import numpy as np
from operations import flops, operations, pytorch_operation, seconds_of, tensorflow_operation
from throughput import Ours, Variant, answer

PHASE, SIDE = "phase1_cifar", 32
OURS = ("tensorflow", "jax")
FRAMEWORKS = (*OURS, "pytorch", "airbench94")
NETWORKS = ("fast_small", "fast", "fast_large")
INSTALL = "{} -m pip install torch --index-url https://download.pytorch.org/whl/cpu"
PLAIN = {
    "optimizer": "sgd",
    "learning_rate": 1e-3,
    "momentum": 0.9,
    "weight_decay": 0.0,
    "label_smoothing": 0.0,
    "flip": "none",
    "shift": 0,
}


# What runs in the process of a contender -------------------------------------------------------


def child(options) -> None:
    """Tells of itself, and answers each line of standard input."""
    framework, kind = options.child.split()
    is_ours = framework in OURS
    if is_ours:
        import common  # noqa: F401  before TensorFlow
    if kind == "operations":
        time_operations(is_ours, options)
        return
    block, describe = (ours if is_ours else theirs)(framework, kind, options)
    try:
        for _ in range(2):  # compiles
            block()
    except Exception as error:
        if kind != "compiled":
            raise
        answer({"failed": f"{type(error).__name__}: {str(error).strip().splitlines()[0][:200]}"})
        return
    answer(describe)
    for _ in sys.stdin:
        answer({"images_per_second": options.batch * options.steps / block()})


def ours(framework: str, kind: str, options):
    """A function that trains for a block of steps and gives the seconds; and what it is."""
    from common.models.summary import count_macs
    from common.training.backend import hardware
    from common.training.runs import versions

    precision = {"bfloat16": "mixed_bfloat16"}.get(options.precision, options.precision)
    changes = PLAIN if kind == "plain" else {}
    name, sizes = options.networks[0], (options.batch, options.steps)
    block = Ours(name, PHASE, SIDE, *sizes, precision, **changes)
    if not options.reference.exists():
        keep_reference(block, name, options.reference)
    return block, {
        "settings": str(block.settings),
        "parameters": trained(block.network),
        "macs": count_macs(block.network, SIDE),
        "versions": versions(),
        "hardware": hardware(),
    }


def trained(network) -> int:
    """How many numbers are trained."""
    return sum(int(np.prod(weight.shape)) for weight in network.trainable_variables)


def keep_reference(block: Ours, name: str, path: Path) -> None:
    """What PyTorch's network is made of and compared with: weights, images and logits."""
    from common.models.resnet import preset, resnet

    config = preset(name)
    single = resnet(config)  # in float32, whatever is timed
    single.set_weights(block.network.get_weights())
    found = {
        "config": json.dumps(asdict(config)),
        "parameters": trained(single),
        "images": block.data.images,
        "labels": block.data.labels,
        **{weight.path: np.asarray(weight) for weight in single.weights},
    }
    for mode in (False, True):  # the latter moves the norms' averages
        found[f"logits_{mode}"] = np.asarray(single(block.data.images[:64], training=mode))
    np.savez(path, **found)


def theirs(framework: str, kind: str, options):
    """The same in PyTorch, once the network is found to be ours."""
    import torch
    from pytorch_networks import Airbench94, Twin, trainable

    torch.set_num_threads(options.threads)
    with np.load(options.reference) as archive:
        found = dict(archive)
    config = SimpleNamespace(**json.loads(str(found["config"])))
    images = torch.tensor(found["images"]).permute(0, 3, 1, 2)  # in channels-last order as it is
    labels = torch.tensor(found["labels"]).long()
    network = (Twin if framework == "pytorch" else Airbench94)(config)
    network = network.to(memory_format=torch.channels_last)
    if framework == "pytorch":
        assert trainable(network) == found["parameters"], (trainable(network), found["parameters"])
        network.load({path: weight for path, weight in found.items() if "/" in path})
        for mode in (False, True):
            with torch.no_grad():
                logits = network.train(mode)(images[:64]).numpy()
            np.testing.assert_allclose(logits, found[f"logits_{mode}"], atol=1e-4, rtol=1e-4)
    network.train()
    weights = [weight for weight in network.parameters() if weight.requires_grad]
    optimizer = torch.optim.SGD(weights, lr=PLAIN["learning_rate"], momentum=0.9, nesterov=True)
    called = torch.compile(network) if kind == "compiled" else network
    half = options.precision == "bfloat16"

    def block() -> float:
        order = torch.randperm(len(images))
        start = time.perf_counter()
        for chosen in order.split(options.batch):
            with torch.autocast("cpu", torch.bfloat16, enabled=half):
                logits = called(images[chosen])
            torch.nn.functional.cross_entropy(logits.float(), labels[chosen]).backward()
            optimizer.step()
            optimizer.zero_grad()
        return time.perf_counter() - start

    return block, {
        "settings": f"{torch.get_num_threads()} threads, {options.precision}",
        "parameters": trainable(network),
        "versions": {"torch": torch.__version__},
    }


def time_operations(is_ours: bool, options) -> None:
    """Of TensorFlow or of PyTorch: takes an operation, then empty lines that ask for its time."""
    describe = {}
    if is_ours:
        from common.models.resnet import preset

        describe = {"operations": operations(preset(options.networks[0]), SIDE)}
    make = tensorflow_operation if is_ours else pytorch_operation
    answer(describe)
    for line in sys.stdin:
        if line.strip():
            call = make(json.loads(line), options)
            call()
        answer({"seconds": seconds_of(call, options.steps)})


# What runs in the process that compares --------------------------------------------------------


def contender(name: str, network: str, options, folder: Path) -> Variant:
    """The process of a contender, such as "jax recipe"."""
    framework = name.split()[0]
    is_ours = framework in OURS
    command = [sys.executable if is_ours else options.torch_python, __file__, "--child", name]
    command += ["--networks", network, "--reference", str(folder / f"{network}.npz")]
    for option in ("batch", "steps", "threads", "precision"):
        command += [f"--{option}", str(getattr(options, option))]
    environment = {"CUDA_VISIBLE_DEVICES": "", "JAX_PLATFORMS": "cpu"}
    if is_ours:
        environment["KERAS_BACKEND"] = framework
    return Variant(command, environment)


def compare(network: str, options, folder: Path) -> list[dict]:
    """A row per contender of one network."""
    names = [
        f"{framework} {kind}"
        for framework in FRAMEWORKS
        if framework in ("tensorflow", "pytorch", *options.besides)
        and (framework != "jax" or importlib.util.find_spec("jax"))
        and (framework != "airbench94" or network == "fast")
        for kind in (("plain", "recipe") if framework in OURS else ("eager", "compiled"))
    ]
    running = {}
    for name in names:
        made = contender(name, network, options, folder)
        if "failed" in made.ready:
            print(f"{network}, {name}, left out: {made.ready['failed']}", file=sys.stderr)
            made.close()
        else:
            running[name] = made
    rates = {name: [] for name in running}
    for i in range(options.rounds):
        for name, process in running.items():
            rates[name].append(process.ask("block")["images_per_second"])
        shown = "  ".join(f"{name} {found[-1]:.0f}" for name, found in rates.items())
        print(f"{network}, round {i + 1}, images/s: {shown}", file=sys.stderr, flush=True)
    for process in running.values():
        process.close()
    middles = {name: float(np.median(found)) for name, found in rates.items()}
    best = max((name for name in middles if name.startswith("pytorch")), key=middles.get)
    macs = running["tensorflow plain"].ready["macs"]
    rows = []
    for name, found in rates.items():
        ratios = np.divide(found, rates[best])
        rows.append(
            {
                "network": network,
                "contender": name,
                "images_per_second": middles[name],
                "gflops": 6 * macs * middles[name] / 1e9,
                "ratio": float(np.median(ratios)),
                "ratio_low": float(ratios.min()),
                "ratio_high": float(ratios.max()),
                "best_pytorch": name == best,
                "rates": found,
                **running[name].ready,
            }
        )
    return rows


def print_comparison(rows: list[dict]) -> None:
    print(f"{'network':11}{'contender':21}{'images/s':>9}{'GFLOP/s':>9}  ratio")
    for row in rows:
        spread = f"{row['ratio']:.2f} ({row['ratio_low']:.2f} to {row['ratio_high']:.2f})"
        print(
            f"{row['network']:11}{row['contender']:21}{row['images_per_second']:9.0f}"
            f"{row['gflops']:9.0f}  {'the best PyTorch' if row['best_pytorch'] else spread}"
        )


def profile(network: str, options, folder: Path) -> list[dict]:
    """A row per operation of a network's step."""
    running = {
        name: contender(f"{name} operations", network, options, folder)
        for name in ("tensorflow", "pytorch")
    }
    rows = []
    for operation in running["tensorflow"].ready["operations"]:
        seconds = {}
        for name, process in running.items():
            process.ask(json.dumps(operation))
            seconds[name] = []
        for _ in range(options.rounds):
            for name, process in running.items():
                seconds[name].append(process.ask("")["seconds"])
        row = {"network": network, **operation}
        for name, found in seconds.items():
            row[f"{name}_ms"] = 1000 * float(np.median(found))
            if operation["what"] == "conv":
                work = flops(operation, options.batch)
                row[f"{name}_gflops"] = work / float(np.median(found)) / 1e9
        rows.append(row)
    for process in running.values():
        process.close()
    return rows


def print_profile(rows: list[dict]) -> None:
    print(f"{'network':11}{'operation':38}{'TensorFlow':>22}{'PyTorch':>22}  time, ours/theirs")
    totals = {}
    for row in rows:
        size = f"{row['side']}x{row['side']}x{row['channels']}"
        is_conv = row["what"] == "conv"
        kind = f"conv {row['kernel']}x{row['kernel']}" if is_conv else row["what"]
        size += f" to {row['filters']}" if is_conv else ""
        text = f"{row['network']:11}{kind:9}{size:14} {row['part']:15}"
        for name in ("tensorflow", "pytorch"):
            speed = f"{row[f'{name}_gflops']:6.0f} GFLOP/s" if is_conv else ""
            text += f"{row[f'{name}_ms']:8.2f} ms{speed:>15}"
            key = (row["network"], "convolutions" if is_conv else "the rest", name)
            totals[key] = totals.get(key, 0.0) + row[f"{name}_ms"]
        print(f"{text}{row['tensorflow_ms'] / row['pytorch_ms']:8.2f}")
    for (network, kind, name), total in totals.items():
        print(f"{network}: {kind} on {name}: {total:.1f} ms a step")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    parser.add_argument("--networks", nargs="+", choices=NETWORKS, default=["fast_small", "fast"])
    parser.add_argument(
        "--besides",
        nargs="*",
        choices=("jax", "airbench94"),
        default=("jax", "airbench94"),
        help="what else runs, beside TensorFlow and PyTorch; by default both",
    )
    parser.add_argument("--batch", type=int, default=500, help="images per step")
    parser.add_argument("--steps", type=int, default=4, help="of a turn")
    parser.add_argument("--rounds", type=int, default=8)
    parser.add_argument("--threads", type=int, default=cores)
    parser.add_argument("--precision", choices=("float32", "bfloat16"), default="float32")
    parser.add_argument("--profile", action="store_true", help="operation by operation")
    parser.add_argument("--torch-python", default=sys.executable, help="a Python with PyTorch")
    parser.add_argument("--output", type=Path, help="a JSON file")
    parser.add_argument("--child", help=argparse.SUPPRESS)
    parser.add_argument("--reference", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        child(options)
        return
    if subprocess.run([options.torch_python, "-c", "import torch"], capture_output=True).returncode:
        sys.exit(f"PyTorch is not installed. Install it: {INSTALL.format(options.torch_python)}")
    if hasattr(os, "sched_setaffinity"):  # the contenders inherit it
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: options.threads])
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for network in options.networks:
            rows += (profile if options.profile else compare)(network, options, Path(folder))
    (print_profile if options.profile else print_comparison)(rows)
    if not options.profile:
        machine, versions = rows[0]["hardware"], rows[0]["versions"]
        told = ", ".join(f"{name} {version}" for name, version in versions.items())
        torch = next(row for row in rows if row["best_pytorch"])["versions"]["torch"]
        print(
            f"Batches of {options.batch}, {options.precision}, {options.threads} threads, "
            f"{options.rounds} rounds; {machine['processor']}; {told}, torch {torch}"
        )
    if options.output:
        from common.files import write_json

        values = {key: value for key, value in vars(options).items() if key != "output"}
        values = {key: str(v) if isinstance(v, Path) else v for key, v in values.items()}
        write_json(options.output, {"options": values, "rows": rows})


if __name__ == "__main__":
    main()

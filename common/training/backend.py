"""The one file that knows which backend runs: devices, precision, compilation, distribution.

`import tensorflow`, `import jax` and `import torch` stand inside functions here and nowhere else,
so that every other module works on any backend, and with the others not installed.
"""

import contextlib
import importlib.util
import os
import platform
import re
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import keras
import psutil

from common.choices import PRECISIONS
from common.errors import ConfigError


@dataclass(frozen=True)
class DeviceSettings:
    """What a training runs on and how; made by `device_settings`.

    Attributes:
        backend: "tensorflow", "jax" or "torch".
        device: "cpu", "gpu" or "tpu".
        devices: names of the devices that share each batch; one unless "all" was asked for.
        precision: Keras dtype policy of the models, one of `PRECISIONS`.
        jit_compile: whether XLA compiles the training step.
    """

    backend: str
    device: str
    devices: tuple[str, ...]
    precision: str
    jit_compile: bool

    def to_dict(self) -> dict:
        return asdict(self)

    def __str__(self) -> str:
        count = f"{len(self.devices)} x " if len(self.devices) > 1 else ""
        xla = "XLA" if self.jit_compile else "no XLA"
        return f"{self.backend} on {count}{self.device}, {self.precision}, {xla}"


def device_settings(precision: str | None = None, devices: str = "one") -> DeviceSettings:
    """Chooses what this machine is good at; the precision can be given.

    - CPU: no XLA under TensorFlow (it makes convolutions about four times slower), and bfloat16
      only where the processor computes in it.
    - TPU, and NVIDIA GPUs of compute capability 8.0 and above (A100, RTX 30): bfloat16, XLA.
    - Older NVIDIA GPUs (T4, V100), which have no units for bfloat16: float16, XLA. Keras scales
      the loss, or small gradients would vanish.
    - Apple's Metal (MPS): float32, no XLA.
    - PyTorch computes step by step, on one device: no XLA; float32 on every CPU. JAX always
      compiles.

    Args:
        precision: One of `PRECISIONS`, or `None` to choose.
        devices: "one", or "all" local devices, each taking its share of every batch.

    Raises:
        ConfigError: for an unknown precision or value of `devices`, or what PyTorch cannot do:
            more than one device.
    """
    if precision is not None and precision not in PRECISIONS:
        raise ConfigError(f"precision={precision!r} is unknown. Choose one of {PRECISIONS}.")
    if devices not in ("one", "all"):
        raise ConfigError(f"devices={devices!r} is unknown. Choose 'one' or 'all'.")
    backend = keras.backend.backend()
    names = local_devices()
    device = names[0].split(":")[0]
    name, capability = accelerator() if device == "gpu" else ("", None)
    metal = "metal" in f"{device} {name}".lower()
    if precision is None:
        fast_bfloat16 = device != "cpu" or (backend == "tensorflow" and cpu_has_bfloat16())
        precision = "mixed_bfloat16" if fast_bfloat16 and not metal else "float32"
        if capability is not None and capability < (8, 0):
            precision = "mixed_float16"
    if backend == "torch" and devices == "all" and len(names) > 1:
        raise ConfigError(
            "devices='all': Keras on PyTorch computes on one device, and this machine has "
            f"{len(names)}. Choose devices='one', or KERAS_BACKEND=tensorflow or jax."
        )
    jit_compile = {"jax": True, "torch": False}.get(backend, device != "cpu" and not metal)
    used = tuple(names) if devices == "all" else tuple(names[:1])
    return DeviceSettings(backend, device, used, precision, jit_compile)


def local_devices() -> list[str]:
    """Names of this machine's best kind of device, as "gpu:0", "gpu:1" (else "cpu:0", ...)."""
    if keras.backend.backend() == "torch":
        import torch

        kind = _torch_device().type
        count = getattr(torch, kind).device_count() if kind in ("cuda", "xpu") else 1
        return [f"{'cpu' if kind == 'cpu' else 'gpu'}:{i}" for i in range(count)]
    if keras.backend.backend() == "jax":
        import jax

        kind = {"cuda": "gpu", "rocm": "gpu"}.get(jax.default_backend(), jax.default_backend())
        return [f"{kind}:{i}" for i in range(jax.local_device_count())]
    import tensorflow as tf

    for kind in ("TPU", "GPU", "CPU"):
        found = tf.config.list_logical_devices(kind)
        if found:
            return [f"{kind.lower()}:{i}" for i in range(len(found))]
    raise RuntimeError("TensorFlow reports no device at all.")


def accelerator() -> tuple[str, tuple[int, ...] | None]:
    """Name of the first GPU, and its compute capability if it is one of NVIDIA's."""
    if keras.backend.backend() == "torch":
        import torch

        device = _torch_device()
        if device.type != "cuda":
            return {"mps": "Apple's Metal"}.get(device.type, device.type), None
        nvidia = torch.version.cuda is not None  # else AMD's, whose numbers mean something else
        capability = torch.cuda.get_device_capability(device) if nvidia else None
        return torch.cuda.get_device_name(device), capability
    if keras.backend.backend() == "jax":
        import jax

        first = jax.local_devices()[0]
        name = str(getattr(first, "device_kind", ""))
        found = re.fullmatch(r"(\d+)\.(\d+)", str(getattr(first, "compute_capability", "")))
        return name, found and tuple(map(int, found.groups()))
    import tensorflow as tf

    details = tf.config.experimental.get_device_details(tf.config.list_physical_devices("GPU")[0])
    return str(details.get("device_name", "")), details.get("compute_capability")


def _torch_device():
    """The `torch.device` that Keras computes on: the best one, or `KERAS_TORCH_DEVICE`."""
    return keras.ops.zeros(()).device


def cpu_has_bfloat16() -> bool:
    """Whether the processor multiplies in bfloat16 (AVX512-BF16 or AMX; told on Linux only)."""
    try:
        flags = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except OSError:
        return False
    return any(flag in flags for flag in ("avx512_bf16", "amx_bf16"))


@contextlib.contextmanager
def device_scope(settings: DeviceSettings) -> Iterator[None]:
    """Build and fit models inside: sets their precision and shares batches over the devices.

    TensorFlow: `tf.distribute.MirroredStrategy`. JAX: `keras.distribution.DataParallel`.
    """
    with dtype_policy(settings.precision), _distribution(settings):
        yield


@contextlib.contextmanager
def dtype_policy(name: str) -> Iterator[None]:
    """Layers made inside compute and keep their weights by this policy, such as "float16"."""
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(name)
    try:
        yield
    finally:
        keras.config.set_dtype_policy(before)


@contextlib.contextmanager
def _distribution(settings: DeviceSettings) -> Iterator[None]:
    if len(settings.devices) == 1:
        yield
    elif settings.backend == "jax":
        before = keras.distribution.distribution()
        keras.distribution.set_distribution(
            keras.distribution.DataParallel(
                devices=list(settings.devices), auto_shard_dataset=False
            )
        )
        try:
            yield
        finally:
            keras.distribution.set_distribution(before)
    else:
        import tensorflow as tf

        with tf.distribute.MirroredStrategy(list(settings.devices)).scope():
            yield


def synchronise_batch_norm(model: keras.Model) -> None:
    """Lets batch normalisation see the whole batch, not one device's share of it.

    Needed under TensorFlow only: on JAX the statistics are of the whole batch anyway.
    """
    if keras.backend.backend() == "tensorflow":
        for layer in model._flatten_layers():
            if isinstance(layer, keras.layers.BatchNormalization):
                layer.synchronized = True


def gradient_function(function: Callable) -> Callable:
    """Compiles a function together with its gradient (on PyTorch nothing is compiled).

    Args:
        function: Takes a float32 tensor, or a list of them, and any others, gives `(value, more)`:
            a scalar and any tensors.

    Returns:
        A callable that takes the same (tensors or arrays) and gives `(value, more, gradient)`,
        with the gradient of `value` in the shape of the first input. On JAX, weights that
        `function` reads keep the values of its first call.
    """
    if keras.backend.backend() == "jax":
        import jax

        compiled = jax.jit(jax.value_and_grad(function, has_aux=True))

        def value_and_gradient(*inputs):
            (value, more), gradient = compiled(*inputs)
            return value, more, gradient

        return value_and_gradient
    if keras.backend.backend() == "torch":
        import torch

        def value_and_gradient(first, *others):
            # Tensors of its own, which no other calculation knows.
            first = keras.tree.map_structure(
                lambda x: keras.ops.convert_to_tensor(x).detach().clone().requires_grad_(), first
            )
            others = keras.tree.map_structure(keras.ops.convert_to_tensor, others)
            value, more = function(first, *others)
            gradients = torch.autograd.grad(value, keras.tree.flatten(first))
            return value, more, keras.tree.pack_sequence_as(first, gradients)

        return value_and_gradient
    import tensorflow as tf

    @tf.function(jit_compile=False, autograph=False)
    def compiled(*inputs):
        with tf.GradientTape() as tape:
            tape.watch(inputs[0])
            value, more = function(*inputs)
        return value, more, tape.gradient(value, inputs[0])

    return lambda *inputs: compiled(*tf.nest.map_structure(tf.convert_to_tensor, inputs))


def compiled_method(function: Callable, variables: list) -> Callable:
    """Compiles a function that reads a model's weights, which may change between calls.

    On JAX the weights are handed over at each call; a plain closure would freeze them. On PyTorch
    nothing is compiled.

    Args:
        function: Takes arrays, gives tensors.
        variables: All Keras variables that it reads.
    """
    if keras.backend.backend() == "jax":
        import jax

        @jax.jit
        def stateless(values, *inputs):
            with keras.StatelessScope(state_mapping=zip(variables, values, strict=True)):
                return function(*inputs)

        return lambda *inputs: stateless([variable.value for variable in variables], *inputs)
    if keras.backend.backend() == "torch":
        import torch

        def without_gradient(*inputs):
            with torch.no_grad():
                return function(*map(keras.ops.convert_to_tensor, inputs))

        return without_gradient
    import tensorflow as tf

    # Written on `keras.ops`: nothing is to be converted, by way of temporary files.
    compiled = tf.function(function, jit_compile=False, autograph=False)
    return lambda *inputs: compiled(*map(tf.convert_to_tensor, inputs))


@contextlib.contextmanager
def forget_gradients() -> Iterator[None]:
    """Lets go of the graphs of the trainings inside once their networks are gone (TensorFlow only).

    Keras's optimizers sum the gradients over the devices, be it one, by a function with a gradient
    of its own. TensorFlow registers such a function under a new name in every graph and keeps it,
    with the graph around it, as long as the process runs. It is looked up only where a gradient is
    taken through an optimizer's step.
    """
    names = {}
    if keras.backend.backend() == "tensorflow":
        with contextlib.suppress(ImportError, AttributeError):  # no public way leads there
            from tensorflow.python.framework import ops

            names = ops.gradient_registry._registry
    before = set(names)
    try:
        yield
    finally:
        for name in set(names) - before:
            if name.startswith("CustomGradient-"):
                names.pop(name, None)


def tensorboard_available() -> bool:
    """Whether Keras's TensorBoard callback can write: it needs TensorFlow on every backend."""
    try:
        return importlib.util.find_spec("tensorflow") is not None
    except (ImportError, ValueError):
        return False


def seed_unseeded_dropout(seed: int) -> None:
    """Seeds PyTorch's own generator: Keras draws from it in dropout that was given no seed.

    On the other backends such layers have a state of their own, which is a variable of the model.
    """
    if keras.backend.backend() == "torch":
        import torch

        torch.manual_seed(seed)


def hardware() -> dict:
    """The machine in a few words, for records: processor, cores, memory in GB, accelerators."""
    accelerators = []
    if keras.backend.backend() == "jax":
        import jax

        accelerators = [d.device_kind for d in jax.local_devices() if d.platform != "cpu"]
    elif keras.backend.backend() == "torch":
        accelerators = [accelerator()[0] for name in local_devices() if name != "cpu:0"]
    else:
        import tensorflow as tf

        for device in tf.config.list_physical_devices("GPU"):
            details = tf.config.experimental.get_device_details(device)
            accelerators.append(details.get("device_name", "GPU"))
    return {
        "processor": _processor_name(),
        "cores": os.cpu_count(),
        "memory_gb": round(psutil.virtual_memory().total / 2**30),
        "bfloat16": cpu_has_bfloat16(),
        "accelerators": accelerators,
        "system": platform.system(),
    }


def _processor_name() -> str:
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()

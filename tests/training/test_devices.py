"""What a training runs on. Two logical CPU devices must be made before the backend starts."""

import json
import os
import subprocess
import sys
import types
from pathlib import Path

import keras
import numpy as np
import pytest
from small import small_data, small_network

from common.choices import PRECISIONS
from common.errors import ConfigError
from common.training import backend
from common.training.backend import device_scope, device_settings
from common.training.fit import compiled as compiled_model
from common.training.fit import fit
from common.training.recipes import Recipe

HERE = Path(__file__).resolve().parent
TORCH = keras.backend.backend() == "torch"
SCRIPT = """
import json, sys
if sys.argv[1] == "tensorflow":
    import tensorflow as tf
    cpu = tf.config.list_physical_devices("CPU")[0]
    tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
from small import small_data, small_network
from common.training.backend import device_scope, device_settings
from common.training.fit import fit
from common.training.recipes import Recipe
losses = {}
uneven = small_data().subset([*range(0, 64, 2), *range(1, 16, 2)])
for devices in ("one", "all"):
    settings = device_settings(precision="float32", devices=devices)
    assert len(settings.devices) == (2 if devices == "all" else 1), settings
    recipe = Recipe(epochs=3, batch_size=16, shift=0, flip="none", learning_rate=0.05,
                    other_learning_rate=0.003, head_learning_rate=0.012,
                    imbalance="class_weights")
    with device_scope(settings):
        network = small_network()
        result = fit(network, uneven, small_data(32, seed=1), recipe, settings, progress=False)
    losses[devices] = result.history[["loss", "val_loss"]].values.tolist()
print(json.dumps(losses))
"""


@pytest.mark.skipif(TORCH, reason="Keras on PyTorch computes on one device")
def test_two_devices_give_the_losses_of_one():
    name = keras.backend.backend()
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join([str(HERE), str(HERE.parents[1])]),
        "XLA_FLAGS": "--xla_force_host_platform_device_count=2 --xla_backend_optimization_level=0",
        "KERAS_BACKEND": name,
    }
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, name], env=environment, capture_output=True, text=True
    )
    if done.returncode:
        pytest.fail(done.stderr[-3000:])
    losses = json.loads(done.stdout.splitlines()[-1])
    np.testing.assert_allclose(losses["all"], losses["one"], atol=1e-3)


class Device:
    """A GPU that is not here."""

    name = "/physical_device:GPU:0"
    device_kind = "some GPU"
    compute_capability = None


def imitate(monkeypatch, name, capability, kind="gpu", count=1):
    if keras.backend.backend() == "jax":
        import jax

        device = Device()
        device.device_kind = name
        device.compute_capability = ".".join(map(str, capability)) if capability else None
        platform = "METAL" if name == "METAL" else {"gpu": "cuda"}.get(kind, kind)
        monkeypatch.setattr(jax, "default_backend", lambda: platform)
        monkeypatch.setattr(jax, "local_device_count", lambda: 1)
        monkeypatch.setattr(jax, "local_devices", lambda: [device])
        return
    if TORCH:
        import torch

        device = types.SimpleNamespace(type="mps" if name == "METAL" else "cuda")
        monkeypatch.setattr(backend, "_torch_device", lambda: device)
        monkeypatch.setattr(torch.cuda, "device_count", lambda: count)
        monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: name)
        # AMD's numbers look like NVIDIA's and mean something else.
        monkeypatch.setattr(torch.cuda, "get_device_capability", lambda d: capability or (7, 0))
        monkeypatch.setattr(torch.version, "cuda", "12.8" if capability else None)
        return
    import tensorflow as tf

    details = {"device_name": name} | ({"compute_capability": capability} if capability else {})
    for function in ("list_logical_devices", "list_physical_devices"):
        monkeypatch.setattr(tf.config, function, lambda k: [Device] if k == kind.upper() else [])
    monkeypatch.setattr(tf.config.experimental, "get_device_details", lambda device: details)


@pytest.mark.parametrize(
    ("name", "capability", "precision", "jit_compile"),
    [
        ("Tesla K80", (3, 7), "mixed_float16", True),
        ("Tesla V100-SXM2-16GB", (7, 0), "mixed_float16", True),
        ("Tesla T4", (7, 5), "mixed_float16", True),
        ("NVIDIA A100", (8, 0), "mixed_bfloat16", True),
        ("NVIDIA GeForce RTX 3060", (8, 6), "mixed_bfloat16", True),
        ("NVIDIA B200", (10, 0), "mixed_bfloat16", True),
        ("AMD Instinct MI300X", None, "mixed_bfloat16", True),
        ("METAL", None, "float32", False),
    ],
)
def test_precision_is_what_the_gpu_computes_in(
    monkeypatch, name, capability, precision, jit_compile
):
    imitate(monkeypatch, name, capability)
    settings = device_settings()
    # JAX always compiles, PyTorch never does.
    jit_compile = {"jax": True, "torch": False}.get(keras.backend.backend(), jit_compile)
    assert (settings.precision, settings.jit_compile) == (precision, jit_compile)
    for given in PRECISIONS:
        assert device_settings(precision=given).precision == given


@pytest.mark.skipif(TORCH, reason="Keras on PyTorch knows no TPU")
def test_a_tpu_computes_in_bfloat16(monkeypatch):
    imitate(monkeypatch, "TPU v5", None, "tpu")
    settings = device_settings()
    assert (settings.device, settings.precision) == ("tpu", "mixed_bfloat16")
    assert settings.jit_compile


@pytest.mark.skipif(not TORCH, reason="the other backends can")
def test_what_pytorch_cannot_do_is_refused(monkeypatch):
    assert not device_settings().jit_compile
    assert device_settings(devices="all").devices == ("cpu:0",)
    imitate(monkeypatch, "NVIDIA A100", (8, 0), count=2)
    assert device_settings().devices == ("gpu:0",)
    with pytest.raises(ConfigError, match="devices='all': .* on one device.* has 2.*'one'"):
        device_settings(devices="all")
    assert backend.hardware()["accelerators"] == ["NVIDIA A100"] * 2


@pytest.mark.parametrize("flags", ["avx2 avx512f", "avx512f avx512_bf16", "amx_bf16"])
def test_a_processor_computes_in_bfloat16_where_it_has_units(monkeypatch, flags):
    monkeypatch.setattr(backend, "cpu_has_bfloat16", lambda: "bf16" in flags)
    fast = "bf16" in flags and keras.backend.backend() == "tensorflow"
    assert device_settings().precision == ("mixed_bfloat16" if fast else "float32")


@pytest.mark.parametrize("precision", PRECISIONS)
def test_every_precision_learns(precision):
    """In float16 with a scaled loss, so that small gradients do not vanish."""
    recipe = Recipe(
        epochs=12, batch_size=16, learning_rate=0.1, other_learning_rate=0.006,
        head_learning_rate=0.024, shift=0, flip="none",
    )  # fmt: skip
    settings = device_settings(precision=precision)
    with device_scope(settings):
        result = fit(small_network(), small_data(), None, recipe, settings, progress=False)
        compiled = compiled_model(small_network(), 4, recipe, recipe.make_optimizer(1), settings)
    assert result.history["accuracy"].iloc[-1] > 0.9
    scaled = isinstance(compiled.optimizer, keras.optimizers.LossScaleOptimizer)
    assert scaled == (precision == "mixed_float16")

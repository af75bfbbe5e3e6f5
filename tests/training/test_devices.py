"""Two logical CPU devices give the losses of one. They must be made before the backend starts."""

import json
import os
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest

HERE = Path(__file__).resolve().parent
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

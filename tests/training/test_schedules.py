import keras
import numpy as np
import pytest
from keras import ops

from common.training.schedules import OneCycle


def values(schedule, steps):
    return np.array([float(ops.convert_to_numpy(schedule(step))) for step in range(steps + 1)])


def test_triangle_rises_to_the_peak_and_falls_to_zero():
    rates = values(OneCycle(peak=2.0, total_steps=100, warmup=0.2), 100)
    assert rates.argmax() in (19, 20)
    assert rates.max() == pytest.approx(2.0, rel=0.03)
    assert rates[100] == 0
    assert (np.diff(rates[:20]) > 0).all() and (np.diff(rates[20:]) < 0).all()
    assert rates[0] > 0, "the first step would be wasted"


def test_without_warmup_it_starts_at_the_peak():
    rates = values(OneCycle(peak=0.5, total_steps=10, warmup=0.0), 10)
    np.testing.assert_allclose(rates, 0.5 * (1 - np.arange(11) / 10), atol=1e-6)


def test_config_round_trip():
    schedule = OneCycle(0.3, 50, 0.1)
    copy = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(schedule))
    np.testing.assert_array_equal(values(copy, 50), values(schedule, 50))


@pytest.mark.parametrize("arguments", [{"total_steps": 0}, {"total_steps": 5, "warmup": 1.0}])
def test_bad_arguments_are_told(arguments):
    with pytest.raises(ValueError, match="Received"):
        OneCycle(1.0, **arguments)

"""What patches around a patch add to what the network says of it."""

import numpy as np
import pytest

from common.evaluation.neighbours import (
    Neighbourhood,
    left_out_neighbourhoods,
    log_odds,
    mean_around,
)


def test_mean_around_by_hand():
    positions = np.array([[0, 0], [100, 0], [0, 200], [0, 0]])
    patients = np.array(["a", "a", "a", "b"])
    values = np.array([5.0, 2.0, -1.0, 7.0])
    found = mean_around(values, patients, positions, reach=100.0)
    near, far, side = np.exp(-0.5), np.exp(-2.0), np.exp(-2.5)
    expected = [
        (near * 2 - far * 1) / (1 + near + far),
        (near * 5 - side * 1) / (1 + near + side),
        (far * 5 + side * 2) / (1 + far + side),
        0,  # nobody else of patient b
    ]
    np.testing.assert_allclose(found, expected, rtol=1e-12)


def test_mean_around_leaves_out_who_is_far_or_nowhere():
    positions = np.array([[0, 0], [301, 0], [-1, -1], [-1, -1]])
    found = mean_around(np.ones(4), np.array(["a"] * 4), positions, reach=100.0)
    np.testing.assert_array_equal(found, np.zeros(4))


def test_mean_around_of_interleaved_patients_and_one_place_twice():
    rng = np.random.default_rng(0)
    positions, values = 50 * rng.integers(0, 9, (60, 2)), rng.normal(size=60)
    patients = rng.integers(0, 3, 60)
    expected = np.zeros(60)
    for i in range(60):
        others = (patients == patients[i]) & (np.arange(60) != i)
        apart = np.linalg.norm(positions[others] - positions[i], axis=1)
        weight = np.where(apart <= 450, np.exp(-0.5 * (apart / 150) ** 2), 0)
        expected[i] = weight @ values[others] / (1 + weight.sum())
    np.testing.assert_allclose(mean_around(values, patients, positions), expected, rtol=1e-9)


def regions(n_patients=12, seed=0):
    """Patients whose positive patches lie together, and log odds that are often wrong."""
    rng = np.random.default_rng(seed)
    positions = np.stack(np.meshgrid(np.arange(9), np.arange(9)), axis=-1).reshape(-1, 2) * 50
    parts = []
    for patient in range(n_patients):
        labels = (np.linalg.norm(positions - rng.uniform(0, 400, 2), axis=1) < 150).astype("int32")
        z = 2 * (2 * labels - 1) + rng.normal(0, 3, len(labels))
        parts.append((z, labels, np.full(len(labels), patient), positions))
    return [np.concatenate(column) for column in zip(*parts, strict=True)]


def test_neighbours_help_patients_who_chose_nothing():
    z, labels, patients, positions = regions()
    found = np.empty(len(z))
    parts = left_out_neighbourhoods(z, labels, patients, positions, parts=4)
    for own, around in parts:
        found[own] = around(z[own], patients[own], positions[own])
        assert 0 < around.own and 0 < around.others
    assert len(np.concatenate([own for own, _ in parts])) == len(z)
    held = [set(patients[own]) for own, _ in parts]
    assert not any(a & b for i, a in enumerate(held) for b in held[:i])
    alone, together = np.mean((z > 0) == labels), np.mean((found > 0) == labels)
    assert together > alone + 0.05, (alone, together)


def test_without_places_the_network_speaks_alone():
    z, labels, patients, positions = regions()
    around = Neighbourhood.fit(z, labels, patients, positions)
    alone = around(z, patients, None)
    np.testing.assert_allclose(alone, around.bias + around.own * z)
    np.testing.assert_allclose(alone, around(z, patients, np.full_like(positions, -1)))


def test_a_record_brings_it_back():
    z, labels, patients, positions = regions()
    around = Neighbourhood.fit(z, labels, patients, positions, reach=100)
    again = Neighbourhood(**around.to_dict())
    assert again == around and again.reach == 100
    assert all(isinstance(value, float) for value in around.to_dict().values())


def test_log_odds_of_logits():
    found = log_odds(np.float32([[1, 3], [2, -1]]))
    assert found.dtype == np.float64
    np.testing.assert_allclose(found, [2, -3])


@pytest.mark.parametrize("shift", [0, 1000])
def test_a_slide_may_lie_anywhere(shift):
    z, labels, patients, positions = regions()
    here = mean_around(z, patients, positions + shift)
    np.testing.assert_allclose(here, mean_around(z, patients, positions), rtol=1e-9)

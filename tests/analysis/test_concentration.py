"""Gini, runs and squares against brute force."""

import numpy as np
import pytest

from hriusr.analysis.concentration import centred_side, diffusion_index, gini, reach, shortest_run


@pytest.fixture
def random_map():
    return np.random.default_rng(3).random((9, 12)) ** 8


def test_gini_equals_the_mean_difference_of_all_pairs(random_map):
    values = random_map.ravel() + 1e-7
    differences = np.abs(values[:, None] - values[None, :])
    expected = differences.mean() / (2 * values.mean())
    assert gini(random_map) == pytest.approx(expected, rel=1e-12)
    assert diffusion_index(random_map) == pytest.approx(100 * (1 - expected), rel=1e-12)


def test_gini_of_equal_and_of_lonely_values():
    lonely = np.zeros(50)
    lonely[7] = 1
    assert gini(np.ones((5, 10))) == pytest.approx(0, abs=1e-12)
    assert gini(lonely) == pytest.approx(49 / 50, abs=1e-5)


@pytest.mark.parametrize("fraction", [0.05, 0.5, 0.9, 0.99, 1.0])
def test_shortest_run_equals_trying_all(fraction):
    generator = np.random.default_rng(5)
    for length in (1, 2, 7, 20):
        profile = generator.integers(0, 4, length) + np.eye(length, dtype=int)[length // 2]
        runs = [(first, stop) for first in range(length) for stop in range(first + 1, length + 1)]
        holding = [run for run in runs if profile[run[0] : run[1]].sum() >= fraction * profile.sum() - 1e-9]
        assert shortest_run(profile, fraction) == min(holding, key=lambda run: (run[1] - run[0], run[0]))


def test_reach_of_a_block():
    map_HW = np.zeros((20, 30))
    map_HW[4:8, 10:20] = 1
    assert reach(map_HW)["90"] == {"rows": [4, 8], "columns": [10, 19], "num_rows": 4, "num_columns": 9}
    assert reach(map_HW)["99"]["columns"] == [10, 20]


@pytest.mark.parametrize("fraction", [0.1, 0.5, 0.8])
def test_centred_side_is_the_first_square_that_suffices(random_map, fraction):
    sides = [
        2 * radius + 1
        for radius in range(5)
        if random_map[4 - radius : 5 + radius, 6 - radius : 7 + radius].sum() >= fraction * random_map.sum()
    ]
    assert centred_side(random_map, fraction) == min(sides, default=None)


def test_centred_side_says_where_no_square_suffices():
    map_HW = np.zeros((9, 20))
    map_HW[4, 10] = map_HW[4, 0] = 1
    assert centred_side(map_HW, 0.5) == 1
    assert centred_side(map_HW, 0.6) is None

"""The table of named sizes against the networks themselves and against published numbers."""

import re

import pytest
import torch

from hriusr.analysis.complexity import count_multi_adds, count_parameters
from hriusr.archs.registry import build_network
from hriusr.archs.variants import VARIANTS

PUBLISHED_PARAMETERS = {
    "hat_s": (9_473_471, 9_658_111, 9_621_183),
    "hat": (20_624_795, 20_809_435, 20_772_507),
    "hat_l": (40_698_863, 40_883_503, 40_846_575),
    "swinir_classical": (11_752_487, 11_937_127, 11_900_199),
    "swinir_light": (910_152, 918_267, 929_628),
    "swin2sr_classical": (12_091_571, 12_276_211, 12_239_283),
    "swin2sr_light": (1_005_348, 1_013_463, 1_024_824),
    "swinir_real_m": (None, None, 11_715_559),
    "swinir_real_l": (None, None, 28_013_059),
    "swin2sr_real_m": (None, None, 12_054_643),
    "swin2sr_real_l": (None, None, 28_785_859),
    "swin2sr_compressed": (None, None, 12_244_598),
}


# Counting walks through every operation: seconds for a deep network, so most rows wait for -m slow.
QUICK = [name for name, row in VARIANTS.items() if row.parameters < 1.2e6] + ["swinir_classical_x4", "hat_s_x4"]
COUNTED = [name if name in QUICK else pytest.param(name, marks=pytest.mark.slow) for name in VARIANTS]


def on_meta(name):
    with torch.device("meta"):
        return build_network(VARIANTS[name].network_opt())


@pytest.mark.parametrize("name", VARIANTS)
def test_parameters_of_the_built_network(name):
    assert count_parameters(on_meta(name)) == VARIANTS[name].parameters


@pytest.mark.parametrize("name", COUNTED)
def test_multi_adds_of_the_built_network(name):
    assert count_multi_adds(on_meta(name)) / 1e9 == pytest.approx(VARIANTS[name].multi_adds, abs=0.051)


@pytest.mark.parametrize("size", PUBLISHED_PARAMETERS)
def test_parameters_are_the_published_ones(size):
    for scale, parameters in zip((2, 3, 4), PUBLISHED_PARAMETERS[size], strict=True):
        assert parameters is None or VARIANTS[f"{size}_x{scale}"].parameters == parameters


def test_light_swinir_costs_the_published_multi_adds():
    assert [VARIANTS[f"swinir_light_x{scale}"].multi_adds for scale in (2, 3, 4)] == [244.4, 110.8, 63.6]


@pytest.mark.parametrize("name", VARIANTS)
def test_name_ends_with_the_scale(name):
    assert re.fullmatch(rf"[a-z0-9_]+_x{VARIANTS[name].arguments['upscale']}", name)


def test_changing_an_option_leaves_the_table_alone():
    VARIANTS["hat_x4"].network_opt()["depths"].append(1)
    assert VARIANTS["hat_x4"].network_opt()["depths"] == [6] * 6

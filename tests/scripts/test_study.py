"""scripts/study: its systems cost the same, its report says what the results say, finished runs are not repeated."""

import argparse
import sys
from pathlib import Path

import pytest
import yaml

from hriusr.archs.registry import known_networks
from hriusr.basicsr_bridge import ARCH_REGISTRY

STUDY = Path(__file__).parents[2] / "scripts" / "study"
SYSTEMS = yaml.safe_load((STUDY / "networks.yml").read_text(encoding="utf-8"))["systems"]


@pytest.fixture
def study(monkeypatch):
    networks = set(known_networks())
    monkeypatch.syspath_prepend(str(STUDY))
    import study

    yield study
    for name in ("study", "report", "results", "cost", "rivals"):
        sys.modules.pop(name, None)
    for name in set(ARCH_REGISTRY.keys()) - networks:  # the study's rivals are nobody else's
        ARCH_REGISTRY._obj_map.pop(name)


@pytest.mark.parametrize("name", SYSTEMS)
def test_systems_are_within_the_budget(study, name):
    study.check_budget(name, SYSTEMS[name])


def _result(network: str, seed: int, psnr: float) -> dict:
    validation = [
        {"iter": 10, "dataset": dataset, "psnr": psnr + shift, "ssim": 0.9}
        for dataset, shift in (("Set5", 8.0), ("Urban100", 0.0))
    ]
    losses = {"50": 0.5, "100": 0.02}
    return {
        "network": network,
        "seed": seed,
        "parameters": 1234,
        "multi_adds": 61e9,
        "validation": validation,
        "l_pix": losses,
    }


def test_report_has_mean_and_spread_best_first(study, monkeypatch, tmp_path):
    import report
    import results

    monkeypatch.setattr(results, "RUNS", tmp_path)
    monkeypatch.setattr(report, "STUDY", tmp_path / "STUDY.md")
    for seed, psnr in enumerate((28.0, 28.2, 28.1)):
        results.write_result(tmp_path / f"better_s{seed}.json", _result("better", seed, psnr))
    results.write_result(tmp_path / "worse_s0.json", _result("worse", 0, 27.0))
    results.write_result(
        tmp_path / "costs" / "worse.json",
        {
            "network": "worse",
            "processor": "a processor",
            "train": {"seconds": 0.5, "ratio": 1.25},
            "forward": {"seconds": 0.25, "ratio": 0.5},
            "pass_bytes": 3_000_000,
        },
    )
    text = report.write_report().read_text(encoding="utf-8")
    assert "Measured on: a processor." in text
    rows = [line for line in text.splitlines() if "1,234" in line]
    assert rows == [
        "| better | 1,234 | 61.0 G | 0, 1, 2 | 36.10 ± 0.10 / .9000 | 28.10 ± 0.10 / .9000 | 20.000e-3 | - | - | - |",
        "| worse | 1,234 | 61.0 G | 0 | 35.00 / .9000 | 27.00 / .9000 | 20.000e-3 "
        "| 0.50 s (1.25) | 0.25 s (0.50) | 3 MB |",
    ]


def test_finished_run_is_not_repeated(study, monkeypatch, tmp_path):
    import results

    monkeypatch.setattr(results, "RUNS", tmp_path)
    monkeypatch.setattr(study.subprocess, "run", lambda *_args, **_options: pytest.fail("trained again"))
    results.write_result(tmp_path / "swinir_s0.json", _result("swinir", 0, 27.0))
    arguments = argparse.Namespace(protocol="study")
    assert study.run_one("swinir", SYSTEMS["swinir"], 0, arguments, tmp_path) == "swinir seed 0: done before"

"""Results of the study on disk: one JSON a run, one a measured cost; what is done is never done again.

experiments/runs/study/NETWORK_sSEED.json, muon/NETWORK_sSEED.json, screen/NETWORK_sSEED.json, costs/NETWORK.json
"""

import json
import statistics
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
RUNS = ROOT / "experiments" / "runs" / "study"
PROTOCOLS = {name: ROOT / "options" / "train" / f"{name}_x2.yml" for name in ("study", "study_muon", "study_screen")}
MAIN_PROTOCOL = "study_muon"
DATASETS = ("Set5", "Urban100")


@dataclass
class Scores:
    """What the finished runs of one network gave, a value a seed.

    Attributes:
        network: its name in networks.yml.
        parameters: learned values.
        multi_adds: at 1280 x 720.
        seeds: of the runs.
        psnr: dataset -> dB on Y.
        ssim: dataset -> SSIM on Y.
        loss: mean L1 of the second half of the steps, the same samples for every network of a seed.
    """

    network: str
    parameters: int
    multi_adds: int
    seeds: list[int] = field(default_factory=list)
    psnr: dict[str, list[float]] = field(default_factory=lambda: {name: [] for name in DATASETS})
    ssim: dict[str, list[float]] = field(default_factory=lambda: {name: [] for name in DATASETS})
    loss: list[float] = field(default_factory=list)


def results_folder(protocol: str) -> Path:
    """Return where the results of a protocol lie."""
    return RUNS / protocol.removeprefix("study").strip("_")


def write_result(path: Path, content: Mapping[str, Any]) -> None:
    """Write a JSON file and its folder."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


def read_scores(protocol: str) -> list[Scores]:
    """Read all finished runs of a protocol; best on Urban100 first."""
    found: dict[str, Scores] = {}
    for path in sorted(results_folder(protocol).glob("*_s*.json")):
        content = json.loads(path.read_text(encoding="utf-8"))
        name = content["network"]
        scores = found.setdefault(name, Scores(name, content["parameters"], content["multi_adds"]))
        scores.seeds.append(content["seed"])
        for line in content["validation"]:
            scores.psnr[line["dataset"]].append(line["psnr"])
            scores.ssim[line["dataset"]].append(line["ssim"])
        losses = list(content["l_pix"].values())
        scores.loss.append(statistics.fmean(losses[len(losses) // 2 :]))
    return sorted(found.values(), key=lambda scores: -statistics.fmean(scores.psnr["Urban100"]))


def read_costs() -> dict[str, dict[str, Any]]:
    """Read what was measured of each network's cost: name -> content."""
    contents = (json.loads(path.read_text(encoding="utf-8")) for path in (RUNS / "costs").glob("*.json"))
    return {content["network"]: content for content in contents}

"""The study as Markdown: experiments/STUDY.md, made of the results alone."""

import statistics
from pathlib import Path
from typing import Any

from results import DATASETS, PROTOCOLS, ROOT, Scores, read_costs, read_scores

STUDY = ROOT / "experiments" / "STUDY.md"
_LIGHT = 200e9  # Multi-Adds; the others are a quarter of it
_TITLES = {"study_muon": "The study", "study": "The same with AdamW", "study_screen": "Quick comparisons"}
_PREAMBLE = """# The study: HRIUSR and its rivals at equal work

Made by `python scripts/study/study.py table` out of [runs/study](runs/study); don't edit. Networks:
[networks.yml](../scripts/study/networks.yml). PSNR (dB) and SSIM on Y, border 2: mean over the seeds ± half of largest
less smallest. Loss: mean L1 over the second half of the steps, the same samples for every network. Cost: processor
seconds of one thread in bf16, the least of several turns, and in brackets over SwinIR's in the same turns; training is
forward and backward pass of 8 patches of 32x32, inference one picture of 320x180, memory what inference in fp32 takes
beyond the network. Measured on: {processors}.

HRIUSR, and the names with `frame_`, add their output to the enlarged input and start with almost no detail. SwinIR,
HAT and Swin2SR as published do not, which costs them much in runs as short as these. `frame_swin`, `frame_hat` and
`frame_swin2sr`, their blocks in HRIUSR's frame, and `frame_convs`, convolutions alone, are the rivals that say
something about blocks. `alone` and `no_attention` are HRIUSR-fast without any attention; names with `cosine` compare
queries and keys by cosines.
"""


def write_report() -> Path:
    """Write STUDY.md."""
    costs = read_costs()
    processors = sorted({cost["processor"] for cost in costs.values()})
    parts = [_PREAMBLE.format(processors="; ".join(processors) or "nothing yet")]
    for protocol, title in _TITLES.items():
        path = PROTOCOLS[protocol]
        lines = [line.removeprefix("# ") for line in path.read_text(encoding="utf-8").splitlines() if line[:1] == "#"]
        parts.append(f"## {title}\n\n[{path.name}](../options/train/{path.name}): {lines[0]}\n")
        scores = read_scores(protocol)
        parts.append(_table([row for row in scores if row.multi_adds < _LIGHT], costs))
        if light := [row for row in scores if row.multi_adds >= _LIGHT]:
            parts.append(f"At full light size, the work of SwinIR-light:\n\n{_table(light, costs)}")
    if (ROOT / "experiments" / "study_multi_adds.svg").exists():
        plots = (f"![PSNR against {name}](study_{name}.svg)" for name in ("multi_adds", "milliseconds"))
        parts.append("\n".join(("## Plots\n", *plots, "")))
    STUDY.write_text("\n".join(parts), encoding="utf-8")
    return STUDY


def _table(rows: list[Scores], costs: dict[str, dict[str, Any]]) -> str:
    if not rows:
        return "Nothing is done yet.\n"
    head = ("network", "parameters", "Multi-Adds", "seeds", *DATASETS, "loss", "training", "inference", "memory")
    lines = [f"| {' | '.join(head)} |", "|---" * len(head) + "|"]
    for scores in rows:
        cells = [scores.network, f"{scores.parameters:,}", f"{scores.multi_adds / 1e9:.1f} G"]
        cells.append(", ".join(map(str, scores.seeds)))
        cells += [_cell(scores.psnr[name], scores.ssim[name]) for name in DATASETS]
        cells.append(f"{1e3 * statistics.fmean(scores.loss):.3f}e-3")
        cost = costs.get(scores.network)
        if cost:
            cells += [_cost_cell(cost["train"]), _cost_cell(cost["forward"]), f"{cost['pass_bytes'] / 1e6:.0f} MB"]
        else:
            cells += ["-"] * 3
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def _cost_cell(cost: dict[str, float]) -> str:
    return f"{cost['seconds']:.2f} s ({cost['ratio']:.2f})"


def _cell(psnrs: list[float], ssims: list[float]) -> str:
    spread = f" ± {(max(psnrs) - min(psnrs)) / 2:.2f}" if len(psnrs) > 1 else ""
    return f"{statistics.fmean(psnrs):.2f}{spread} / {statistics.fmean(ssims):.4f}".replace("/ 0.", "/ .")

"""The study: many networks, one protocol (options/train/study_x2.yml), several seeds; one command makes it or goes on.

    python scripts/study/study.py run --gt FOLDER --set5 FOLDER --urban100 FOLDER [--only hriusr] [--seeds 0 1 2]
    python scripts/study/study.py table

A run that is cut off goes on where it was; one that is done is not repeated. Each finished run becomes a small JSON in
experiments/runs/study/, the table is made of those.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
from collections import defaultdict
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import yaml

from hriusr.analysis.complexity import count_multi_adds, count_parameters
from hriusr.archs.registry import build_network

ROOT = Path(__file__).resolve().parents[2]
NETWORKS = Path(__file__).with_name("networks.yml")
RUNS = ROOT / "experiments" / "runs" / "study"
PROTOCOL = ROOT / "options" / "train" / "study_x2.yml"
BUDGET, TOLERANCE = 61.0, 0.03  # G Multi-Adds at 1280x720 of every system


def load_networks() -> dict[str, dict]:
    """Read networks.yml: name -> network_g, systems first; refuse a system that is not of the budget."""
    groups = yaml.safe_load(NETWORKS.read_text(encoding="utf-8"))
    for name, network_opt in groups["systems"].items():
        multi_adds = count_multi_adds(build_network({"upscale": 2, **network_opt})) / 1e9
        if abs(multi_adds / BUDGET - 1) > TOLERANCE:
            sys.exit(f"networks.yml: {name} has {multi_adds:.1f} G Multi-Adds, not {BUDGET} within {TOLERANCE:.0%}")
    return groups["systems"] | groups["ablations"]


def option_file(name: str, network_opt: dict, seed: int, folders: argparse.Namespace, work: Path) -> Path:
    """Write the option file of one run."""
    path = work / f"study_{name}_s{seed}.yml"
    sets = {"train": {"dataroot_gt": str(folders.gt)}}
    sets["val"] = {"dataroot_gt": str(folders.set5 / "HR"), "dataroot_lq": str(folders.set5 / "LR_bicubic" / "X2")}
    sets["val_urban"] = {"dataroot_gt": str(folders.urban100 / "HR")}
    options = {
        "base": os.path.relpath(PROTOCOL, work),
        "name": path.stem,
        "manual_seed": seed,
        "datasets": sets,
        "network_g": {"upscale": 2, **network_opt},
    }
    path.write_text(yaml.safe_dump(options, sort_keys=False), encoding="utf-8")
    return path


def run_one(name: str, network_opt: dict, seed: int, folders: argparse.Namespace, work: Path) -> str:
    """Train one network with one seed in a process of its own; keep what it gave."""
    result = RUNS / f"{name}_s{seed}.json"
    if result.exists():
        return f"{name} seed {seed}: done before"
    option = option_file(name, network_opt, seed, folders, work)
    command = [sys.executable, str(ROOT / "hriusr" / "train.py"), "-opt", str(option), "--auto_resume"]
    log = option.with_suffix(".log")
    with log.open("a") as output:
        status = subprocess.run(command, cwd=work, stdout=output, stderr=output, check=False).returncode
    if status != 0:
        return f"{name} seed {seed}: ended with {status}, see {log}"
    lines = [json.loads(line) for line in (work / "experiments" / option.stem / "metrics.jsonl").open()]
    network = build_network({"upscale": 2, **network_opt})
    content = {
        "network": name,
        "seed": seed,
        "parameters": count_parameters(network),
        "multi_adds": count_multi_adds(network),
        "lines": [line for line in lines if line["kind"] == "validation" or line["iter"] % 250 == 0],
        "network_g": network_opt,
    }
    result.parent.mkdir(parents=True, exist_ok=True)
    result.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    return f"{name} seed {seed}: done"


def run(arguments: argparse.Namespace) -> None:
    """Do every run that lacks, seed by seed."""
    networks = load_networks()
    wanted = arguments.only or list(networks)
    for name in set(wanted) - set(networks):
        sys.exit(f"--only {name}: not in networks.yml ({', '.join(networks)})")
    work = arguments.work.resolve()
    work.mkdir(parents=True, exist_ok=True)
    with ThreadPoolExecutor(arguments.jobs) as pool:
        tasks = [
            pool.submit(run_one, name, networks[name], seed, arguments, work)
            for seed in arguments.seeds
            for name in wanted
        ]
        for task in tasks:
            print(task.result(), flush=True)


def print_table() -> None:
    """Print mean and spread (largest minus smallest) over the seeds of everything that is done, best Urban100 first."""
    values, costs = defaultdict(lambda: defaultdict(list)), {}
    for path in sorted(RUNS.glob("*.json")):
        content = json.loads(path.read_text(encoding="utf-8"))
        costs[content["network"]] = (content["parameters"], content["multi_adds"])
        for line in content["lines"]:
            if line["kind"] == "validation":
                values[content["network"]][line["dataset"]].append((line["psnr"], line["ssim"]))
    print("| network | parameters | Multi-Adds | seeds | Set5 | Urban100 |")
    print("|---|---|---|---|---|---|")
    for name in sorted(values, key=lambda name: -_mean(values[name]["Urban100"])):
        parameters, multi_adds = costs[name]
        cells = [_cell(values[name][dataset]) for dataset in ("Set5", "Urban100")]
        seeds = len(values[name]["Urban100"])
        print(f"| {name} | {parameters:,} | {multi_adds / 1e9:.1f} G | {seeds} | {' | '.join(cells)} |")


def _mean(pairs: list[tuple[float, float]]) -> float:
    return statistics.fmean(psnr for psnr, _ in pairs)


def _cell(pairs: list[tuple[float, float]]) -> str:
    psnrs = [psnr for psnr, _ in pairs]
    spread = f" ± {(max(psnrs) - min(psnrs)) / 2:.2f}" if len(psnrs) > 1 else ""
    return f"{_mean(pairs):.2f}{spread} / {statistics.fmean(ssim for _, ssim in pairs):.4f}".replace("/ 0.", "/ .")


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    run_parser = commands.add_parser("run", help="train what lacks")
    for name in ("gt", "set5", "urban100"):
        run_parser.add_argument(f"--{name}", type=lambda text: Path(text).resolve(), required=True)
    run_parser.add_argument("--only", nargs="*", help="names of networks.yml; default: all")
    run_parser.add_argument("--seeds", nargs="*", type=int, default=[0, 1, 2])
    run_parser.add_argument("--jobs", type=int, default=1, help="runs at a time, a core each")
    run_parser.add_argument("--work", type=Path, default=Path("study"), help="folder for checkpoints and logs")
    commands.add_parser("table", help="print the table of what is done")
    arguments = parser.parse_args()
    run(arguments) if arguments.command == "run" else print_table()


if __name__ == "__main__":
    main()

"""The study: many networks, one protocol, several seeds; each command does what lacks, or makes what is there again.

    python scripts/study/study.py run --gt FOLDER --set5 FOLDER --urban100 FOLDER [--only hriusr] [--seeds 0 1 2]
    python scripts/study/study.py run --protocol study ...             # the same with AdamW
    python scripts/study/study.py run --protocol study_screen ...      # quick comparisons of designs
    python scripts/study/study.py cost                                 # seconds and memory of networks with results
    python scripts/study/study.py table                                # experiments/STUDY.md
    python scripts/study/study.py plots             # experiments/study_*.svg; needs pip install "hriusr[study]"
    python scripts/study/study.py crops --urban100 FOLDER --only hriusr frame_swin     # WORK/crops.png

A run that is cut off goes on where it was; one that is done is not repeated, as long as its JSON in
experiments/runs/study/ is there. Checkpoints and logs lie in the work folder (--work), which may be anywhere.
"""

import argparse
import json
import os
import re
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import rivals  # noqa: F401  registers networks that only the study has
import yaml
from cost import measure_costs
from report import write_report
from results import MAIN_PROTOCOL, PROTOCOLS, read_scores, results_folder, write_result

from hriusr.analysis.complexity import count_multi_adds, count_parameters
from hriusr.archs.registry import build_network
from hriusr.data.image_io import list_images, read_image, write_image

NETWORKS = Path(__file__).with_name("networks.yml")
BUDGET, TOLERANCE = 61.0, 0.03  # G Multi-Adds at 1280x720 of every system


def load_networks() -> tuple[dict[str, dict], set[str]]:
    """Read networks.yml: name -> network_g, systems first; and the names of the systems."""
    text = NETWORKS.read_text(encoding="utf-8")
    groups = yaml.safe_load(text)
    names = re.findall(r"^  (\w+):", text, re.MULTILINE)  # as written: of equal keys YAML keeps the last without a word
    if len(names) != len(set(names)):
        sys.exit(f"networks.yml: named twice: {', '.join(sorted({name for name in names if names.count(name) > 1}))}")
    return {name: network for group in groups.values() for name, network in group.items()}, set(groups["systems"])


def check_budget(name: str, network_opt: dict) -> None:
    """Refuse a system that is not of the budget."""
    multi_adds = count_multi_adds(build_network({"upscale": 2, **network_opt})) / 1e9
    if abs(multi_adds / BUDGET - 1) > TOLERANCE:
        sys.exit(f"networks.yml: {name} has {multi_adds:.1f} G Multi-Adds, not {BUDGET} within {TOLERANCE:.0%}")


def option_file(name: str, network_opt: dict, seed: int, arguments: argparse.Namespace, work: Path) -> Path:
    """Write the option file of one run."""
    path = work / f"{arguments.protocol}_{name}_s{seed}.yml"
    sets = {"train": {"dataroot_gt": str(arguments.gt)}}
    set5 = arguments.set5
    sets["val"] = {"dataroot_gt": str(set5 / "HR"), "dataroot_lq": str(set5 / "LR_bicubic" / "X2")}
    urban100 = arguments.urban100 / "HR"
    if arguments.protocol == "study_screen":
        urban100 = cut_centres(urban100, work / "Urban100_centres")
    sets["val_urban"] = {"dataroot_gt": str(urban100)}
    options = {
        "base": os.path.relpath(PROTOCOLS[arguments.protocol], work),
        "name": path.stem,
        "manual_seed": seed,
        "datasets": sets,
        "network_g": {"upscale": 2, **network_opt},
    }
    path.write_text(yaml.safe_dump(options, sort_keys=False), encoding="utf-8")
    return path


def cut_centres(source: Path, target: Path) -> Path:
    """Keep the centre 256x256 of every fourth picture; what is there already stays."""
    for path in list_images(source)[3::4]:
        if not (target / path.name).exists():
            picture = read_image(path)
            top, left = (side // 2 - 128 for side in picture.shape[:2])
            write_image(target / path.name, picture[top : top + 256, left : left + 256])
    return target


def run_one(name: str, network_opt: dict, seed: int, arguments: argparse.Namespace, work: Path) -> str:
    """Train one network with one seed in a process of its own; keep what it gave."""
    result = results_folder(arguments.protocol) / f"{name}_s{seed}.json"
    if result.exists():
        return f"{name} seed {seed}: done before"
    option = option_file(name, network_opt, seed, arguments, work)
    command = [sys.executable, str(Path(__file__).with_name("train.py")), "-opt", str(option), "--auto_resume"]
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
        "validation": [
            {key: line[key] for key in ("iter", "dataset", "psnr", "ssim")}
            for line in lines
            if line["kind"] == "validation"
        ],
        "l_pix": {line["iter"]: round(line["l_pix"], 6) for line in lines if line["kind"] == "train"},
        "network_g": network_opt,
    }
    write_result(result, content)
    return f"{name} seed {seed}: done"


def run(arguments: argparse.Namespace) -> None:
    """Do every run that lacks, seed by seed."""
    networks, systems = load_networks()
    wanted = arguments.only or list(networks)
    _check_names(wanted, networks)
    for name in systems & set(wanted):
        check_budget(name, networks[name])
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


def cost(arguments: argparse.Namespace) -> None:
    """Measure the networks named, or those with results of the full protocol."""
    networks, _ = load_networks()
    wanted = arguments.only or [scores.network for scores in read_scores(MAIN_PROTOCOL)]
    _check_names(wanted, networks)
    measure_costs(networks, wanted, arguments.turns)


def _check_names(wanted: list[str], networks: dict[str, dict]) -> None:
    for name in set(wanted) - set(networks):
        sys.exit(f"--only {name}: not in networks.yml ({', '.join(networks)})")


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)

    def folder(text: str) -> Path:
        return Path(text).resolve()

    run_parser = commands.add_parser("run", help="train what lacks")
    for name in ("gt", "set5", "urban100"):
        run_parser.add_argument(f"--{name}", type=folder, required=True)
    run_parser.add_argument(
        "--protocol", choices=PROTOCOLS, default=MAIN_PROTOCOL, help="study_screen: quick comparisons"
    )
    run_parser.add_argument("--only", nargs="*", help="names of networks.yml; default: all")
    run_parser.add_argument("--seeds", nargs="*", type=int, default=[0, 1, 2])
    run_parser.add_argument("--jobs", type=int, default=1, help="runs at a time, a core each")
    run_parser.add_argument("--work", type=Path, default=Path("study"), help="folder for checkpoints and logs")
    cost_parser = commands.add_parser("cost", help="measure seconds and memory, one thread")
    cost_parser.add_argument("--only", nargs="*", help="names of networks.yml; default: those with full results")
    cost_parser.add_argument("--turns", type=int, default=5)
    commands.add_parser("table", help="write experiments/STUDY.md")
    commands.add_parser("plots", help="write experiments/study_*.svg and STUDY.md")
    crops_parser = commands.add_parser(
        "crops", help="write crops of five pictures, and where networks looked, into the work folder"
    )
    crops_parser.add_argument("--urban100", type=folder, required=True)
    crops_parser.add_argument("--only", nargs="+", required=True, help="networks of the work folder, left to right")
    crops_parser.add_argument("--seed", type=int, default=0)
    crops_parser.add_argument("--work", type=Path, default=Path("study"))
    arguments = parser.parse_args()
    match arguments.command:
        case "run":
            run(arguments)
        case "cost":
            cost(arguments)
        case "crops":
            from pictures import write_crops  # matplotlib is for pictures alone

            print(write_crops(arguments.only, arguments.seed, arguments.urban100 / "HR", arguments.work))
        case "plots":
            from pictures import write_plots

            print(*write_plots(), write_report(), sep="\n")
        case "table":
            print(write_report().read_text(encoding="utf-8"))


if __name__ == "__main__":
    main()

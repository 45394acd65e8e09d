"""Real processes, started by torchrun: when one is killed, when all are to stop, and sharing pictures to test."""

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml

REPOSITORY = Path(__file__).parents[2]
pytestmark = pytest.mark.slow  # torch is imported six times or more


@pytest.fixture
def option_file(run_opt):
    """Return a function: dotted changes -> option file of the run."""

    def write(**changes):
        opt = run_opt(**changes)
        for key in ("is_train", "dist", "rank", "world_size", "auto_resume", "root_path"):
            del opt[key]
        opt["path"] = {key: opt["path"][key] for key in ("pretrain_network_g",)}
        for dataset_opt in opt["datasets"].values():
            del dataset_opt["phase"], dataset_opt["scale"]
        Path("run.yml").write_text(yaml.safe_dump(opt))
        return "run.yml"

    return write


def torchrun(script, option_file, *arguments):
    return subprocess.Popen(
        [
            *(sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2", *arguments),
            *(str(REPOSITORY / "hriusr" / script), "-opt", option_file, "--launcher", "pytorch"),
        ],
        env={**os.environ, "PYTHONPATH": str(REPOSITORY), "OMP_NUM_THREADS": "1"},
        stderr=subprocess.PIPE,
        text=True,
    )


def read_until(process, word):
    lines = []
    for line in process.stderr:
        lines.append(line)
        if word in line:
            return lines
    raise AssertionError("".join(lines))


def training_processes(process):
    """Return the ids of what torchrun started, by rank."""
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    found = {}
    for child in children:
        environment = Path(f"/proc/{child}/environ").read_bytes().decode().split("\0")
        ranks = [entry.removeprefix("RANK=") for entry in environment if entry.startswith("RANK=")]
        found |= {int(rank): int(child) for rank in ranks}
    return found


@pytest.mark.parametrize("victim", [0, 1])
def test_killed_process_ends_the_job_and_is_named(option_file, victim):
    with torchrun("train.py", option_file(train__total_iter=100_000, val=None)) as process:
        read_until(process, "[9/")
        start = time.monotonic()
        os.kill(training_processes(process)[victim], signal.SIGKILL)
        errors = process.stderr.read()
        assert process.wait() != 0
    assert time.monotonic() - start < 60
    assert f"process {1 - victim}" in errors
    assert "lost another process" in errors
    assert re.search(r"exitcode\s*: -9", errors)


def test_torchrun_restarts_a_job_that_goes_on_by_itself(option_file, records):
    with torchrun("train.py", option_file(train__total_iter=40, val=None), "--max-restarts", "1") as process:
        read_until(process, "[9/")
        os.kill(training_processes(process)[1], signal.SIGKILL)
        errors = process.stderr.read()
        assert process.wait() == 0, errors
    assert "torchrun has restarted the processes (restart 1)" in errors
    assert re.search(r"going on from iteration \d+ of", errors)
    assert [line["iter"] for line in records() if line["kind"] == "train"] == list(range(1, 41))


def test_sigterm_to_torchrun_saves_once(option_file):
    with torchrun("train.py", option_file(train__total_iter=100_000, val=None)) as process:
        read_until(process, "[9/")
        process.terminate()
        errors = process.stderr.read()
        assert process.wait() != 0  # 1: torchrun's own
    iteration = int(re.search(r"stopped by SIGTERM at iteration (\d+)", errors).group(1))
    assert errors.count("stopped by SIGTERM") == 1
    newest = max(int(path.stem) for path in Path("experiments/tiny/training_states").glob("*.state"))
    assert newest == iteration


def test_pictures_are_tested_by_all_processes(option_file):
    with torchrun("test.py", option_file(is_train=False)) as process:
        errors = process.stderr.read()
        assert process.wait() == 0, errors
    assert errors.count("3 pictures in") == 1
    assert len(list(Path("results/tiny/visualization").rglob("*.png"))) == 3


def test_mistake_in_the_option_file_is_told_once(option_file):
    with torchrun("train.py", option_file(train__total_iter=-5)) as process:
        errors = process.stderr.read()
        assert process.wait() != 0
    assert errors.count("total_iter") == 1

"""A process killed by SIGKILL again and again, and started again by the same command, ends as one left in peace.

The runs are forked from a process that has imported everything, so that hundreds of kills take minutes. A shared byte
each tells what the process and its writing thread are doing; the killer waits for a chosen activity, then strikes.
"""

import json
import os
import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
import torch
from state_comparison import assert_same, assert_same_checkpoint

from hriusr.checked_file import SUMS_NAME, is_damaged, read_checksums
from hriusr.engine.train_loop import train

REPOSITORY = Path(__file__).parents[2]

KILLER = """
import contextlib, json, mmap, os, random, signal, sys, time
import torch
torch.set_num_threads(1)
from hriusr import checked_file
from hriusr.basicsr_bridge import register_package
from hriusr.engine import speedometer, train_loop
from hriusr.models.sr_model import RestorationModel
register_package()

OPT, KILLS, LUCK = json.load(open("opt.json")), int(sys.argv[1]), random.Random(int(sys.argv[2]))
doing = mmap.mmap(-1, 2)  # what the training thread and the writing thread do
TARGETS = ["write", "validation", "step", "any", "data", "write", "save", "validation", "any"]
NAMES = {0: "start", 1: "step", 2: "data", 3: "validation", 4: "save", 5: "write"}
during, step = speedometer.Speedometer.during, RestorationModel.optimize_parameters
write = checked_file.write_atomically

@contextlib.contextmanager
def told_during(self, phase):
    before, doing[0] = doing[0], {"data": 2, "validation": 3, "save": 4}[phase]
    with during(self, phase):
        yield
    doing[0] = before

def told_step(self, iteration):
    doing[0] = 1
    step(self, iteration)

def told_write(path, content):  # as slow as a disk, and seen from outside
    doing[1] = 5
    time.sleep(0.002)
    write(path, content)
    time.sleep(0.002)
    doing[1] = 0

speedometer.Speedometer.during = told_during
RestorationModel.optimize_parameters = told_step
checked_file.write_atomically = told_write

def attempt():
    devnull = os.open(os.devnull, os.O_WRONLY)
    os.dup2(devnull, 2)
    try:
        train_loop.train(OPT)
        os._exit(0)
    finally:
        os._exit(1)

struck = []
while True:
    doing[0] = doing[1] = 0
    process = os.fork()
    if process == 0:
        attempt()
    if len(struck) < KILLS:
        target = TARGETS[len(struck) % len(TARGETS)]
        sightings, patience, was_seen = LUCK.choice([1, 1, 2, 3]), time.monotonic() + 8, False
        if target == "any":
            patience = time.monotonic() + LUCK.uniform(0.01, 0.5)
        while time.monotonic() < patience and sightings:
            is_seen = target in (NAMES[doing[0]], NAMES[doing[1]])
            sightings -= is_seen and not was_seen
            was_seen = is_seen
        time.sleep(LUCK.uniform(0, 0.003))
        where = [NAMES[doing[0]], *(["write"] if doing[1] else [])]
        os.kill(process, signal.SIGKILL)
    _, status = os.waitpid(process, 0)
    if os.WIFSIGNALED(status):
        struck.append(where)
    elif os.waitstatus_to_exitcode(status) != 0:
        sys.exit("a run failed")
    else:  # done, perhaps before the killer was
        break
json.dump(struck, open("struck.json", "w"))
"""


def options(run_opt, total_iter):
    opt = run_opt(precision="bf16", train__accumulation=2, train__total_iter=total_iter)
    growing = [{"iter": 7, "gt_size": 48}, {"iter": 16, "gt_size": 64, "batch_size": 1}]
    opt["datasets"]["train"].update(num_worker_per_gpu=2, cache="memory", progressive=growing)
    opt["logger"].update(print_freq=2, save_checkpoint_freq=3, keep_checkpoints=2)
    opt["val"]["val_freq"] = 5
    return opt


@pytest.mark.parametrize(
    ("kills", "total_iter"), [(12, 24), pytest.param(250, 90, marks=pytest.mark.slow)], ids=["few", "many"]
)
def test_run_killed_again_and_again_equals_one_left_in_peace(run_opt, records, tmp_path, kills, total_iter):
    opt = options(run_opt, total_iter)
    train(opt)
    shutil.move("experiments/tiny", "peace")
    (tmp_path / "opt.json").write_text(json.dumps(opt))
    (tmp_path / "killer.py").write_text(KILLER)
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY), "OMP_NUM_THREADS": "1"}
    subprocess.run(
        [sys.executable, "killer.py", str(kills), "1"], cwd=tmp_path, env=environment, check=True, timeout=1500
    )
    strikes = json.loads((tmp_path / "struck.json").read_text())
    struck = Counter(activity for activities in strikes for activity in activities)
    assert len(strikes) >= kills / 2
    assert {"step", "validation", "write"} <= set(struck)
    assert records("peace") == records("experiments/tiny")
    assert_same_checkpoint("peace", "experiments/tiny", total_iter)
    best = [
        torch.load(f"{folder}/models/net_g_best.pth", weights_only=True) for folder in ("peace", "experiments/tiny")
    ]
    assert_same(*best, "best")
    assert not list(Path("experiments").glob("tiny_archived_*")), "a restart began anew"
    for folder in (Path("experiments/tiny/models"), Path("experiments/tiny/training_states")):
        files = [path for path in folder.iterdir() if path.name != SUMS_NAME]
        assert set(read_checksums(folder)) == {path.name for path in files}
        assert not any(map(is_damaged, files))

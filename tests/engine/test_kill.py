"""A process killed by SIGKILL again and again, and started again by the same command, ends as one left in peace.

The runs are forked from a process that has imported everything, so that hundreds of kills take minutes. A shared byte
each tells what process 0 and its writing thread are doing; the killer waits for a chosen activity, then strikes. Of two
processes that train together it kills one or both; the one that is left must end by itself, and not with status 0.
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
import contextlib, json, mmap, os, random, signal, socket, sys, time
import cv2, torch
torch.set_num_threads(1)
cv2.setNumThreads(0)
from hriusr import checked_file
from hriusr.basicsr_bridge import register_package
from hriusr.engine import speedometer, train_loop
register_package()

OPT, KILLS, LUCK = json.load(open("opt.json")), int(sys.argv[1]), random.Random(int(sys.argv[2]))
COUNT = OPT["world_size"]
doing = mmap.mmap(-1, 2)  # what the training thread and the writing thread do
TARGETS = ["write", "validation", "step", "any", "data", "write", "save", "validation", "any"]
NAMES = {0: "start", 1: "step", 2: "data", 3: "validation", 4: "save", 5: "write"}
during, step = speedometer.Speedometer.during, train_loop.TrainingRun._step
write = checked_file.write_atomically

@contextlib.contextmanager
def told_during(self, phase):
    before, doing[0] = doing[0], {"data": 2, "validation": 3, "save": 4}[phase]
    with during(self, phase):
        yield
    doing[0] = before

def told_step(self):  # until something else begins
    doing[0] = 1
    step(self)

def told_write(path, content):  # as slow as a disk, and seen from outside
    doing[1] = 5
    time.sleep(0.002)
    write(path, content)
    time.sleep(0.002)
    doing[1] = 0

speedometer.Speedometer.during = told_during
train_loop.TrainingRun._step = told_step
checked_file.write_atomically = told_write

def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return str(listener.getsockname()[1])

def attempt(rank):
    os.environ.update(RANK=str(rank), LOCAL_RANK=str(rank), WORLD_SIZE=str(COUNT))
    os.dup2(os.open("errors.txt", os.O_WRONLY | os.O_CREAT | os.O_APPEND), 2)
    try:
        train_loop.train({**OPT, "rank": rank})
        os._exit(0)
    finally:
        os._exit(1)

struck = []
while True:
    doing[0] = doing[1] = 0
    os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT=free_port())
    processes = []
    for rank in range(COUNT):
        processes.append(os.fork())
        if processes[-1] == 0:
            attempt(rank)
    killed = []
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
        killed = LUCK.choice([processes, processes[:1], processes[-1:]])
        for process in killed:
            os.kill(process, signal.SIGKILL)
    limit = time.monotonic() + 60
    statuses = {}
    while len(statuses) < COUNT:
        for process in set(processes) - set(statuses):
            number, status = os.waitpid(process, os.WNOHANG)
            if number:
                statuses[process] = os.waitstatus_to_exitcode(status)
        if killed and time.monotonic() > limit:
            sys.exit("a process lives on without the one that was killed")
        time.sleep(0.002)
    if statuses[processes[0]] == 0:  # done, perhaps before the killer was
        break
    if -signal.SIGKILL not in statuses.values():
        sys.exit(f"a run failed: {statuses}")
    struck.append(where)
json.dump(struck, open("struck.json", "w"))
"""


def of_a_pair(run_opt, total_iter):
    opt = run_opt(precision="bf16", train__accumulation=2, train__total_iter=total_iter)
    growing = [{"iter": 7, "gt_size": 48}, {"iter": 16, "gt_size": 64, "batch_size": 1}]
    opt["datasets"]["train"].update(num_worker_per_gpu=2, cache="memory", progressive=growing)
    return opt


def of_two_processes(run_opt, total_iter):
    opt = run_opt(dist=True, world_size=2, train__total_iter=total_iter, dist_params={"timeout": 60})
    opt["datasets"]["train"].update(num_worker_per_gpu=1)
    return opt


def of_a_gan(run_opt, total_iter):
    """Real-HAT's second stage in fp16: pairs degraded by the model, their pool, a discriminator, two loss scales."""
    opt = run_opt(precision="fp16", train__accumulation=2, train__total_iter=total_iter, model_type="RealHATGANModel")
    opt |= {"gt_size": 32, "queue_size": 10}
    opt["network_d"] = {"type": "UNetDiscriminatorSN", "num_in_ch": 3, "num_feat": 4}
    train_opt = opt["datasets"]["train"]
    train_opt |= {"type": "RealESRGANDataset", "crop_pad_size": 48, "num_worker_per_gpu": 2, "use_rot": False}
    del train_opt["dataroot_lq"]
    opt["train"] |= {
        "optim_d": {"type": "Adam", "lr": 1e-3},
        "gan_opt": {"type": "GANLoss", "gan_type": "vanilla", "loss_weight": 0.1},
        "losses": {"fft": {"type": "FFTLoss", "loss_weight": 0.05, "start_iter": 5}},
        "spike_factor": 10.0,
    }
    return opt


def of_a_gan_on_two_processes(run_opt, total_iter):
    opt = of_a_gan(run_opt, total_iter)
    return opt | {"dist": True, "world_size": 2, "dist_params": {"timeout": 60}}


RUNS = {
    "pair-few": (of_a_pair, 12, 24),
    "pair-many": (of_a_pair, 250, 90),
    "two processes": (of_two_processes, 16, 30),
    "gan": (of_a_gan, 16, 40),
    "gan on two processes": (of_a_gan_on_two_processes, 12, 30),
}
SLOW = [pytest.param(name, marks=pytest.mark.slow) for name in RUNS if name != "pair-few"]


@pytest.mark.parametrize("name", ["pair-few", *SLOW])
def test_run_killed_again_and_again_equals_one_left_in_peace(run_opt, train_together, records, tmp_path, name):
    make, kills, total_iter = RUNS[name]
    opt = make(run_opt, total_iter)
    opt["logger"].update(print_freq=2, save_checkpoint_freq=3, keep_checkpoints=2)
    opt["val"]["val_freq"] = 5
    if opt["world_size"] > 1:
        train_together(opt["world_size"], opt)
    else:
        train(opt)
    shutil.move("experiments/tiny", "peace")
    (tmp_path / "opt.json").write_text(json.dumps(opt))
    (tmp_path / "killer.py").write_text(KILLER)
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, "killer.py", str(kills), "1"], cwd=tmp_path, env=environment, check=False, timeout=1500
    )
    assert done.returncode == 0, (tmp_path / "errors.txt").read_text()[-3000:]
    strikes = json.loads((tmp_path / "struck.json").read_text())
    struck = Counter(activity for activities in strikes for activity in activities)
    assert len(strikes) >= min(kills, total_iter) / 3  # a fast processor gets farther between two of them
    assert {"step", "validation", "write"} <= set(struck)
    assert records("peace") == records("experiments/tiny")
    assert_same_checkpoint("peace", "experiments/tiny", total_iter)
    for file in ("net_g_best.pth", f"net_d_{total_iter}.pth"):
        paths = [Path(folder, "models", file) for folder in ("peace", "experiments/tiny")]
        assert paths[0].exists() == paths[1].exists() == (file[:5] == "net_g" or "network_d" in opt)
        if paths[0].exists():
            assert_same(*(torch.load(path, weights_only=True) for path in paths), file)
    assert not list(Path("experiments").glob("tiny_archived_*")), "a restart began anew"
    for folder in (Path("experiments/tiny/models"), Path("experiments/tiny/training_states")):
        files = [path for path in folder.iterdir() if path.name != SUMS_NAME]
        assert set(read_checksums(folder)) == {path.name for path in files}
        assert not any(map(is_damaged, files))

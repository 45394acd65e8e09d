"""Parts of a training run: random numbers, records, folders, counters, checkpoints' names."""

import json
import os
import random
import signal

import numpy as np
import pytest
import torch

from hriusr.atomic_file import torch_bytes
from hriusr.checked_file import is_damaged, link_checked, read_checksums, write_checked
from hriusr.engine.distributed import Processes, SharedStop
from hriusr.engine.randomness import capture_randomness, restore_randomness, seed_everything, untouched_randomness
from hriusr.engine.recorder import Recorder
from hriusr.engine.run_folder import archive_folder
from hriusr.engine.run_state import RunState
from hriusr.engine.speedometer import Speedometer, duration
from hriusr.engine.stop_signal import StopSignal
from hriusr.errors import HriusrError

PSNR = {"psnr": {"type": "calculate_psnr"}}


def draw():
    return random.random(), np.random.rand(), torch.rand(2).tolist(), random.gauss(0, 1), np.random.randn()  # noqa: NPY002


def test_random_numbers_go_on_from_a_file(tmp_path):
    seed_everything(5)
    draw()
    (tmp_path / "rng").write_bytes(torch_bytes(capture_randomness()))
    expected = draw()
    seed_everything(6)
    restore_randomness(torch.load(tmp_path / "rng", weights_only=True))
    assert draw() == expected


def test_same_seed_same_numbers():
    seed_everything(5)
    first = draw()
    seed_everything(5)
    assert draw() == first


def test_validation_leaves_random_numbers_alone():
    seed_everything(1)
    expected = draw()
    seed_everything(1)
    with pytest.raises(RuntimeError), untouched_randomness():  # noqa: PT012 - the draw before is the point
        draw()
        raise RuntimeError
    assert draw() == expected


def test_best_value_is_kept_with_its_iteration():
    state = RunState(seed=0, samples_per_step=1)
    metrics_opt = {**PSNR, "niqe": {"type": "calculate_niqe", "better": "lower"}}
    for iteration, psnr, niqe in [(1, 30.0, 5.0), (2, 32.0, 6.0), (3, 31.0, 4.0), (4, 32.0, 4.5)]:
        state.iteration = iteration
        state.note_metrics("set", {"psnr": psnr, "niqe": niqe}, metrics_opt)
    assert state.best["set"]["psnr"] == {"better": "higher", "val": 32.0, "iter": 4}  # as BasicSR: the later of equals
    assert state.best["set"]["niqe"] == {"better": "lower", "val": 4.0, "iter": 3}


def test_value_that_is_unknown_never_stays_the_best():
    state = RunState(seed=0, samples_per_step=1)
    state.note_metrics("set", {"psnr": float("nan")}, PSNR)
    state.note_metrics("set", {"psnr": 30.0}, PSNR)
    assert state.best["set"]["psnr"]["val"] == 30.0


def test_best_value_of_another_metric_or_set_is_forgotten(caplog):
    protocols = {name: {"psnr": {**PSNR["psnr"], "dataroot_gt": name}} for name in ("a", "b", "c")}
    old = RunState(seed=0, samples_per_step=1, protocols=protocols)
    for name in protocols:
        old.note_metrics(name, {"psnr": 30.0}, PSNR)
    content = {"iter": 5, **old.state_dict()}
    metric = {"type": "calculate_psnr", "crop_border": 0, "dataroot_gt": "a"}
    changed = {"a": {"psnr": metric}, "b": {"psnr": {**PSNR["psnr"], "dataroot_gt": "elsewhere"}}}
    state = RunState(seed=0, samples_per_step=1, protocols=changed)
    state.load_state_dict(content)
    assert {name: set(records) for name, records in state.best.items()} == {"a": set(), "b": set(), "c": {"psnr"}}
    assert "psnr on b is measured otherwise now (dataroot_gt b -> elsewhere): its best counts anew" in caplog.text
    assert state.protocols["c"] == protocols["c"]  # not measured now: it may be again
    del content["run"]["protocols"]  # an old state
    state = RunState(seed=0, samples_per_step=1, protocols=changed)
    state.load_state_dict(content)
    assert set(state.best["a"]) == {"psnr"}


def test_changed_batch_and_seed_are_said_aloud():
    old = RunState(seed=3, samples_per_step=8)
    reasons = RunState(seed=4, samples_per_step=16).load_state_dict({"iter": 5, **old.state_dict()})
    assert any("manual_seed was 3" in reason for reason in reasons)
    assert any("a step had 8 samples and now has 16" in reason for reason in reasons)


def test_state_of_basicsr_is_taken_with_a_word():
    state = RunState(seed=0, samples_per_step=1)
    (reason,) = state.load_state_dict({"iter": 5, "epoch": 0, "optimizers": [], "schedulers": []})
    assert "BasicSR" in reason
    assert state.iteration == 5


def test_records_from_after_the_checkpoint_are_dropped(tmp_path):
    with Recorder(tmp_path, RunState(0, 1)) as recorder:
        for iteration in (1, 2, 3):
            recorder.train(iteration, {"l_pix": 0.5}, 1e-3)
        recorder.validation(2, "set", {"psnr": 30.0})
    with open(tmp_path / "metrics.jsonl", "a") as file:
        file.write('{"kind": "train", "it')  # cut short by a crash
    with Recorder(tmp_path, RunState(0, 1, iteration=2, validated_iteration=0)) as recorder:
        recorder.train(3, {"l_pix": float("inf")}, 1e-3)
    lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert [(line["kind"], line["iter"]) for line in lines] == [("train", 1), ("train", 2), ("train", 3)]
    assert lines[2]["l_pix"] == "inf"


def test_archived_folders_do_not_collide(tmp_path):
    names = set()
    for _ in range(3):
        (tmp_path / "run").mkdir()
        names.add(archive_folder(tmp_path / "run").name)
    assert len(names) == 3
    assert archive_folder(tmp_path / "run") is None


def test_folder_that_cannot_be_renamed_is_an_error_of_the_user(tmp_path, monkeypatch):
    (tmp_path / "run").mkdir()

    def refuse(*_):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(type(tmp_path), "rename", refuse)
    with pytest.raises(HriusrError, match=r"cannot rename .*run.*Permission denied"):
        archive_folder(tmp_path / "run")


@pytest.mark.parametrize("can_link", [True, False])
def test_last_weights_have_a_second_name(tmp_path, monkeypatch, can_link):
    def refuse(*_):
        raise OSError(1, "Operation not permitted")

    if not can_link:
        monkeypatch.setattr(os, "link", refuse)
    for content in (b"first", b"second"):
        (tmp_path / "net_g_7.pth").unlink(missing_ok=True)
        write_checked(tmp_path / "net_g_7.pth", content)
        latest = link_checked(tmp_path / "net_g_7.pth", tmp_path / "net_g_latest.pth")
        assert latest.read_bytes() == content
        assert not is_damaged(latest)
    assert set(read_checksums(tmp_path)) == {"net_g_7.pth", "net_g_latest.pth"}
    assert sorted(path.name for path in tmp_path.iterdir()) == ["SHA256SUMS", "net_g_7.pth", "net_g_latest.pth"]


def test_second_name_given_twice_leaves_nothing_behind(tmp_path):
    write_checked(tmp_path / "net_g_7.pth", b"weights")
    for _ in range(2):
        link_checked(tmp_path / "net_g_7.pth", tmp_path / "net_g_latest.pth")
    assert not list(tmp_path.glob(".*"))


def test_second_name_in_another_folder_has_its_checksum_too(tmp_path):
    write_checked(tmp_path / "old/4.state", b"state")
    (tmp_path / "new").mkdir()
    link_checked(tmp_path / "old/4.state", tmp_path / "new/4.state")
    assert read_checksums(tmp_path / "new") == read_checksums(tmp_path / "old")


@pytest.fixture
def heard_interrupt():
    """SIGINT as Python has it in a terminal, also where a shell started the tests with it ignored."""
    previous = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, previous)


@pytest.mark.usefixtures("heard_interrupt")
def test_first_signal_is_noted_and_the_second_ends_the_process():
    with StopSignal() as stop:
        assert stop.number is None
        os.kill(os.getpid(), signal.SIGINT)
        shared = SharedStop(stop, Processes())
        assert (shared.number, shared.name, shared.exit_status) == (signal.SIGINT, "SIGINT", 130)
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


@pytest.mark.usefixtures("heard_interrupt")
def test_an_ignored_signal_stays_ignored():
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with StopSignal() as stop:
        os.kill(os.getpid(), signal.SIGINT)
        assert stop.number is None


def test_speed_leaves_pauses_out(monkeypatch):
    now = [0.0]
    monkeypatch.setattr("time.perf_counter", lambda: now[0])
    speed = Speedometer(10, 110)
    with speed.during("data"):
        now[0] += 1
    now[0] += 3
    with speed.during("validation"):
        now[0] += 100
    with speed.during("save"):
        now[0] += 10
    reading = speed.read(18)
    assert (reading.iterations_per_second, reading.data_share, reading.seconds_left) == (2.0, 0.25, 46.0)
    now[0] += 5
    assert speed.split() == {"data": 1, "compute": 8, "validation": 100, "save": 10}


@pytest.mark.parametrize(("seconds", "text"), [(0.4, "0:00:00"), (61, "0:01:01"), (86_400 + 3_599.6, "25:00:00")])
def test_duration_is_in_hours(seconds, text):
    assert duration(seconds) == text

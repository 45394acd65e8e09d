"""Checkpoints: kept, dropped, checked, written beside the training, and what a full disk does."""

import json
import os
import re
import shutil
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
import torch

from hriusr.archs.registry import build_network
from hriusr.archs.weights import load_weights, save_weights
from hriusr.checked_file import read_checksums, remove_checked, write_checked
from hriusr.engine import checkpoint as checkpoint_module
from hriusr.engine.checkpoint import read_checkpoint
from hriusr.engine.checkpoint_writer import CheckpointWriter
from hriusr.engine.train_loop import train
from hriusr.errors import HriusrError, WeightsError

RESNET = {"type": "MSRResNet", "num_feat": 4, "num_block": 1, "upscale": 2}


def kept_iterations(folder="experiments/tiny"):
    states = sorted(int(path.stem) for path in Path(folder, "training_states").glob("*.state"))
    weights = sorted(int(path.stem[6:]) for path in Path(folder, "models").glob("net_g_*[0-9].pth"))
    assert states == weights
    return states


class TestKept:
    def test_newest_and_milestones_are_kept(self, run_opt):
        opt = run_opt(train__total_iter=9, val=None)
        opt["logger"].update(save_checkpoint_freq=1, keep_checkpoints=2, keep_every=3)
        train(opt)
        assert kept_iterations() == [3, 6, 8, 9]
        assert set(read_checksums(Path("experiments/tiny/training_states"))) == {f"{n}.state" for n in (3, 6, 8, 9)}

    def test_all_are_kept_by_default(self, run_opt):
        train(run_opt(train__total_iter=5, val=None, logger__save_checkpoint_freq=1))
        assert kept_iterations() == [1, 2, 3, 4, 5]

    def test_run_goes_on_from_the_only_one_kept(self, run_opt):
        train(run_opt(train__total_iter=6, val=None, logger__keep_checkpoints=1, logger__save_checkpoint_freq=2))
        assert kept_iterations() == [6]
        assert train(run_opt(val=None, auto_resume=True)).iteration == 8

    def test_old_ones_are_dropped_only_when_the_new_one_is_on_the_disk(self, run_opt, monkeypatch):
        written = checkpoint_module.write_checked

        def fail_at_the_second_state(path, content):
            if Path(path).name == "4.state":
                raise HriusrError("the disk is full")
            written(path, content)

        monkeypatch.setattr(checkpoint_module, "write_checked", fail_at_the_second_state)
        with pytest.raises(HriusrError, match="iteration 4 was not saved"):
            train(run_opt(val=None, logger__keep_checkpoints=1, logger__save_checkpoint_freq=2))
        assert [path.name for path in Path("experiments/tiny/training_states").glob("*.state")] == ["2.state"]

    def test_what_a_kill_left_of_dropped_checkpoints_goes_with_the_next(self, run_opt):
        opt = run_opt(train__total_iter=6, val=None)
        opt["logger"].update(save_checkpoint_freq=2)
        train(opt)
        Path("experiments/tiny/models/net_g_2.pth").unlink()  # the kill came before the checksum and the .state went
        opt["logger"].update(keep_checkpoints=1)
        train({**opt, "auto_resume": True, "train": {**opt["train"], "total_iter": 8}})
        assert kept_iterations() == [8]
        assert set(read_checksums(Path("experiments/tiny/training_states"))) == {"8.state"}
        assert set(read_checksums(Path("experiments/tiny/models"))) == {"net_g_8.pth", "net_g_latest.pth"}

    def test_damaged_checkpoints_after_the_one_gone_on_from_are_set_aside(self, run_opt, capsys):
        train(run_opt(val=None))
        Path("experiments/tiny/training_states/8.state").write_bytes(b"damaged")
        train(run_opt(val=None, auto_resume=True, train__total_iter=6))
        states = sorted(path.name for path in Path("experiments/tiny/training_states").glob("*.state*"))
        assert states == ["4.state", "6.state", "8.state.set_aside"]
        assert "8.state is of after iteration 4" in capsys.readouterr().err

    def test_leftovers_of_a_killed_process_are_removed(self, run_opt):
        train(run_opt(val=None))
        leftover = Path("experiments/tiny/models/.net_g_9.pth.123.tmp")
        leftover.write_bytes(b"half")
        train(run_opt(val=None, auto_resume=True))
        assert not leftover.exists()


class TestChecksums:
    @pytest.mark.parametrize("ending", [".pth", ".safetensors"])
    def test_one_flipped_bit_anywhere_is_noticed(self, tmp_path, ending):
        path = tmp_path / f"net{ending}"
        save_weights(path, build_network(RESNET), RESNET)
        content = path.read_bytes()
        write_checked(path, content)
        assert load_weights(path)
        for place in range(0, len(content), len(content) // 37):
            damaged = bytearray(content)
            damaged[place] ^= 4
            path.write_bytes(damaged)
            with pytest.raises(WeightsError, match="is damaged or was changed: its SHA-256"):
                load_weights(path)

    def test_sha256sum_reads_the_list(self, run_opt):
        train(run_opt(train__total_iter=4))
        for folder in ("models", "training_states"):
            command = ["sha256sum", "--check", "--strict", "SHA256SUMS"]
            subprocess.run(command, cwd=f"experiments/tiny/{folder}", check=True, capture_output=True)
        assert len(read_checksums(Path("experiments/tiny/models"))) == 3

    def test_file_written_anew_is_not_taken_for_damaged(self, tmp_path):
        write_checked(tmp_path / "net.pth", b"anything")
        save_weights(tmp_path / "net.pth", build_network(RESNET), RESNET)
        assert load_weights(tmp_path / "net.pth")

    def test_folders_of_the_user_get_no_list(self, tmp_path):
        save_weights(tmp_path / "net.pth", build_network(RESNET), RESNET)
        assert [path.name for path in tmp_path.iterdir()] == ["net.pth"]

    def test_removed_files_leave_the_list(self, tmp_path):
        for name in ("a", "b"):
            write_checked(tmp_path / name, b"")
        remove_checked(tmp_path / "a")
        assert list(read_checksums(tmp_path)) == ["b"]


class TestWriter:
    def test_training_goes_on_while_files_are_written(self):
        go_on = threading.Event()
        with CheckpointWriter() as writer:
            writer.submit(lambda: go_on.wait(20))
            writer.check()  # returns at once
            go_on.set()

    def test_one_job_at_a_time_in_order(self):
        done, at_once = [], []

        def job(number):
            at_once.append(number)
            time.sleep(0.02)
            done.append((number, len(at_once)))
            at_once.clear()

        with CheckpointWriter() as writer:
            for number in range(5):
                writer.submit(lambda number=number: job(number))
        assert done == [(number, 1) for number in range(5)]

    def test_error_comes_out_at_the_next_look(self):
        def fail():
            raise HriusrError("the disk is full")

        with CheckpointWriter() as writer:
            writer.submit(fail)
            with pytest.raises(HriusrError, match="full"):  # noqa: PT012
                for _ in range(2000):
                    time.sleep(0.001)
                    writer.check()
        with pytest.raises(HriusrError, match="full"), CheckpointWriter() as writer:  # at the end
            writer.submit(fail)

    def test_error_of_the_writer_does_not_hide_that_of_the_training(self, caplog):
        def fail():
            raise HriusrError("the disk is full")

        with pytest.raises(RuntimeError, match="of the training"), CheckpointWriter() as writer:  # noqa: PT012
            writer.submit(fail)
            raise RuntimeError("of the training")
        assert "the disk is full" in caplog.text

    def test_what_is_written_is_of_the_moment_of_saving(self, run_opt, monkeypatch):
        """The thread is held up until training has gone on; the files are those of an undisturbed run."""
        train(run_opt(val=None))
        shutil.move("experiments/tiny", "calm")
        original = checkpoint_module.torch_bytes

        def late(content):
            time.sleep(0.15)
            return original(content)

        monkeypatch.setattr(checkpoint_module, "torch_bytes", late)
        train(run_opt(val=None))
        for kind in ("models/net_g_4.pth", "training_states/4.state"):
            calm, held_up = (
                torch.load(f"{folder}/{kind}", weights_only=True) for folder in ("calm", "experiments/tiny")
            )
            for content in (calm, held_up):
                content.get("run", {}).pop("seconds", None)
            assert str(calm) == str(held_up)


LIMITED_RUN = """
import json, resource, sys
from hriusr.entry import run_guarded
from hriusr.engine import checkpoint
from hriusr.engine.train_loop import train

limit = int(sys.argv[1])
write = checkpoint.write_checked

def with_a_limit_from_iteration_8(path, content):
    if limit < 0 and "8" in path.name:  # fill the disk
        try:
            with open("ballast", "wb") as file:
                while True:
                    file.write(bytes(4096))
                    file.flush()
        except OSError:
            pass
    if limit > 0 and "8" in path.name:
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
    write(path, content)

checkpoint.write_checked = with_a_limit_from_iteration_8
sys.exit(run_guarded(lambda: train(json.load(open("opt.json")))))
"""


class TestFullDisk:
    def start(self, opt, tmp_path, limit, cwd=None):

        folder = cwd or tmp_path
        (folder / "opt.json").write_text(json.dumps(opt))
        (folder / "limited.py").write_text(LIMITED_RUN)
        repository = str(Path(__file__).parents[2])
        return subprocess.run(
            [sys.executable, "limited.py", str(limit)],
            cwd=folder,
            env={**os.environ, "PYTHONPATH": repository, "OMP_NUM_THREADS": "1"},
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )

    def assert_stopped(self, done, folder):
        assert done.returncode == 2, done.stderr
        error = done.stderr.strip().splitlines()[-1]
        assert re.match(
            r"error: the checkpoint of iteration 8 was not saved, training stops: cannot write .*net_g_8", error
        )
        assert "Traceback" not in done.stderr
        assert read_checkpoint(folder / "experiments/tiny/training_states/4.state").state["iter"] == 4
        assert not (folder / "experiments/tiny/training_states/8.state").exists()
        assert not list((folder / "experiments/tiny").rglob("*.tmp"))

    def test_file_that_may_not_grow_stops_the_run_with_status_2(self, run_opt, tmp_path):
        done = self.start(run_opt(val=None), tmp_path, limit=10_000)
        self.assert_stopped(done, tmp_path)
        assert "File too large" in done.stderr

    def test_full_file_system_stops_the_run_with_status_2(self, run_opt, tmp_path):
        disk = tmp_path / "disk"
        disk.mkdir()
        mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(disk)], check=False)
        if mounted.returncode:
            pytest.skip("a small file system can be mounted by root alone")
        try:
            opt = run_opt(val=None)
            opt["root_path"] = str(disk)
            for entry in ("dataroot_gt", "dataroot_lq"):
                opt["datasets"]["train"][entry] = str(tmp_path / opt["datasets"]["train"][entry])
            done = self.start(opt, tmp_path, limit=-1, cwd=disk)
            self.assert_stopped(done, disk)
            assert "No space left on device" in done.stderr
        finally:
            subprocess.run(["umount", str(disk)], check=True)

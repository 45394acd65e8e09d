"""What a run leaves behind to be read: TensorBoard, Weights & Biases, metrics.jsonl, summary.json, its exit status."""

import errno
import json
import math
import os
import shlex
import shutil
import subprocess
import sys
import threading
import time
import types
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from torch import nn

from hriusr.engine.recorder import Recorder, side_by_side
from hriusr.engine.run_state import RunState
from hriusr.engine.run_summary import in_words, options_hash
from hriusr.engine.sinks import TensorBoardSink
from hriusr.engine.speedometer import PHASES, Speed
from hriusr.engine.train_loop import train
from hriusr.engine.validation import SeenPictures
from hriusr.errors import HriusrError, OptionsError

REPOSITORY = Path(__file__).parents[2]


def events_of(folder):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(folder), size_guidance={"histograms": 0})
    events.Reload()
    return events


class TestTensorBoard:
    def test_losses_rates_metrics_times_pictures_and_histograms(self, tmp_path):
        parameter = nn.Parameter(torch.ones(3))
        parameter.grad = torch.full((3,), math.nan)  # not finite: not shown, and no error
        grey = [np.full((side, 20 * side // 600, 3), 9, np.uint8) for side in (300, 600, 600)]
        speed = Speed(2.0, 9.0, dict.fromkeys(PHASES, 0.5))
        with Recorder(tmp_path, RunState(0, 1), [TensorBoardSink(tmp_path / "tb", 0)]) as recorder:
            recorder.train(1, {"l_pix": 0.5}, 1e-3, speed)
            recorder.validation(1, "set", {"psnr": 30.0})
            recorder.pictures(1, "set/a", SeenPictures(*grey))
            recorder.histograms(1, [("conv.weight", parameter)])
        events = events_of(tmp_path / "tb")
        times = {f"time/{phase}_s" for phase in ("data", "compute", "validation", "save")}
        assert set(events.Tags()["scalars"]) == {
            *("losses/l_pix", "lr", "metrics/set/psnr", "speed/it_per_s", "speed/data_share"),
            *times,
        }
        assert events.Tags()["histograms"] == ["weights/conv.weight"]
        assert events.Tags()["images"] == ["images/set/a"]
        (image,) = events.Images("images/set/a")
        assert (image.width, image.height) == (3 * 20, 512)  # bicubic, result, ground truth

    def test_full_disk_ends_its_file_with_one_word(self, tmp_path, monkeypatch, caplog, capfd):
        from tensorboard.summary.writer.record_writer import RecordWriter

        def fail(*_):
            raise OSError(errno.ENOSPC, "No space left on device")

        hook = threading.excepthook
        sink = TensorBoardSink(tmp_path, 0)
        monkeypatch.setattr(RecordWriter, "write", fail)
        for iteration in range(100):
            sink.scalars(iteration, {"lr": 1.0})
            time.sleep(0.01)  # it is written by a thread
        sink.close()
        assert [record.message for record in caplog.records] == [
            "TensorBoard's file ends here: No space left on device"
        ]
        assert "Traceback" not in capfd.readouterr().err
        assert threading.excepthook is hook

    def test_run_shows_the_same_pictures_at_each_validation(self, run_opt):
        train(run_opt(logger__use_tb_logger=True, logger__num_val_images=2))
        events = events_of("tb_logger/tiny")
        shown = {f"images/{dataset}/{name}" for dataset in ("first", "second") for name in ("astronaut", "chelsea")}
        assert set(events.Tags()["images"]) == shown
        assert [image.step for image in events.Images("images/first/chelsea")] == [4, 8]

    @pytest.mark.parametrize(("frequency", "steps"), [(0, []), (3, [3, 6])])
    def test_histograms_come_as_often_as_asked_for(self, run_opt, frequency, steps):
        train(run_opt(logger__use_tb_logger=True, logger__histogram_freq=frequency, val=None))
        events = events_of("tb_logger/tiny")
        names = events.Tags()["histograms"]
        assert {name.split("/")[0] for name in names} == ({"weights", "gradients"} if steps else set())
        assert [event.step for name in names[:1] for event in events.Histograms(name)] == steps


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a device that is always full")
def test_full_disk_is_an_error_that_closing_does_not_hide(tmp_path):
    recorder = Recorder(tmp_path, RunState(0, 1), going_on="this command")
    recorder._file.close()
    recorder._file = open("/dev/full", "ab", buffering=0)
    with (
        pytest.raises(
            HriusrError, match=r"cannot write .*metrics.jsonl: No space left on device; make room .* this command"
        ),
        recorder,
    ):
        recorder.train(1, {"l_pix": 0.5}, 1e-3)


def test_columns_are_bicubic_result_and_truth():
    lq_HWC, result_HWC, gt_HWC = (np.full((side, side, 3), value, np.uint8) for side, value in ((4, 1), (8, 2), (8, 3)))
    assert side_by_side(SeenPictures(lq_HWC, result_HWC, gt_HWC))[0, :, 0].tolist() == [1] * 8 + [2] * 8 + [3] * 8
    assert side_by_side(SeenPictures(lq_HWC, result_HWC, None)).shape == (8, 16, 3)


class TestWandb:
    def test_stand_in_gets_everything_and_a_resumed_run_goes_on_in_it(self, run_opt, monkeypatch):
        calls = []
        run = types.SimpleNamespace(
            log=lambda values, step: calls.append((step, sorted(values))), finish=lambda: calls.append("finish")
        )
        stand_in = types.ModuleType("wandb")
        stand_in.init = lambda **arguments: calls.append(arguments) or run
        stand_in.Image = stand_in.Histogram = lambda values: values.shape
        monkeypatch.setitem(sys.modules, "wandb", stand_in)
        wandb_opt = {"project": "hriusr", "mode": "offline"}
        train(run_opt(logger__wandb=wandb_opt, logger__histogram_freq=4, train__total_iter=4))
        first, *rest = calls
        told = tuple(first[key] for key in ("project", "mode", "resume", "name"))
        assert told == ("hriusr", "offline", "allow", "tiny")
        assert first["config"]["train"]["total_iter"] == 4
        logged = {name for call in rest[:-1] for name in call[1]}
        assert {"losses/l_pix", "lr", "metrics/first/psnr", "images/first/chelsea", "time/data_s"} <= logged
        assert any(name.startswith("gradients/") for name in logged)
        assert rest[-1] == "finish"
        calls.clear()
        train(run_opt(logger__wandb=wandb_opt, auto_resume=True))
        assert calls[0]["id"] == first["id"]
        assert min(call[0] for call in calls[1:-1]) == 4  # the validation of the last checkpoint is done again

    def test_its_absence_is_said_before_anything_is_written(self, run_opt, monkeypatch):
        monkeypatch.setitem(sys.modules, "wandb", None)
        with pytest.raises(OptionsError, match=r"logger.wandb wants the package wandb.*pip install wandb"):
            train(run_opt(logger__wandb={"project": "hriusr"}))
        assert not Path("experiments").exists()

    def test_it_is_off_without_a_project(self, run_opt, monkeypatch):
        monkeypatch.setitem(sys.modules, "wandb", None)
        train(run_opt(logger__wandb={"project": None}, train__total_iter=1, val=None))

    def test_package_itself_writes_offline(self, run_opt, tmp_path):
        pytest.importorskip("wandb")
        (tmp_path / "opt.json").write_text(json.dumps(run_opt(logger__wandb={"project": "a", "mode": "offline"})))
        program = "import json; from hriusr.engine.train_loop import train; train(json.load(open('opt.json')))"
        done = start(["-c", program], tmp_path, WANDB_SILENT="true")
        assert done.returncode == 0, done.stderr
        assert list(Path("experiments/tiny/wandb").glob("offline-run-*/run-*.wandb"))


class TestSummary:
    def test_finished_run_tells_how_to_do_it_again(self, run_opt, capsys):
        train(run_opt())
        summary = json.loads(Path("experiments/tiny/summary.json").read_text())
        assert (summary["schema"], summary["status"], summary["iterations"]) == (1, "finished", 8)
        assert set(summary["seconds"]) == set(PHASES)
        assert summary["best"]["first"]["psnr"]["val"] >= summary["last"]["first"]["psnr"]
        assert summary["peak_memory_mb"]["process"] > 50
        assert summary["seed"] == 7
        assert summary["versions"]["torch"]
        assert "options_in_force.yml --force_yml path:resume_state=new" in summary["reproduced_by"]
        assert "once more: " in capsys.readouterr().err
        assert any("data" in line and "validation" in line for line in in_words(summary))

    def test_command_in_it_gives_the_same_weights(self, run_opt, tmp_path):
        opt = run_opt(train__total_iter=2, train__warmup_iter=-1, val=None)
        train(opt)
        command = json.loads(Path("experiments/tiny/summary.json").read_text())["reproduced_by"].split(" && ")[-1]
        shutil.move("experiments/tiny/models", "models")
        plain = {key: value for key, value in opt.items() if key not in PROCESS_KEYS}
        plain["path"] = {}
        train_opt = opt["datasets"]["train"]
        plain["datasets"] = {"train": {key: train_opt[key] for key in train_opt if key not in ("phase", "scale")}}
        Path("experiments/tiny/options_in_force.yml").write_text(yaml.safe_dump(plain))  # as an option file leaves it
        done = start(shlex.split(command)[1:], tmp_path)
        assert done.returncode == 0, done.stderr
        folders = ("models", "experiments/tiny/models")
        first, second = (torch.load(f"{folder}/net_g_2.pth", weights_only=True)["params"] for folder in folders)
        assert all(torch.equal(first[name], second[name]) for name in first)

    def test_command_of_a_run_that_started_from_a_state_starts_from_it_again(self, run_opt):
        train(run_opt(train__total_iter=4, val=None))
        shutil.move("experiments/tiny", "first")
        train(run_opt(path__resume_state="first/training_states/4.state", train__total_iter=5, val=None))
        folder = Path("experiments/tiny")
        command = json.loads((folder / "summary.json").read_text())["reproduced_by"]
        assert command.endswith("options_in_force.yml --force_yml name=tiny_again")
        opt = yaml.safe_load((folder / "options_in_force.yml").read_text())
        assert opt["path"]["resume_state"] == "first/training_states/4.state"

    def test_failed_run_says_so(self, run_opt, monkeypatch):
        from hriusr.models.sr_model import RestorationModel

        def fail(*_):
            raise RuntimeError("illegal memory access\nin a kernel")

        monkeypatch.setattr(RestorationModel, "optimize_parameters", fail)
        with pytest.raises(RuntimeError):
            train(run_opt())
        summary = json.loads(Path("experiments/tiny/summary.json").read_text())
        assert summary["status"] == "failed: RuntimeError: illegal memory access"
        assert (summary["iterations"], summary["weights"]) == (0, None)

    def test_hash_of_options_is_that_of_what_is_learned(self):
        plain = options_hash("train: {total_iter: 8}\nlogger: {print_freq: 1}")
        assert options_hash("train: {total_iter: 8}\nlogger: {print_freq: 9}") == plain
        assert options_hash("train: {total_iter: 9}\nlogger: {print_freq: 1}") != plain


def test_every_line_of_the_metrics_names_its_schema(run_opt):
    train(run_opt())
    lines = [json.loads(line) for line in Path("experiments/tiny/metrics.jsonl").read_text().splitlines()]
    assert {line["schema"] for line in lines} == {1}
    assert {"data_s", "compute_s", "validation_s", "save_s"} <= set(lines[0])


PROCESS_KEYS = ("is_train", "dist", "rank", "world_size", "auto_resume", "root_path")

FAILING_RUNS = """
import json, os, sys
import torch
torch.set_num_threads(1)
from hriusr.basicsr_bridge import register_package
register_package()
from hriusr.data.paired_image_dataset import PairedImageDataset
from hriusr.engine import checkpoint, training_run
from hriusr.entry import run_guarded
from hriusr.engine.train_loop import train
from hriusr.models.sr_model import RestorationModel

def fail(*_, **__):
    raise RuntimeError("a fault of the program")

def end_badly(*_, **__):
    os._exit(3)

PLACES = {
    "loading process": lambda: setattr(PairedImageDataset, "_cut_patches", fail),
    "death of a loading process": lambda: setattr(PairedImageDataset, "_cut_patches", end_badly),
    "model": lambda: setattr(RestorationModel, "optimize_parameters", fail),
    "validation": lambda: setattr(training_run, "validate", fail),
    "writer": lambda: setattr(checkpoint, "write_checked", fail),
    "nothing": lambda: None,
}
statuses = {}
for place, spoil in PLACES.items():
    process = os.fork()
    if process == 0:
        status = 1  # what Python makes of an exception that goes through
        try:
            spoil()
            status = run_guarded(lambda: train(json.load(open("opt.json"))))
        finally:
            os._exit(status)
    statuses[place] = os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])
json.dump(statuses, open("statuses.json", "w"))
"""


def test_failing_runs_never_end_with_status_0(run_opt, tmp_path):
    opt = run_opt(datasets__train__num_worker_per_gpu=1)
    (tmp_path / "opt.json").write_text(json.dumps(opt))
    (tmp_path / "failing.py").write_text(FAILING_RUNS)
    done = start(["failing.py"], tmp_path)
    assert done.returncode == 0, done.stderr
    statuses = json.loads((tmp_path / "statuses.json").read_text())
    assert statuses == {
        "loading process": 1,
        "death of a loading process": 2,  # said in words: out of memory, most likely
        "model": 1,
        "validation": 1,
        "writer": 1,
        "nothing": 0,
    }


def start(arguments, folder, **variables):
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY), "OMP_NUM_THREADS": "1", **variables}
    return subprocess.run(
        [sys.executable, *arguments],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )

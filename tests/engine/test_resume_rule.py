"""The same command goes on; anything else starts anew and keeps what there was: the table of engine/resume.py."""

import json
import multiprocessing
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from hriusr.engine import run_summary, train_loop
from hriusr.engine.build import build_model
from hriusr.engine.resume import find_start, learned_options
from hriusr.engine.train_loop import train
from hriusr.engine.training_run import TrainingRun
from hriusr.errors import HriusrError, OptionsError, WeightsError
from hriusr.folder_lock import FolderLock
from hriusr.options import load_options


def archived():
    return list(Path("experiments").glob("tiny_archived_*"))


@pytest.fixture
def unfinished(run_opt):
    """Leave a run at iteration 4 of 8, as a kill does."""
    train(run_opt())
    for path in [*Path("experiments/tiny").rglob("8.state"), *Path("experiments/tiny").rglob("net_g_8.pth")]:
        path.unlink()


@pytest.mark.usefixtures("unfinished")
class TestUnfinishedRun:
    def test_same_options_go_on(self, run_opt, capsys):
        assert train(run_opt()).iteration == 8
        assert "going on from iteration 4" in capsys.readouterr().err
        assert not archived()

    @pytest.mark.parametrize(
        "change",
        [
            {"logger__print_freq": 3},
            {"val__val_freq": 2},
            {"datasets__train__num_worker_per_gpu": 1},
            {"path__resume_state": "auto"},
        ],
        ids=str,
    )
    def test_what_is_not_learned_from_may_change(self, run_opt, change, capsys):
        train(run_opt(**change))
        assert "going on from iteration 4" in capsys.readouterr().err
        assert not archived()

    @pytest.mark.parametrize(
        ("change", "told"),
        [
            ({"train__total_iter": 6}, "train.total_iter 8 -> 6"),
            ({"train__ema_decay": 0.5}, "train.ema_decay 0.9 -> 0.5"),
            ({"datasets__train__gt_size": 24}, "datasets.train.gt_size 32 -> 24"),
            ({"manual_seed": 8}, "manual_seed 7 -> 8"),
        ],
        ids=str,
    )
    def test_other_options_start_anew_and_say_which(self, run_opt, change, told, capsys):
        train(run_opt(**change))
        assert f"options differ ({told})" in capsys.readouterr().err
        (kept,) = archived()
        assert (kept / "training_states/4.state").exists()

    @pytest.mark.parametrize("is_link", [False, True])
    def test_weights_of_the_folder_are_not_started_from_where_it_is_renamed(self, run_opt, is_link):
        weights = Path("experiments/tiny/models/net_g_best.pth")
        if is_link:
            Path("link.pth").symlink_to(weights)
        opt = run_opt(path__pretrain_network_g="link.pth" if is_link else str(weights))
        with pytest.raises(OptionsError, match=r"lies in experiments/tiny, .* name a copy .cp \S+ experiments/tiny_"):
            train(opt)
        assert not archived()
        assert weights.exists()

    def test_new_starts_anew(self, run_opt, records):
        train(run_opt(path__resume_state="new"))
        assert len(archived()) == 1
        assert [line["iter"] for line in records() if line["kind"] == "train"] == list(range(1, 9))

    def test_auto_resume_takes_other_options_too(self, run_opt):
        assert train(run_opt(auto_resume=True, train__total_iter=6)).iteration == 6
        assert not archived()

    def test_damage_of_all_checkpoints_is_no_reason_to_start_anew(self, run_opt):
        for path in Path("experiments/tiny/training_states").glob("*.state"):
            path.write_bytes(b"damaged")
        with pytest.raises(WeightsError, match=r"none of the 1 checkpoints.*resume_state=new"):
            train(run_opt())
        assert not archived()

    def test_options_that_cannot_be_read_start_anew(self, run_opt, capsys):
        Path("experiments/tiny/options_in_force.yml").write_text("a: [")
        train(run_opt())
        assert "its options cannot be read" in capsys.readouterr().err
        assert len(archived()) == 1


def test_run_that_starts_from_a_state_goes_on_from_its_own(run_opt, capsys):
    train(run_opt(name="first"))
    shutil.copytree("experiments/tiny", "other")
    start = {"path__resume_state": "other/training_states/4.state", "logger__save_checkpoint_freq": 2}
    start |= {"manual_seed": 8}  # the other run's is kept
    train(run_opt(**start))
    Path("experiments/tiny/training_states/8.state").unlink()
    capsys.readouterr()
    train(run_opt(**start))
    assert len(archived()) == 1  # the first run of this name, and no more
    assert "going on from iteration 6 of experiments/tiny/training_states/6.state" in capsys.readouterr().err


class TestNamedState:
    """A run that starts from a .state never writes over another one."""

    @pytest.mark.parametrize("named", ["first", "tiny"])
    def test_finished_run_is_kept(self, run_opt, records, capsys, named):
        train(run_opt(name=named, train__total_iter=4, val=None))
        if named == "first":
            shutil.move("experiments/tiny", "experiments/first")
        train(run_opt(auto_resume=True))
        before = {path.name: path.read_bytes() for path in Path("experiments/tiny/models").glob("net_g*")}
        start = {"path__resume_state": f"experiments/{named}/training_states/4.state", "train__total_iter": 6}
        train(run_opt(**start))
        (kept,) = archived()
        assert {path.name: path.read_bytes() for path in (kept / "models").glob("net_g*")} == before
        assert (kept / "training_states/8.state").exists()
        assert f"the run starts from experiments/{named}/training_states/4.state" in capsys.readouterr().err
        lines = [line["iter"] for line in records() if line["kind"] == "train"]
        assert lines == list(range(5 if named == "first" else 1, 7))

    def test_state_named_is_found_again_where_it_went_away_with_the_old_folder(self, run_opt, capsys):
        train(run_opt(logger__save_checkpoint_freq=2))
        start = {"path__resume_state": "experiments/tiny/training_states/2.state", "logger__save_checkpoint_freq": 4}
        train(run_opt(**start))
        for number in (4, 8):
            Path(f"experiments/tiny/training_states/{number}.state").unlink()  # as if killed at its third step
        capsys.readouterr()
        assert train(run_opt(**start)).iteration == 8
        assert "going on from iteration 2 of experiments/tiny/training_states/2.state" in capsys.readouterr().err
        assert len(archived()) == 1

    def test_state_named_is_not_looked_for_where_the_run_has_a_checkpoint(self, run_opt):
        opt = run_opt(path__resume_state="dropped.state", train__total_iter=8)
        train(run_opt(train__total_iter=4, val=None))
        Path("experiments/tiny/options_in_force.yml").write_text(yaml.safe_dump(opt))
        assert find_start(opt, yaml.safe_dump(opt)).checkpoint.state["iter"] == 4

    @pytest.mark.usefixtures("unfinished")
    def test_newest_of_the_run_itself_goes_on_in_its_folder(self, run_opt, records):
        train(run_opt(path__resume_state="experiments/tiny/training_states/4.state", train__total_iter=6))
        assert not archived()
        assert [line["iter"] for line in records() if line["kind"] == "train"] == list(range(1, 7))


class TestRestart:
    """Processes that a launcher restarts follow the options they were started with."""

    def test_state_named_is_taken_before_the_first_checkpoint(self, run_opt):
        train(run_opt(train__total_iter=4))
        shutil.move("experiments/tiny", "other")
        opt = run_opt(path__resume_state="other/training_states/4.state")
        Path("experiments/tiny").mkdir()
        Path("experiments/tiny/options_in_force.yml").write_text(yaml.safe_dump(opt))
        start = find_start(opt, yaml.safe_dump(opt), is_restart=True)
        assert start.checkpoint.state_path == Path("other/training_states/4.state")
        assert start.keeps_folder

    @pytest.mark.parametrize("wanted", ["new", None])
    def test_run_of_other_options_is_not_gone_on_with(self, run_opt, wanted):
        train(run_opt(train__total_iter=4))
        opt = run_opt(path__resume_state=wanted)
        assert find_start(opt, yaml.safe_dump(opt), is_restart=True) == (None, False)

    def test_new_is_not_done_again(self, run_opt):
        opt = run_opt(path__resume_state="new", train__total_iter=4)
        train(opt)
        start = find_start(opt, yaml.safe_dump(opt), is_restart=True)
        assert start.checkpoint.state["iter"] == 4
        assert start.keeps_folder
        assert find_start(opt, yaml.safe_dump(opt)) == (None, False)

    def test_new_leaves_a_run_alone_that_began_otherwise(self, run_opt):
        train(run_opt(train__total_iter=4))
        opt = run_opt(path__resume_state="new", train__total_iter=4)
        assert find_start(opt, yaml.safe_dump(opt), is_restart=True) == (None, False)


def test_run_begun_by_new_goes_on_by_the_command_it_names(run_opt, monkeypatch, capsys):
    step = TrainingRun._step

    def stop_at_3(self):
        step(self)
        if self.state.iteration == 3:
            os.kill(os.getpid(), signal.SIGTERM)

    with monkeypatch.context() as patch:
        patch.setattr(TrainingRun, "_step", stop_at_3)
        with pytest.raises(SystemExit):
            train(run_opt(val=None, path__resume_state="new"))
    assert "again with the same command without path:resume_state=new to go on from" in capsys.readouterr().err
    train(run_opt(val=None))
    assert "going on from iteration 3" in capsys.readouterr().err


def test_run_killed_before_its_first_checkpoint_starts_in_the_same_folder(run_opt, records):
    train(run_opt(train__total_iter=3, val=None))
    opt = run_opt()
    Path("experiments/tiny/training_states/3.state").unlink()
    Path("experiments/tiny/options_in_force.yml").write_text(yaml.safe_dump(opt))
    train(opt)
    assert not archived()
    assert [line["iter"] for line in records() if line["kind"] == "train"] == list(range(1, 9))


@pytest.mark.parametrize("was_longer", [False, True])
def test_run_killed_after_its_last_step_is_validated_and_not_trained_again(run_opt, records, monkeypatch, was_longer):
    train(run_opt())
    expected = records()
    shutil.move("experiments/tiny", "whole")
    if was_longer:  # a finished run that is made longer: its summary is that of the shorter one
        train(run_opt(train__total_iter=4))
    with monkeypatch.context() as patch:
        step = TrainingRun._validate

        def die_at_the_end(self):
            if self.state.iteration == 8:
                raise _Killed
            step(self)

        patch.setattr(TrainingRun, "_validate", die_at_the_end)
        patch.setattr(run_summary, "write_summary", lambda *_: None)  # a killed process writes none
        with pytest.raises(_Killed):
            train(run_opt(auto_resume=was_longer))
    assert train(run_opt()).metrics["first"]["psnr"] == expected[-2]["psnr"]
    assert records() == expected
    assert not archived()
    assert Path("experiments/tiny/models/net_g_latest.pth").samefile("experiments/tiny/models/net_g_8.pth")
    train(run_opt())
    assert len(archived()) == 1  # now it is finished


# begins the run that train is about to begin, and stays
HOLDER = """
import fcntl, os
os.makedirs("experiments/tiny")
file = open("experiments/tiny/.lock", "a+")
fcntl.lockf(file, fcntl.LOCK_EX)
print("begun", flush=True)
input()
"""


class _Killed(BaseException):
    """Stands for kill -9."""


def test_auto_resume_and_new_contradict_each_other(run_opt):
    with pytest.raises(OptionsError, match="contradicts"):
        find_start(run_opt(auto_resume=True, path__resume_state="new"), "{}")


def test_drawn_seed_is_no_other_option_and_stays(run_opt, capsys):
    opt = run_opt(val=None)
    for key in ("is_train", "dist", "rank", "world_size", "auto_resume", "root_path", "manual_seed"):
        del opt[key]
    opt["path"] = {}
    for dataset_opt in opt["datasets"].values():
        del dataset_opt["phase"], dataset_opt["scale"]
    Path("mine.yml").write_text(yaml.safe_dump({**opt, "manual_seed": None}))
    first = load_options("mine.yml", is_train=True)
    train(first)
    Path("experiments/tiny/training_states/8.state").unlink()
    again = load_options("mine.yml", is_train=True)
    assert again.run.is_seed_drawn
    capsys.readouterr()
    train(again)
    assert not archived()
    assert "will differ" not in capsys.readouterr().err
    seed = first.manual_seed
    assert seed != again.manual_seed
    folder = Path("experiments/tiny")
    assert yaml.safe_load((folder / "options_in_force.yml").read_text())["manual_seed"] == seed
    told = [json.loads((folder / name).read_text())["seed"] for name in ("versions.json", "summary.json")]
    assert told == [seed, seed]


def test_words_of_the_key_are_not_taken_for_files(run_opt):
    assert learned_options({"path": {"resume_state": "auto"}}) == learned_options({"path": {"resume_state": None}})
    assert learned_options({"path": {"resume_state": "4.state"}}) != learned_options({})


class TestLock:
    def test_second_process_on_the_same_run_is_refused(self, tmp_path):
        with FolderLock() as lock:
            lock.take(tmp_path)
            context = multiprocessing.get_context("spawn")
            with context.Pool(1) as pool, pytest.raises(HriusrError, match=rf"by another process .id {os.getpid()}."):
                pool.apply(_take, (tmp_path,))

    def test_second_first_start_is_refused_and_archives_nothing(self, run_opt, monkeypatch):
        Path("holder.py").write_text(HOLDER)
        processes = []

        def build_while_another_begins(opt):
            processes.append(subprocess.Popen([sys.executable, "holder.py"], stdin=-1, stdout=-1, text=True))
            processes[0].stdout.readline()
            return build_model(opt)

        monkeypatch.setattr(train_loop, "build_model", build_while_another_begins)
        with pytest.raises(HriusrError, match="is being trained by another process"):
            train(run_opt())
        processes[0].communicate("done")
        assert not archived()
        assert [path.name for path in Path("experiments/tiny").iterdir()] == [".lock"]

    def test_lock_is_free_again_afterwards(self, tmp_path):
        with FolderLock() as lock:
            lock.take(tmp_path)
        context = multiprocessing.get_context("spawn")
        with context.Pool(1) as pool:
            pool.apply(_take, (tmp_path,))

    def test_absent_folder_is_not_made(self, tmp_path):
        with FolderLock() as lock:
            lock.take(tmp_path / "absent")
        assert not (tmp_path / "absent").exists()


def _take(folder):
    with FolderLock() as lock:
        lock.take(folder)

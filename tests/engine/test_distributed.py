"""Several processes train what one would: the same losses, weights, metrics and files."""

import logging
import math
import os
import shutil
from pathlib import Path

import pytest
import torch
from torch import nn

from hriusr.engine.distributed import Processes, first_node, joined_processes
from hriusr.engine.evaluate import test as evaluate
from hriusr.engine.train_loop import train
from hriusr.errors import OptionsError
from hriusr.models.optimization import build_optimizer
from hriusr.models.parallel import full_content, shard, shard_like
from hriusr.models.sr_model import RestorationModel
from tests.engine.several_processes import free_port, run_processes
from tests.engine.state_comparison import assert_same, assert_same_checkpoint

HRIUSR = {"type": "HRIUSR", "upscale": 2, "embed_dim": 12, "depths": [2], "num_heads": 2, "low_resolution_depth": 1}
# Sums over a batch are rounded in another order: 2**-24 of a value in a sum, and Adam's first steps are as long for a
# small gradient as for a large one. Measured after 10 steps: weights 1.2e-7 apart (of 0.07), losses 1e-7 of themselves.
CLOSE_LOSS, CLOSE_WEIGHT = {"rel": 1e-6}, 1e-6


def weights(folder="experiments/tiny", iteration=8, kind="params"):
    return torch.load(Path(folder, f"models/net_g_{iteration}.pth"), weights_only=True)[kind]


def assert_close_weights(first, second):
    assert first.keys() == second.keys()
    for name, value in first.items():
        torch.testing.assert_close(second[name], value, rtol=0, atol=CLOSE_WEIGHT)


def losses(lines):
    return [line["l_pix"] for line in lines if line["kind"] == "train"]


@pytest.mark.parametrize("parallel", ["ddp", "fsdp"])
@pytest.mark.parametrize(
    ("count", "changes"),
    [
        (2, {}),
        (2, {"train__grad_clip_norm": 0.05, "train__accumulation": 2}),
        (2, {"network_g": HRIUSR, "datasets__train__gt_size": 16}),
        (3, {"train__grad_clip_norm": 0.05, "datasets__train__num_worker_per_gpu": 1}),
        (2, {"train__optim_g": {"type": "Muon", "lr": 1e-3, "weight_decay": 0.01}}),
    ],
    ids=["plain", "clipped and accumulated", "HRIUSR", "three processes", "Muon"],
)
def test_processes_train_as_one_with_the_same_global_batch(run_opt, train_together, records, parallel, count, changes):
    train(run_opt(**changes, train__total_iter=10, datasets__train__batch_size_per_gpu=2 * count))
    expected = records()
    shutil.move("experiments/tiny", "one")
    train_together(count, run_opt(**changes, train__total_iter=10, parallel=parallel))
    lines = records()
    assert losses(lines) == pytest.approx(losses(expected), **CLOSE_LOSS)
    psnr, expected_psnr = (
        [line["psnr"] for line in each if line["kind"] == "validation"] for each in (lines, expected)
    )
    assert psnr == pytest.approx(expected_psnr, rel=1e-4)  # a pixel may be rounded to the neighbouring 8-bit value
    for kind in ("params", "params_ema"):
        assert_close_weights(weights("one", 10, kind), weights(iteration=10, kind=kind))


def test_sharded_muon_steps_as_one_process_does():
    """Kernels of 5 and 6 rows on 3 processes: one of them holds less, or nothing."""

    def steps(is_sharded):
        torch.manual_seed(0)
        network = nn.Sequential(nn.Linear(7, 5), nn.Linear(5, 6), nn.Linear(5, 6), nn.Linear(4, 2), nn.Conv2d(4, 6, 3))
        if is_sharded:
            shard(network)
        optimizer = build_optimizer(network, {"type": "Muon", "lr": 0.01, "weight_decay": 0.1})
        for _ in range(3):
            for parameter in network.parameters():
                parameter.grad = shard_like(torch.randn(parameter.shape), parameter)
            optimizer.step()
        return full_content([network.state_dict(), optimizer.state_dict()])

    def work(rank):
        opt = {"dist": True, "rank": rank, "world_size": 3, "num_gpu": 0}
        with joined_processes(opt):
            weights, state = steps(is_sharded=True)
            expected_weights, expected_state = steps(is_sharded=False)
            if rank == 0:
                assert_same(dict(weights), dict(expected_weights), "weights")
                assert_same(state, expected_state, "state")

    run_processes(3, work)


def test_unequal_parts_of_a_batch_count_by_their_size(run_opt):
    """3 samples in 2 parts a process, against 6 samples at once."""
    batch = {"lq": torch.rand(6, 3, 8, 8), "gt": torch.rand(6, 3, 16, 16)}
    opt = run_opt(train__warmup_iter=-1)
    torch.manual_seed(0)
    alone = RestorationModel(opt)
    alone.feed_data(batch)
    alone.optimize_parameters(1)

    def work(rank):
        shared = {**opt, "dist": True, "rank": rank, "world_size": 2, "train": {**opt["train"], "accumulation": 2}}
        with joined_processes(shared):
            torch.manual_seed(rank)
            model = RestorationModel(shared)
            model.feed_data({key: value[rank::2] for key, value in batch.items()})
            model.optimize_parameters(1)
            return {name: value.tolist() for name, value in model.get_bare_model(model.net_g).state_dict().items()}

    for state in run_processes(2, work):
        assert_close_weights(alone.net_g.state_dict(), {name: torch.tensor(value) for name, value in state.items()})


@pytest.mark.parametrize("parallel", ["ddp", "fsdp"])
def test_nan_in_one_process_leaves_the_step_out_in_all(run_opt, train_together, records, parallel):
    def poison(rank):
        original = RestorationModel.feed_data

        def feed_data(self, data):
            self.calls = getattr(self, "calls", 0) + 1
            is_bad = rank == 1 and self.calls == 3
            original(self, {**data, "gt": data["gt"] * math.nan} if is_bad else data)

        RestorationModel.feed_data = feed_data

    train_together(2, run_opt(val=None, parallel=parallel), poison)
    lines = records()
    assert [number for number, loss in enumerate(losses(lines), 1) if loss is None] == [3]
    assert lines[-1]["nonfinite_steps"] == 1
    state = torch.load("experiments/tiny/training_states/8.state", weights_only=True)
    assert state["optimizers"][0]["state"][0]["step"] == 7
    assert all(torch.isfinite(value).all() for value in weights().values())


@pytest.mark.parametrize("parallel", ["ddp", "fsdp"])
@pytest.mark.parametrize("network", ["MSRResNet", "HRIUSR"])
def test_resumed_processes_equal_the_uninterrupted_ones(run_opt, train_together, records, network, parallel):
    # stochastic depth draws from each process's own generator
    changes = {"parallel": parallel, "logger__print_freq": 3}
    if network == "HRIUSR":
        changes |= {"network_g": {**HRIUSR, "drop_path_rate": 0.5}, "datasets__train__gt_size": 16, "val": None}
    train_together(2, run_opt(**changes))
    expected = records()
    shutil.move("experiments/tiny", "whole")
    train_together(2, run_opt(**changes, train__total_iter=4))
    train_together(2, run_opt(**changes, auto_resume=True), lambda rank: torch.manual_seed(rank + 5))
    assert records() == expected
    assert_same_checkpoint("whole", "experiments/tiny")


def test_every_process_draws_its_own_random_numbers(run_opt, train_together):
    train_together(2, run_opt(train__total_iter=4, val=None))
    first, second = torch.load("experiments/tiny/training_states/4.state", weights_only=True)["rng"]
    assert not torch.equal(first["torch"], second["torch"])


@pytest.mark.parametrize(
    ("before", "after"),
    [((2, "ddp"), (2, "fsdp")), ((2, "fsdp"), (2, "ddp")), ((2, "fsdp"), (1, "ddp")), ((1, "ddp"), (4, "fsdp"))],
    ids=str,
)
def test_run_goes_on_wrapped_otherwise_and_on_another_number_of_processes(
    run_opt, train_together, before, after, capfd
):
    def opt(count, parallel, **changes):
        return run_opt(parallel=parallel, datasets__train__batch_size_per_gpu=4 // count, **changes)

    train(opt(1, "ddp"))
    shutil.move("experiments/tiny", "whole")
    train_together(before[0], opt(*before, train__total_iter=4))
    train_together(after[0], opt(*after, auto_resume=True))
    for kind in ("params", "params_ema"):
        assert_close_weights(weights("whole", kind=kind), weights(kind=kind))
    states = [
        torch.load(f"{folder}/training_states/8.state", weights_only=True) for folder in ("whole", "experiments/tiny")
    ]
    for moment in ("exp_avg", "exp_avg_sq"):
        first, second = ([s[moment] for s in state["optimizers"][0]["state"].values()] for state in states)
        torch.testing.assert_close(second, first, rtol=1e-4, atol=1e-7)
    assert ("processes saved the state" in capfd.readouterr().err) == (before[0] != after[0])


def test_no_sample_is_left_out_or_repeated_when_the_batch_changes(run_opt, train_together, monkeypatch):
    train_together(2, run_opt(train__total_iter=4, val=None))
    seen = []
    original = RestorationModel.feed_data
    monkeypatch.setattr(
        RestorationModel, "feed_data", lambda self, data: (seen.extend(data["lq_path"]), original(self, data))[1]
    )
    train(run_opt(train__total_iter=8, val=None, auto_resume=True))  # 4 steps of 2 after 4 steps of 4
    resumed = list(seen)
    seen.clear()
    train(run_opt(train__total_iter=12, val=None))  # 12 steps of 2: the last 4 begin at sample 16
    assert resumed == seen[16:]


@pytest.mark.parametrize("count", [2, 4])
@pytest.mark.parametrize("parallel", ["ddp", "fsdp"])
def test_shared_validation_gives_the_numbers_of_one_process(run_opt, train_together, count, parallel, records):
    """3 pictures: they do not divide, and of 4 processes one has none."""
    train(run_opt(train__total_iter=4, datasets__train__batch_size_per_gpu=1))
    opt = run_opt(
        train__total_iter=4, auto_resume=True, val__save_img=True, parallel=parallel, logger__use_tb_logger=True
    )
    expected = [line for line in records() if line["kind"] == "validation"]
    state = torch.load("experiments/tiny/training_states/4.state", weights_only=True)
    state["run"]["validated_iteration"] = 0  # as if it had been cut off before
    torch.save(state, "experiments/tiny/training_states/4.state")
    Path("experiments/tiny/training_states/SHA256SUMS").unlink()
    train_together(count, opt)
    assert [line for line in records() if line["kind"] == "validation"] == expected
    saved = sorted(path.name for path in Path("experiments/tiny/visualization").rglob("*.*"))
    names = ("astronaut", "chelsea", "coffee")
    assert saved == [f"{name}_{dataset}_4.png" for name in names for dataset in ("first", "second")]


@pytest.mark.parametrize("count", [2, 4])
def test_shared_testing_gives_the_report_of_one_process(run_opt, count):
    def report():
        return [line.rsplit(",", 1)[0] for line in Path("results/tiny/report.csv").read_text().splitlines()]

    summary = train(run_opt(train__total_iter=1, val=None))
    opt = run_opt(is_train=False, path__pretrain_network_g=str(summary.weights))
    means = evaluate(opt)
    expected = report()

    def work(rank):
        return evaluate({**opt, "dist": True, "rank": rank, "world_size": count})

    for shared in run_processes(count, work):
        assert [(mean.metrics, mean.bicubic) for mean in shared] == [(mean.metrics, mean.bicubic) for mean in means]
    assert report() == expected
    saved = sorted(path.name for path in Path("results/tiny/visualization").rglob("*.*"))
    assert saved == ["astronaut_tiny.png", "chelsea_tiny.png", "coffee_tiny.png"]
    assert len(list(Path("results").glob("tiny_archived_*"))) == 1


def test_buffers_that_training_changes_are_those_of_process_0_everywhere(run_opt):
    opt = run_opt()

    def work(rank):
        shared = {**opt, "dist": True, "rank": rank, "world_size": 2}
        with joined_processes(shared) as processes:
            model = RestorationModel(shared)
            model.net_g.module.register_buffer("statistic", torch.full((2,), float(rank + 1)))
            content = model.checkpoint_files(0, 1)
            return processes.gather(model.net_g.module.statistic.tolist()), len(content)

    assert run_processes(2, work) == [([[1.0, 1.0]] * 2, 2), ([[1.0, 1.0]] * 2, 0)]


class TestSlurm:
    @pytest.mark.parametrize(
        ("nodes", "first"),
        [
            ("gpu07", "gpu07"),
            ("gpu[07-09,12],login", "gpu07"),
            ("a1,b[2-3]", "a1"),
            ("node[1,3]-ib", "node1-ib"),
        ],
    )
    def test_first_machine_of_a_list(self, nodes, first):
        assert first_node(nodes) == first

    def test_its_variables_connect_the_processes(self, run_opt, monkeypatch):
        opt = run_opt(dist_params={"backend": "nccl", "port": free_port()})

        def work(rank):
            for name in ("MASTER_ADDR", "MASTER_PORT", "RANK", "WORLD_SIZE", "LOCAL_RANK"):
                del os.environ[name]
            os.environ |= {"SLURM_STEP_NODELIST": "localhost", "SLURM_LOCALID": str(rank)}
            with joined_processes({**opt, "dist": True, "rank": rank, "world_size": 2}) as processes:
                return processes.gather(rank)

        assert run_processes(2, work) == [[0, 1], [0, 1]]


def test_more_processes_than_gpus_are_refused(run_opt, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setenv("LOCAL_RANK", "2")
    with pytest.raises(OptionsError, match=r"process 2 of this machine has no GPU: 2 can be seen.*nproc_per_node 2"):
        train(run_opt(dist=True, rank=2, world_size=3, num_gpu=2))


@pytest.mark.parametrize(("variable", "words"), [("TORCHELASTIC", "torchrun has restarted"), ("SLURM", "requeued")])
def test_restarted_processes_go_on_by_themselves(run_opt, train_together, monkeypatch, variable, words, capfd, records):
    train_together(2, run_opt())
    for name in ("training_states/8.state", "models/net_g_8.pth"):
        Path("experiments/tiny", name).unlink()
    monkeypatch.setenv(f"{variable}_RESTART_COUNT", "1")
    train_together(2, run_opt())
    errors = capfd.readouterr().err
    assert words in errors
    assert "going on from iteration 4" in errors
    assert [line["iter"] for line in records() if line["kind"] == "train"] == list(range(1, 9))


def test_one_process_alone_needs_no_group():
    processes = Processes()
    processes.wait_for_all()
    assert (processes.gather(1), processes.from_first(lambda: 2)) == ([1], 2)
    assert not torch.distributed.is_initialized()


def test_only_the_first_process_speaks(run_opt, train_together, capfd):
    train_together(2, run_opt(train__total_iter=1), lambda rank: logging.getLogger("hriusr").setLevel(logging.INFO))
    assert capfd.readouterr().err.count("weights: ") == 1
    assert len(list(Path("experiments/tiny").glob("train_*.log"))) == 1


def test_restarted_processes_do_not_meet_what_the_first_ones_left(run_opt, monkeypatch):
    """torchrun keeps one store over its restarts; with stale addresses in it the processes would wait for ever."""
    opt, port = run_opt(), free_port()
    store = torch.distributed.TCPStore("127.0.0.1", port, is_master=True, wait_for_workers=False)
    monkeypatch.setenv("TORCHELASTIC_USE_AGENT_STORE", "True")

    def work(rank):
        os.environ["MASTER_PORT"] = str(port)
        with joined_processes({**opt, "dist": True, "rank": rank, "world_size": 2}) as processes:
            return processes.gather(rank)

    for restart in ("0", "1"):
        monkeypatch.setenv("TORCHELASTIC_RESTART_COUNT", restart)
        assert run_processes(2, work, timeout=30) == [[0, 1], [0, 1]]
    del store

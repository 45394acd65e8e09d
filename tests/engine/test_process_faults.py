"""What happens to one of several processes: a signal, an error, its end; the others learn of it."""

import os
import signal
import time
from pathlib import Path

import pytest

from hriusr.engine import distributed
from hriusr.engine.train_loop import train
from hriusr.errors import DataError, HriusrError
from hriusr.models.sr_model import RestorationModel
from tests.engine.several_processes import run_processes


def _send_oneself_at_step_3(number):
    original = RestorationModel.optimize_parameters

    def optimize_parameters(self, iteration):
        original(self, iteration)
        if iteration == 3:
            os.kill(os.getpid(), number)

    RestorationModel.optimize_parameters = optimize_parameters


@pytest.mark.parametrize("during", ["a step", "validation"])
def test_signal_to_one_process_stops_all_at_the_same_step(run_opt, during):
    opt = run_opt(train__total_iter=1000, val__val_freq=5)
    if during == "a step":
        opt["val"] = None

    def work(rank):
        if rank == 1 and during == "a step":
            _send_oneself_at_step_3(signal.SIGTERM)
        elif rank == 1:
            upscale = RestorationModel.upscale
            RestorationModel.upscale = lambda self, lq: (os.kill(os.getpid(), 15), upscale(self, lq))[1]
        with pytest.raises(SystemExit) as caught:
            train({**opt, "dist": True, "rank": rank, "world_size": 2})
        return caught.value.code

    assert run_processes(2, work) == [143, 143]
    iteration = 4 if during == "a step" else 5
    assert sorted(path.name for path in Path("experiments/tiny/training_states").glob("*.state"))[-1] == (
        f"{iteration}.state"
    )


def test_error_of_one_process_is_told_once_and_by_it(run_opt):
    opt = run_opt(val=None)

    def work(rank):
        if rank == 1:

            def feed_data(self, data):
                raise DataError("broken.png cannot be read")

            RestorationModel.feed_data = feed_data
        try:
            train({**opt, "dist": True, "rank": rank, "world_size": 2})
        except Exception as error:
            told = type(error).__name__, str(error)
        # leaving closes the connections, as the end of the process would
        return told

    first, second = run_processes(2, work)
    assert second == ("DataError", "process 1 of 2: broken.png cannot be read")
    assert first[0] == "ToldByAnotherError"


def test_error_of_all_processes_is_told_by_the_first_alone(run_opt):
    opt = run_opt(datasets__train__dataroot_gt="nowhere")

    def work(rank):
        with pytest.raises(HriusrError) as caught:
            train({**opt, "dist": True, "rank": rank, "world_size": 2})
        return caught.typename

    assert run_processes(2, work) == ["DataError", "ToldByAnotherError"]


def test_lost_process_is_noticed_at_once_and_told_though_the_launcher_ends_all(run_opt):
    opt = run_opt(train__total_iter=100_000, val=None, logger__save_checkpoint_freq=100_000, path__resume_state="new")
    told = r"process 0 lost another process.*The same command without path:resume_state=new goes on"

    def work(rank):
        explain = distributed._explain

        def explain_late(*arguments):
            os.kill(os.getpid(), signal.SIGTERM)  # torchrun, meanwhile
            return explain(*arguments)

        distributed._explain = explain_late
        if rank == 1:
            _send_oneself_at_step_3(signal.SIGKILL)
        with pytest.raises(Exception, match=told) as caught:
            train({**opt, "dist": True, "rank": rank, "world_size": 2})
        return caught.typename

    start = time.monotonic()
    with pytest.raises(AssertionError, match=r"^process 1:\nended without a word$"):  # so the other one had its error
        run_processes(2, work)
    assert time.monotonic() - start < 30


def test_process_that_nobody_joins_gives_up_after_the_timeout(run_opt):
    opt = run_opt(dist_params={"backend": "gloo", "timeout": 1})

    def work(rank):
        with pytest.raises(Exception, match=r"process 0 of 2 cannot join the others at 127\.0") as caught:
            train({**opt, "dist": True, "rank": 0, "world_size": 2})
        return caught.typename

    assert run_processes(1, work) == ["HriusrError"]

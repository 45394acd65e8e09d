"""Tiles between processes (gloo): order, errors, and that all are ready for the next picture afterwards."""

import pytest
import torch.multiprocessing as mp
from sharing_scenarios import COUNT, run_all


@pytest.fixture(scope="module")
def answers(tmp_path_factory):
    """Rank -> scenario -> what that process answered; one start of processes for all tests."""
    store = str(tmp_path_factory.mktemp("sharing") / "store")
    queue = mp.get_context("spawn").Queue()
    processes = mp.start_processes(run_all, (store, queue), nprocs=COUNT, join=False, start_method="spawn")
    result = dict(queue.get(timeout=300) for _ in range(COUNT))
    while not processes.join(5):
        pass
    return result


def test_process_0_gets_all_tiles_in_order(answers):
    assert [answers[rank]["in_order"] for rank in range(COUNT)] == [list(range(8)), [], []]


def test_an_error_is_raised_once_and_all_go_on(answers):
    expected = ["HriusrError: tile 4 is bad", "HriusrError: tile 6 is bad"]
    assert answers[0]["after_an_error"] == (expected, list(range(8)))
    for rank in (1, 2):
        said, _ = answers[rank]["after_an_error"]
        assert [text.split(":")[0] for text in said] == ["ToldByAnotherError"] * 2


def test_a_consumer_that_stops_leaves_nobody_waiting(answers):
    assert answers[0]["after_the_consumer_stopped"] == list(range(8))


def test_sums_are_those_of_all(answers):
    assert [answers[rank]["sums"] for rank in range(COUNT)] == [[(7.0, 3)]] * COUNT


def test_what_one_process_cannot_do_none_goes_on_with(answers):
    assert answers[0]["after_together_failed"] == ("HriusrError: no file here", "HriusrError: not possible")
    assert answers[1]["after_together_failed"] == (
        "ToldByAnotherError: no file here",
        "ToldByAnotherError: not possible",
    )
    assert answers[2]["after_together_failed"][0] == "HriusrError: no file here"


def test_a_fault_of_the_first_process_leaves_nobody_waiting(answers):
    said = [answers[rank]["after_a_fault_of_the_first"] for rank in range(COUNT)]
    assert said == [("KeyError", 7), ("ToldByAnotherError", 7), ("ToldByAnotherError", 7)]

"""The line of samples: fresh orders, disjoint shares, resuming in the middle."""

import itertools
from collections import Counter

import pytest

from hriusr.data.sampler import ResumableSampler, SampleKey


def take(count, *arguments, **keywords):
    return list(itertools.islice(iter(ResumableSampler(*arguments, **keywords)), count))


def test_every_epoch_holds_every_picture_once_in_a_fresh_order():
    keys = take(30, 10, seed=3)
    epochs = [[key.index for key in keys[start : start + 10]] for start in (0, 10, 20)]
    assert all(sorted(epoch) == list(range(10)) for epoch in epochs)
    assert len({tuple(epoch) for epoch in epochs}) == 3
    assert [key.position for key in keys] == list(range(30))


def test_seed_decides_on_the_order():
    assert take(20, 50, seed=1) == take(20, 50, seed=1)
    assert [key.index for key in take(20, 50, seed=1)] != [key.index for key in take(20, 50, seed=2)]


def test_enlarged_epoch_is_one_order_over_several_passes():
    indices = [key.index for key in take(12, 4, seed=0, enlarge_ratio=3)]
    assert Counter(indices) == {0: 3, 1: 3, 2: 3, 3: 3}
    assert sorted(indices[:4]) != [0, 1, 2, 3]


@pytest.mark.parametrize("start", [1, 7, 10, 23])
def test_start_position_resumes_exactly(start):
    assert take(20, 10, seed=5, start_position=start) == take(start + 20, 10, seed=5)[start:]


@pytest.mark.parametrize("world_size", [2, 3])
def test_ranks_share_what_one_rank_takes(world_size):
    alone = take(36, 10, seed=5, start_position=4)
    shares = [take(36 // world_size, 10, 5, rank, world_size, 4) for rank in range(world_size)]
    assert sorted(itertools.chain(*shares), key=lambda key: key.position) == alone
    # also batch by batch: two of each rank make one of world_size * 2
    assert {key for share in shares for key in share[2:4]} == set(alone[2 * world_size : 4 * world_size])


def test_sample_randomness_depends_on_seed_and_position_alone():
    draws = [SampleKey(index, 3, seed=1).generator().random() for index in range(3)]
    assert len(set(draws)) == 1
    assert SampleKey(0, 4, seed=1).generator().random() != draws[0]
    assert SampleKey(0, 3, seed=2).generator().random() != draws[0]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [((0, 0), "num_samples"), ((3, -1), "seed"), ((3, 0, 2, 2), "rank"), ((3, 0, 0, 1, -1), "start_position")],
)
def test_impossible_numbers_are_named(arguments, message):
    with pytest.raises(ValueError, match=message):
        ResumableSampler(*arguments)
    with pytest.raises(ValueError, match="enlarge_ratio"):
        ResumableSampler(3, 0, enlarge_ratio=0)

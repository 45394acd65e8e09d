"""What a bit-exact resume means: contents of two files are the same, tensor by tensor."""

from pathlib import Path

import torch


def assert_same(first, second, place):
    assert type(first) is type(second), place
    if isinstance(first, torch.Tensor):
        assert first.dtype == second.dtype, place
        assert torch.equal(first, second), place
    elif isinstance(first, dict):
        assert first.keys() == second.keys(), place
        for key in first:
            assert_same(first[key], second[key], f"{place}/{key}")
    elif isinstance(first, (list, tuple)):
        assert len(first) == len(second), place
        for number, pair in enumerate(zip(first, second, strict=True)):
            assert_same(*pair, f"{place}/{number}")
    else:
        assert first == second, place


def assert_same_checkpoint(first, second, iteration=8):
    for kind in ("models/net_g_{}.pth", "training_states/{}.state"):
        contents = [torch.load(Path(folder, kind.format(iteration)), weights_only=True) for folder in (first, second)]
        for content in contents:
            content.get("run", {}).pop("seconds", None)
        assert_same(*contents, kind)

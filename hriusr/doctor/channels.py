"""Do pictures as loaded fit the network: channels in, shape out.

Broadcasting hides it else: one channel minus the mean of three is three, and a loss takes them against one.
"""

from collections.abc import Mapping
from typing import Any

from hriusr.doctor.findings import Report
from hriusr.models.channel_checks import CHANNEL_KEYS
from hriusr.models.sr_model import RestorationModel


def has_right_channels(model: RestorationModel, batch: Mapping[str, Any], place: str, report: Report) -> bool:
    """Compare the channels of a batch with those that the network takes, where it tells them.

    Args:
        model: its bare network is asked, then network_g.
        batch: as a dataset gives it; gt alone, where lq is made from it.
        place: of the finding.
        report: where it goes.
    """
    network, network_opt = model.get_bare_model(model.net_g), model.opt["network_g"]
    key = next((key for key in CHANNEL_KEYS if hasattr(network, key) or key in network_opt), None)
    if key is None:
        return True
    taken = int(getattr(network, key, network_opt.get(key)))
    given = batch.get("lq", batch.get("gt")).shape[1]
    if given == taken:
        return True
    fits = f"set network_g.{key}: {given}"
    colour = {1: "set color: y in every dataset", 3: "leave color out of every dataset"}.get(taken)
    report.add(
        "error",
        place,
        f"its pictures have {given} channel{'s' * (given != 1)} as loaded (key color), network_g takes {taken}",
        f"{colour}, or {fits}" if colour else fits,
    )
    return False


def has_right_output(model: RestorationModel, report: Report) -> bool:
    """Compare the shape of one output with its ground truth; call it after feed_data."""
    output_BCHW = model.upscale(model.lq[:1])
    given, wanted = tuple(output_BCHW.shape[1:]), tuple(model.gt.shape[1:])
    if given == wanted:
        return True
    report.add(
        "error",
        "network_g",
        f"makes {_words(given)} of {_words(tuple(model.lq.shape[1:]))}, the ground truth has {_words(wanted)}",
        "make the network's scale and channels agree with scale and the datasets' color",
    )
    return False


def _words(shape: tuple[int, ...]) -> str:
    channels, height, width = shape
    return f"{width}x{height} with {channels} channel{'s' * (channels != 1)}"

"""Every dataset of an option file, looked at picture by picture: damage, sizes, pairs, degradation.

Of large sets a sample is read, spread over the whole set and the same each time; of the others the sizes alone.
"""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from hriusr.data.dataset_options import uses_lmdb
from hriusr.data.lmdb_store import lmdb_num_entries
from hriusr.data.paired_image_dataset import most_surplus
from hriusr.data.prepare_jobs import run_job
from hriusr.doctor.findings import Level, Report, collected_warnings, remedy_apart
from hriusr.doctor.fingerprints import SpotIndex
from hriusr.doctor.low_resolution import ALIKE, EXACT, RELATED
from hriusr.doctor.picture_facts import Item, PictureFacts, Source, glance, look_at
from hriusr.engine.build import build_dataset
from hriusr.errors import HriusrError

_MOST_GLANCES = 100_000  # pictures whose headers are read: 40 s on one core
# datasets that make pictures as large as a patch needs
_ENLARGING = ("ImageNetPairedDataset", "RealESRGANDataset")


@dataclass
class Audit:
    """A dataset and what was seen of it.

    Attributes:
        entry: its key under datasets, or a folder given to compare with.
        is_training: patches are cut from it.
        num_pictures: in the whole set.
        num_looked_at: pictures that were read.
        facts: of those, and behind them of those of which only the size was read.
        shared: facts index -> number of the picture of `SpotIndex` that it shares pixels with.
    """

    entry: str
    is_training: bool
    num_pictures: int
    num_looked_at: int
    facts: list[PictureFacts]
    shared: dict[int, int]


def audit_dataset(
    entry: str,
    dataset_opt: Mapping[str, Any],
    report: Report,
    *,
    sample: int | None,
    num_processes: int | None,
    progress: bool,
    spot_index: SpotIndex | None = None,
) -> Audit | None:
    """Look at a dataset and note what is wrong with it.

    Args:
        entry: its key under datasets.
        dataset_opt: in BasicSR's form, with phase and scale.
        report: where findings go.
        sample: how many pictures to look at, at most; None: all.
        num_processes: how many read at once; None: one a CPU core.
        progress: show a bar on stderr.
        spot_index: of pictures that must not be in it.

    Returns:
        What was seen; None where the dataset cannot be built at all.
    """
    key = f"datasets.{entry}"
    dataset = _build(entry, dataset_opt, report)
    if dataset is None:
        return None
    items = _items(dataset, dataset_opt)
    if uses_lmdb(dataset_opt):
        _check_databases(key, dataset_opt, len(items), report)
    if not items:
        report.add("note", key, f"{dataset_opt['type']} does not say which pictures it reads: they are not looked at")
    chosen, rest = _spread(items, sample)
    facts, shared = [], {}
    jobs = run_job(f"{entry}: pictures", look_at, chosen, num_processes=num_processes, progress=progress)
    for number, seen in enumerate(jobs):
        if spot_index is not None and seen.spots is not None:
            owner = spot_index.find(*seen.spots)
            if owner is not None:
                shared[number] = owner
            seen.spots = None
        facts.append(seen)
    if rest:  # else an empty bar would stay
        facts += run_job(f"{entry}: sizes", glance, rest, num_processes=num_processes, progress=progress)
    audit = Audit(entry, dataset_opt["phase"] == "train", len(items), len(chosen), facts, shared)
    _measure(audit, report)
    _note_pictures(audit, dataset_opt, report)
    _note_pairs(audit, dataset_opt, report)
    return audit


def audit_folder(folder: Path, paths: Sequence[Path], *, num_processes: int | None, progress: bool) -> Audit:
    """Look at the pictures of a folder that training must not see; nothing is noted."""
    items = [Item(Source(str(path)), None, 1) for path in paths]
    facts = list(run_job(str(folder), look_at, items, num_processes=num_processes, progress=progress))
    return Audit(str(folder), False, len(items), len(items), facts, {})


def _build(entry: str, dataset_opt: Mapping[str, Any], report: Report) -> Any:
    """Build the dataset; where pairs are at fault, without lq, so that the ground truth is looked at all the same."""
    with collected_warnings(report, f"datasets.{entry}"):
        try:
            return build_dataset(entry, dataset_opt)
        except HriusrError as error:
            report.add("error", f"datasets.{entry}", *remedy_apart(str(error)))
        try:
            return (
                build_dataset(entry, {**dataset_opt, "dataroot_lq": None}) if dataset_opt.get("dataroot_gt") else None
            )
        except HriusrError:
            return None


def _items(dataset: Any, dataset_opt: Mapping[str, Any]) -> list[Item]:
    """List what a dataset reads, whatever its type."""
    is_lmdb, scale = uses_lmdb(dataset_opt), int(dataset_opt["scale"])
    databases = [dataset_opt.get(f"dataroot_{side}") if is_lmdb else None for side in ("gt", "lq")]
    if hasattr(dataset, "pairs"):
        return [
            Item(Source(pair.gt, databases[0]), Source(pair.lq, databases[1]) if pair.lq else None, scale)
            for pair in dataset.pairs
        ]
    database = databases[1] if dataset_opt.get("dataroot_lq") else databases[0]  # RealESRGANDataset has gt alone
    return [Item(Source(path, database), None, scale) for path in getattr(dataset, "paths", ())]


def _spread(items: Sequence[Item], sample: int | None) -> tuple[list[Item], list[Item]]:
    """Choose the items to read, and of the others those whose headers are read."""
    if sample is None or len(items) <= sample:
        return list(items), []
    order = np.random.default_rng(0).permutation(len(items))[: sample + _MOST_GLANCES]
    chosen, rest = ([items[index] for index in sorted(part)] for part in (order[:sample], order[sample:]))
    return chosen, rest


def _check_databases(key: str, dataset_opt: Mapping[str, Any], num_listed: int, report: Report) -> None:
    for side in ("gt", "lq"):
        database = dataset_opt.get(f"dataroot_{side}")
        if database and (held := lmdb_num_entries(database)) != num_listed:
            report.add(
                "error" if held < num_listed else "warning",
                f"{key}.dataroot_{side}",
                f"{database} holds {held} pictures, its meta_info.txt lists {num_listed}",
                "make the database again with `hriusr prepare lmdb --overwrite`",
            )


def _measure(audit: Audit, report: Report) -> None:
    sizes = [facts.size for facts in audit.facts if facts.size]
    pixels = [height * width for height, width in sizes] or [0]
    values = {
        "pictures": audit.num_pictures,
        "looked_at": audit.num_looked_at,
        "mean_megapixels": round(float(np.mean(pixels)) / 1e6, 4),
    }
    matches = [facts.match for facts in audit.facts if facts.match]
    if matches:
        values["pairs_compared"] = len(matches)
        values["exact_matlab_bicubic"] = sum(bool(match.bicubic_psnr >= EXACT) for match in matches)
    report.measure(f"datasets.{audit.entry}", **values)


class _Grouped:
    """Notes one finding for many pictures that have the same thing."""

    def __init__(self, audit: Audit, report: Report):
        self._audit, self._report = audit, report

    def note(self, level: Level, has: Callable[[PictureFacts], bool], what: str, remedy: str = "") -> None:
        """Note a finding where any picture has it."""
        names = [facts.name for facts in self._audit.facts if has(facts)]
        if names:
            message = f"{len(names)} of {len(self._audit.facts)} pictures {what}"
            self._report.add(level, f"datasets.{self._audit.entry}", message, remedy, names)


def _note_pictures(audit: Audit, dataset_opt: Mapping[str, Any], report: Report) -> None:
    key = f"datasets.{audit.entry}"
    for facts in audit.facts:
        for problem in facts.problems:
            report.add("error", key, *remedy_apart(problem), (facts.name,))
    group = _Grouped(audit, report)
    stages = [dataset_opt, *(dataset_opt.get("progressive") or ())]
    gt_size = max(int(stage.get("gt_size") or 0) for stage in stages) if audit.is_training else 0
    if gt_size and not dataset_opt.get("enlarge_small") and dataset_opt["type"] not in _ENLARGING:
        is_left_out = bool(dataset_opt.get("skip_small"))
        group.note(
            "note" if is_left_out else "error",
            lambda facts: facts.size is not None and min(facts.size) < gt_size,
            f"are smaller than gt_size (={gt_size}), so that no patch fits" + ": left out" * is_left_out,
            "" if is_left_out else "lower gt_size, or set skip_small: true to leave them out",
        )
    group.note("warning", lambda facts: facts.is_flat, "are of one colour or nearly so", "take them out")
    if audit.is_training:
        group.note(
            "note",
            lambda facts: facts.is_jpeg,
            "of the ground truth are JPEG: the network learns their artefacts too",
            "shrinking them to half before use takes most away",
        )
        group.note("note", lambda facts: facts.is_grey, "are grey: three equal channels", "")


def _has_larger_lq(facts: PictureFacts) -> bool:
    if facts.size is None or facts.lq_size is None:
        return False
    return facts.size != facts.lq_size and all(gt <= lq for gt, lq in zip(facts.size, facts.lq_size, strict=True))


def _note_swapped_folders(audit: Audit, group: _Grouped) -> None:
    first = next((facts for facts in audit.facts if _has_larger_lq(facts)), None)
    if first:
        lq, gt = (f"{width}x{height}" for height, width in (first.lq_size, first.size))
        group.note(
            "error",
            _has_larger_lq,
            f"have an lq that is larger than the ground truth (first lq {lq}, gt {gt}): "
            "dataroot_gt and dataroot_lq seem to be swapped",
            "exchange the two folders in the option file",
        )


def _note_pairs(audit: Audit, dataset_opt: Mapping[str, Any], report: Report) -> None:
    scale = int(dataset_opt["scale"])
    group = _Grouped(audit, report)
    surplus = most_surplus(scale, is_training=audit.is_training)

    def is_wrong_size(facts: PictureFacts) -> bool:
        if facts.size is None or facts.lq_size is None or _has_larger_lq(facts):
            return False
        return any(not 0 <= gt - lq * scale <= surplus for gt, lq in zip(facts.size, facts.lq_size, strict=True))

    _note_swapped_folders(audit, group)
    ratios = Counter(
        round(facts.size[0] / facts.lq_size[0]) for facts in audit.facts if is_wrong_size(facts) and facts.size[0]
    )
    if ratios:
        ratio, number = ratios.most_common(1)[0]
        hint = f"set scale: {ratio}, or name the LR of x{scale} as dataroot_lq" if ratio not in (0, scale) else ""
        what = f"have a ground truth that is not {scale} times as large as lq"
        what += f" ({number} are {ratio} times as large)" if hint else ""
        group.note("error", is_wrong_size, what, hint or "make lq again with `hriusr prepare bicubic`")

    compared = [facts for facts in audit.facts if facts.match and not (is_wrong_size(facts) or _has_larger_lq(facts))]
    right = {id(facts) for facts in compared}
    off = {id(facts) for facts in compared if facts.match.shift != (0.0, 0.0)}
    swapped = {id(facts) for facts in compared if facts.match.is_swapped}
    other = {id(facts) for facts in compared if facts.match.kernel_psnr < RELATED} - off - swapped
    group.note(
        "error",
        lambda facts: id(facts) in other,
        "have an lq that is another picture",
        "check filename_tmpl, and that both folders were made from the same pictures",
    )
    group.note(
        "error",
        lambda facts: id(facts) in swapped,
        "have an lq with red and blue exchanged",
        "make lq again with `hriusr prepare bicubic`",
    )
    if off:
        shift = Counter(facts.match.shift for facts in compared if id(facts) in off).most_common(1)[0][0]
        group.note(
            "error",
            lambda facts: id(facts) in off,
            f"have an lq that is shifted, mostly by {shift[0]:g} rows and {shift[1]:g} columns (LR pixels)",
            "make lq again with `hriusr prepare bicubic`",
        )
    _note_kernels(group, right - off - swapped - other, compared)


def _note_kernels(group: _Grouped, ordinary: set[int], compared: Sequence[PictureFacts]) -> None:
    unlike = [facts for facts in compared if id(facts) in ordinary and facts.match.bicubic_psnr < EXACT]
    kernels = Counter(facts.match.kernel if facts.match.kernel_psnr >= ALIKE else "" for facts in unlike)
    for kernel, _ in kernels.most_common():
        members = {
            id(facts): facts.match.bicubic_psnr
            for facts in unlike
            if (facts.match.kernel if facts.match.kernel_psnr >= ALIKE else "") == kernel
        }
        mean = np.mean(list(members.values()))
        how = f"it seems to be {kernel}" if kernel else "it fits no kernel known here (blur, noise, JPEG ...?)"
        group.note(
            "note" if mean > 60 else "warning",
            lambda facts, members=members: id(facts) in members,
            f"have an lq that is not MATLAB's bicubic of the ground truth ({mean:.1f} dB); {how}",
            "for scores that compare with papers make it with `hriusr prepare bicubic`, or leave dataroot_lq out; "
            "nothing to do where this degradation is wanted",
        )

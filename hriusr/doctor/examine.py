"""The whole audit of a training: options, pictures, leaks, schedule, one step, validation, what the run takes.

Of a test: options, pictures, weights, one picture of each set.
"""

import contextlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hriusr.data.image_io import list_images
from hriusr.data.loader import build_val_loader
from hriusr.doctor.attempts import AttemptFailedError, attempt
from hriusr.doctor.budget import check_disk, check_memory, check_speed, check_val_memory
from hriusr.doctor.channels import has_right_channels
from hriusr.doctor.findings import Report, collected_warnings
from hriusr.doctor.fingerprints import SpotIndex
from hriusr.doctor.leaks import note_duplicates, note_leaks
from hriusr.doctor.pictures import Audit, audit_dataset, audit_folder
from hriusr.doctor.run_folders import check_folders
from hriusr.doctor.schedule import check_schedule
from hriusr.doctor.stages import heaviest_stage, mean_work
from hriusr.doctor.trial import batch_of_step, full_step_seconds, measure_data, try_steps, try_validation
from hriusr.engine.build import build_dataset, build_model
from hriusr.engine.randomness import seed_everything
from hriusr.engine.speedometer import duration
from hriusr.engine.training_setup import build_data
from hriusr.errors import HriusrError
from hriusr.options import Options


@dataclass(frozen=True)
class Extent:
    """How much to look at.

    Attributes:
        sample: pictures a dataset; None: all.
        against: folders of pictures that must not be in the training set, beside the validation sets.
        with_step: train one step and validate one picture of each set.
        data_seconds: how long to measure the loading of data.
        num_processes: that read pictures; None: one a CPU core.
        progress: show bars on stderr.
    """

    sample: int | None = 300
    against: tuple[Path, ...] = ()
    with_step: bool = True
    data_seconds: float = 3.0
    num_processes: int | None = None
    progress: bool = True


def examine(load: Callable[[], Options], extent: Extent) -> Report:
    """Audit a training or a test before it starts; writes nothing.

    Args:
        load: reads and checks the option file; what it raises becomes findings.
        extent: how much to look at.
    """
    report = Report()
    options = _load(load, report)
    if options is None:
        return report
    opt = options.to_basicsr_dict()
    audits = _audit_pictures(opt, extent, report)
    if opt["is_train"]:
        check_schedule(opt, report)
    if extent.with_step and report.is_healthy:
        if opt["is_train"]:
            _try_run(opt, audits, extent, report)
        else:
            _try_test(opt, audits, report)
    elif extent.with_step:
        report.add("note", "network_g", "no step was tried: mend the errors first, then run the doctor again")
    check_folders(opt, report)
    return report


def _load(load: Callable[[], Options], report: Report) -> Options | None:
    with collected_warnings(Report(), ""):  # they are in options.run.warnings too
        try:
            options = load()
        except HriusrError as error:
            heading, *problems = str(error).split("\n")
            for problem in problems or [heading]:
                place, _, message = problem.strip().partition(": ")
                if not message:
                    place, message = "option file", problem.removeprefix("option file ")
                report.add("error", place, message)
            return None
    for warning in options.run.warnings:
        place, _, message = warning.partition(": ")
        report.add("warning", place, message)
    return options


def _audit_pictures(opt: Mapping[str, Any], extent: Extent, report: Report) -> dict[str, Audit]:
    """Look at the validation sets first: the training set is searched for their pictures."""
    arguments = {"num_processes": extent.num_processes, "progress": extent.progress}
    audits: dict[str, Audit] = {}
    for entry, dataset_opt in opt["datasets"].items():
        if dataset_opt["phase"] == "val" or (dataset_opt["phase"] == "test" and not opt["is_train"]):
            audits[entry] = audit_dataset(entry, dataset_opt, report, sample=extent.sample, **arguments)
    test_sets = [audit for audit in audits.values() if audit]
    for folder in extent.against:
        try:
            test_sets.append(audit_folder(folder, list_images(folder, recursive=True), **arguments))
        except HriusrError as error:
            report.add("error", f"--against {folder}", str(error))
    training = _audit_training(opt, test_sets, extent, report) if opt["is_train"] else None
    audits["train"] = training
    known = {entry: audit for entry, audit in audits.items() if audit}
    for audit in known.values():
        note_duplicates(audit, report)
    if training:
        note_leaks(training, test_sets, report)
    return known


def _audit_training(opt: Mapping[str, Any], test_sets: Sequence[Audit], extent: Extent, report: Report) -> Audit | None:
    index = SpotIndex([facts.spots for test in test_sets for facts in test.facts if facts.spots is not None])
    training = audit_dataset(
        "train",
        opt["datasets"]["train"],
        report,
        sample=extent.sample,
        num_processes=extent.num_processes,
        progress=extent.progress,
        spot_index=index,
    )
    if training and training.num_looked_at < training.num_pictures:
        seen = (
            f"{training.num_looked_at} of {training.num_pictures} pictures were looked at, of the others the size alone"
        )
        remedy = "--full looks at all of them, which finds every damaged picture and every leak"
        report.add("note", "datasets.train", seen, remedy)
    return training


_SAMPLE_TOO_LARGE = "one sample does not fit into memory", "lower gt_size, or a smaller network"
_PICTURE_TOO_LARGE = "a picture does not fit into memory", "set tile: {tile_size: 256}"


def _try_run(opt: Mapping[str, Any], audits: Mapping[str, Audit], extent: Extent, report: Report) -> None:
    # compiling takes minutes and changes no finding; the doctor speaks of the plain network
    opt = {**opt, "compile": False}
    seed = opt.get("manual_seed") or 0
    trial = {"report": report, "place": "trial step", "too_large": _SAMPLE_TOO_LARGE}
    with collected_warnings(report, "trial step"), contextlib.suppress(AttemptFailedError):
        seed_everything(seed)
        with attempt("loading the training set", **trial):
            data = build_data(opt)
            batch, data_rate = measure_data(data, seed, seconds=extent.data_seconds, report=report)
            stage = heaviest_stage(opt)
            if stage.first_step > 1:
                batch = batch_of_step(data, seed, stage.first_step)
        with attempt("building the model", **trial):
            model = build_model(opt)
        if not has_right_channels(model, batch, "datasets.train", report):
            return
        with attempt("a training step", **trial):
            cost = try_steps(model, batch, report)
            check_disk(model, opt, report)
            fits = check_memory(model, cost, opt, report)
            samples = len(batch["gt"])
            step_seconds = cost.fixed_seconds + samples * cost.sample_seconds
            if fits:
                step_seconds = full_step_seconds(model, batch, step_seconds, report)
            step_seconds *= mean_work(opt)
        with attempt("measuring a validation", **trial):
            check_val_memory(model, _largest(opt, audits), opt, report)
        val_seconds = try_validation(model, data.val_loaders, opt, report)
        megapixels = report.measured.get("datasets.train", {}).get("mean_megapixels", 0.0)
        check_speed(opt, data_rate, step_seconds, val_seconds, megapixels, report)


def _try_test(opt: Mapping[str, Any], audits: Mapping[str, Audit], report: Report) -> None:
    if not opt["path"].get("pretrain_network_g"):
        report.add(
            "error", "path.pretrain_network_g", "no weights: an untrained network would be tested", "name a file"
        )
        return
    trial = {"report": report, "place": "trial picture", "too_large": _PICTURE_TOO_LARGE}
    with collected_warnings(report, "trial picture"), contextlib.suppress(AttemptFailedError):
        with attempt("loading the test sets", **trial):
            datasets = {entry: build_dataset(entry, opt["datasets"][entry]) for entry in audits}
            loaders = {entry: build_val_loader(dataset) for entry, dataset in datasets.items()}
        with attempt("building the model", **trial):
            model = build_model(opt)
        with attempt("measuring a test", **trial):
            check_val_memory(model, _largest(opt, audits), opt, report)
        seconds = try_validation(model, loaders, opt, report)
        report.measure("speed", eta_seconds=round(seconds), eta=duration(seconds))


def _largest(opt: Mapping[str, Any], audits: Mapping[str, Audit]) -> dict[str, tuple[int, int]]:
    """Return entry -> (height, width) in LR pixels of the largest picture of each validation set."""
    largest = {}
    for entry, audit in audits.items():
        sizes = [facts.size for facts in audit.facts if facts.size]
        if sizes and not audit.is_training:
            height, width = max(sizes, key=lambda size: size[0] * size[1])
            is_gt = opt["datasets"][entry].get("dataroot_gt")
            scale = int(opt["scale"]) if is_gt else 1
            largest[entry] = height // scale, width // scale
    return largest

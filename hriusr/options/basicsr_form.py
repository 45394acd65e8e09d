"""Options as the dict that BasicSR's own code reads, with the keys its parse_options adds.

BasicSR asks `"mean" in opt` rather than for a value, and passes the rest of optim_g and scheduler on as keyword
arguments; so what is unset stays out, but for the keys that it indexes without asking.
"""

from pathlib import Path
from typing import Any

from hriusr.options.run_context import RunContext


def basicsr_form(values: dict[str, Any], run: RunContext) -> dict[str, Any]:
    """Convert validated options to BasicSR's dict.

    Args:
        values: Options.model_dump without what is unset; becomes part of the result.
        run: how this process runs.

    Returns:
        Plain dicts, lists and values.
    """
    opt = values
    opt.update(
        is_train=run.is_train,
        auto_resume=run.auto_resume,
        dist=run.is_distributed,
        rank=run.rank,
        world_size=run.world_size,
        root_path=str(run.root_path),
    )
    for entry, dataset in opt["datasets"].items():
        dataset["phase"] = phase_of(entry)
        dataset["scale"] = opt["scale"]
        if opt["num_gpu"] == 0:  # the loader looks at the machine, which may have a GPU nevertheless
            dataset["pin_memory"] = False
            if dataset.get("prefetch_mode") == "cuda":
                del dataset["prefetch_mode"]
    opt["path"].setdefault("pretrain_network_g", None)
    opt["path"].setdefault("resume_state", None)
    opt["path"].update(run_folders(run.root_path, opt["name"], run.is_train))
    if "val" in opt:
        opt["val"].setdefault("suffix", None)
    if not run.is_train:
        opt.pop("train", None)
    return opt


def phase_of(dataset_entry: str) -> str:
    """Return the phase of a datasets entry: val for val_1, as BasicSR reads it."""
    return dataset_entry.split("_")[0]


def run_folders(root_path: Path, name: str, is_train: bool) -> dict[str, str]:
    """Name the folders a run writes to, BasicSR's keys and layout; makes none of them."""
    if is_train:
        experiment = root_path / "experiments" / name
        return {
            "experiments_root": str(experiment),
            "models": str(experiment / "models"),
            "training_states": str(experiment / "training_states"),
            "log": str(experiment),
            "visualization": str(experiment / "visualization"),
        }
    results = root_path / "results" / name
    return {"results_root": str(results), "log": str(results), "visualization": str(results / "visualization")}

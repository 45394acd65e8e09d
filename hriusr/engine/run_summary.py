"""summary.json of a run, and the same in a few words: what came out, where the time went, how to do it again.

Written however a run ends, also by an error; schema 1.
"""

import contextlib
import json
import logging
import resource
import shlex
import sys
from collections.abc import Iterator, Mapping
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
import yaml

from hriusr.atomic_file import write_atomically
from hriusr.engine.resume import learned_options
from hriusr.engine.run_state import RunState
from hriusr.engine.same_command import AUTO, NEW
from hriusr.engine.speedometer import duration
from hriusr.errors import HriusrError

if TYPE_CHECKING:
    from hriusr.engine.training_run import TrainingRun

logger = logging.getLogger(__name__)

SCHEMA = 1


def options_hash(resolved_yaml: str) -> str:
    """Return the SHA-256 of what decides on what is learned, the seed included."""
    text = json.dumps(learned_options(yaml.safe_load(resolved_yaml)), sort_keys=True, default=str)
    return sha256(text.encode("utf-8")).hexdigest()


def summarise(
    opt: Mapping[str, Any],
    state: RunState,
    *,
    status: str,
    last_metrics: Mapping[str, Mapping[str, float]],
    resolved_yaml: str,
    weights: Path | None,
) -> dict[str, Any]:
    """Collect the content of summary.json.

    Args:
        opt: options in BasicSR's form.
        state: where the run ended.
        status: finished, "stopped by SIGTERM", "failed: ...".
        last_metrics: dataset -> label -> value, of the last validation.
        resolved_yaml: options in force.
        weights: file of the last weights.
    """
    folder = Path(opt["path"]["experiments_root"])
    versions = json.loads((folder / "versions.json").read_text(encoding="utf-8"))
    commit = versions.get("commit", "")
    return {
        "schema": SCHEMA,
        "name": opt["name"],
        "status": status,
        "iterations": state.iteration,
        "total_iter": int(opt["train"]["total_iter"]),
        "seconds": {phase: round(spent, 3) for phase, spent in state.seconds.items()},
        "peak_memory_mb": peak_memory_mb(),
        "best": state.best,
        "last": {dataset: dict(values) for dataset, values in last_metrics.items()},
        "weights": str(weights) if weights else None,
        "seed": state.seed,
        "options_sha256": options_hash(resolved_yaml),
        "commit": commit.rstrip("+") or None,
        "is_dirty": commit.endswith("+"),
        "versions": versions,
        "started_by": shlex.join(sys.orig_argv),
        "folder": str(Path.cwd()),
        "reproduced_by": reproducing_command(folder, commit, opt),
    }


def reproducing_command(folder: Path, commit: str, opt: Mapping[str, Any]) -> str:
    """Return the shell command that does the run again, from the folder it was started in.

    Args:
        folder: of the run.
        commit: of the checkout, with + where files differed from it; empty outside of one.
        opt: options in BasicSR's form.
    """
    is_from_state = opt["path"].get("resume_state") not in (None, AUTO, NEW)
    # what starts from a .state must start from it again, and would go on with itself under the same name
    change = shlex.quote(f"name={opt['name']}_again") if is_from_state else f"path:resume_state={NEW}"
    steps = []
    if commit:
        steps.append(f"git checkout {commit.rstrip('+')}")
    if commit.endswith("+") and (folder / "uncommitted.patch").is_file():
        steps.append(f"git apply {shlex.quote(str(folder / 'uncommitted.patch'))}")
    options = shlex.quote(str(folder / "options_in_force.yml"))
    steps.append(f"{shlex.quote(sys.executable)} -m hriusr.train -opt {options} --force_yml {change}")
    return " && ".join(steps)


def peak_memory_mb() -> dict[str, float]:
    """Return the most memory so far, MB: of this process, the largest child that ended, the GPU where there is one."""
    kilobytes = 1 if sys.platform == "darwin" else 1024  # macOS counts bytes
    peaks = {
        "process": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * kilobytes / 1e6,
        "largest_child": resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * kilobytes / 1e6,
    }
    if torch.cuda.is_initialized():
        peaks["gpu"] = torch.cuda.max_memory_allocated() / 1e6
    return {name: round(value, 1) for name, value in peaks.items()}


@contextlib.contextmanager
def summarised(run: "TrainingRun", resolved_yaml: str) -> Iterator[None]:
    """Write summary.json and log it however the run in this context ends.

    Args:
        run: read at the end.
        resolved_yaml: options in force.
    """
    status = "finished"
    try:
        yield
    except SystemExit as error:
        status = f"stopped by a signal (exit status {error.code})"
        raise
    except BaseException as error:
        status = f"failed: {type(error).__name__}: {error}".splitlines()[0]
        raise
    finally:
        run.state.seconds = run.speed.split()
        weights = Path(run.opt["path"]["models"], "net_g_latest.pth") if status == "finished" else None
        summary = summarise(
            run.opt,
            run.state,
            status=status,
            last_metrics=run.last_metrics,
            resolved_yaml=resolved_yaml,
            weights=weights,
        )
        try:
            path = write_summary(Path(run.opt["path"]["experiments_root"]), summary)
            for line in (*in_words(summary), f"summary: {path}"):
                logger.info("%s", line)
        except HriusrError as error:  # a full disk, perhaps what ended the run
            logger.error("%s", error)


def write_summary(folder: Path, summary: Mapping[str, Any]) -> Path:
    """Write summary.json; numbers that are not finite become null."""
    path = folder / "summary.json"
    write_atomically(path, (json.dumps(_finite(summary), indent=2, allow_nan=False) + "\n").encode("utf-8"))
    return path


def in_words(summary: Mapping[str, Any]) -> list[str]:
    """Return the summary as lines for the log."""
    seconds = summary["seconds"]
    whole = max(sum(seconds.values()), 1e-9)
    split = ", ".join(f"{phase} {spent / whole:.0%}" for phase, spent in seconds.items())
    memory = ", ".join(f"{name} {value:,.0f} MB" for name, value in summary["peak_memory_mb"].items())
    return [
        f"{summary['status']}: {summary['iterations']} of {summary['total_iter']} steps in {duration(whole)} ({split})",
        f"most memory: {memory}",
        *(
            f"best {label} on {dataset}: {record['val']:.4f} at iteration {record['iter']}"
            for dataset, records in summary["best"].items()
            for label, record in records.items()
        ),
        f"once more: {summary['reproduced_by']}",
    ]


def _finite(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and value - value != 0 else value

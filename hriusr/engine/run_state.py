"""Where a training run stands, apart from the model: everything here is part of its checkpoints."""

import logging
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

from hriusr.engine.distributed import Processes
from hriusr.engine.randomness import capture_randomness, restore_randomness, seed_everything

logger = logging.getLogger(__name__)

# dataset -> metric -> {"better": higher or lower, "val": best value, "iter": of that value}, as BasicSR keeps it
BestMetrics = dict[str, dict[str, dict[str, Any]]]
# dataset -> metric -> what its values depend on: the metric's options, the pictures
Protocols = dict[str, dict[str, dict[str, Any]]]


@dataclass
class RunState:
    """Counters of a run.

    Attributes:
        seed: of the sampler and, with the rank added, of all generators.
        samples_per_step: of all processes together.
        iteration: steps done.
        position: samples taken by all processes together.
        validated_iteration: the last one whose validation is complete.
        seconds: phase (speedometer.PHASES) -> time spent in it, over all starts.
        best: best validation values so far.
        protocols: how they were measured; values of another protocol do not compare.
    """

    seed: int
    samples_per_step: int
    iteration: int = 0
    position: int = 0
    validated_iteration: int = 0
    seconds: dict[str, float] = field(default_factory=dict)
    best: BestMetrics = field(default_factory=dict)
    protocols: Protocols = field(default_factory=dict)

    def note_metrics(self, dataset: str, metrics: Mapping[str, float], metrics_opt: Mapping[str, Any]) -> None:
        """Keep the best value of each metric.

        Args:
            dataset: name.
            metrics: label -> mean over the dataset.
            metrics_opt: label -> metric, whose `better` is higher (default) or lower.
        """
        records = self.best.setdefault(dataset, {})
        for label, value in metrics.items():
            better = metrics_opt[label].get("better", "higher")
            best = records[label]["val"] if label in records else math.nan
            if math.isnan(best) or (value >= best if better == "higher" else value <= best):
                records[label] = {"better": better, "val": value, "iter": self.iteration}

    def state_dict(self) -> dict[str, Any]:
        """Return counters: tensors and plain types."""
        return {
            "run": {
                "seed": self.seed,
                "samples_per_step": self.samples_per_step,
                "position": self.position,
                "validated_iteration": self.validated_iteration,
                "seconds": self.seconds,
                "protocols": self.protocols,
            },
            "best_metric_results": self.best,
            "torch_version": str(torch.__version__),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> list[str]:
        """Take over the counters of a checkpoint, ours or BasicSR's; random numbers apart.

        Args:
            state: content of a .state.

        Returns:
            Reasons why the run will not be bit-equal to an uninterrupted one; empty: it will.
        """
        self.iteration = self.validated_iteration = int(state["iter"])
        self.position = self.iteration * self.samples_per_step
        if "run" not in state:
            return ["the state is BasicSR's: it holds neither random numbers nor the position in the data"]
        run, reasons = state["run"], []
        if run["seed"] != self.seed:
            reasons.append(f"manual_seed was {run['seed']}, which is kept, not {self.seed}")
            self.seed = run["seed"]
        if run["samples_per_step"] != self.samples_per_step:
            reasons.append(f"a step had {run['samples_per_step']} samples and now has {self.samples_per_step}")
        if state.get("torch_version") != str(torch.__version__):
            reasons.append(f"torch was {state.get('torch_version')} and is {torch.__version__}")
        self.position = run.get("position", self.iteration * run["samples_per_step"])
        self.validated_iteration = run["validated_iteration"]
        seconds = run["seconds"]  # once a single number
        self.seconds = dict(seconds) if isinstance(seconds, Mapping) else {"compute": seconds}
        self.best = {name: {label: dict(r) for label, r in records.items()} for name, records in _best(state).items()}
        self._drop_what_does_not_compare(run.get("protocols", {}))
        return reasons

    def _drop_what_does_not_compare(self, before: Protocols) -> None:
        """Forget best values of a metric or set that is another one now; of old states nobody knows."""
        for name, protocols in before.items():
            for label, protocol in protocols.items():
                now = self.protocols.setdefault(name, {}).setdefault(label, protocol)
                changed = sorted(key for key in now.keys() | protocol.keys() if now.get(key) != protocol.get(key))
                if changed and self.best.get(name, {}).pop(label, None):
                    told = ", ".join(f"{key} {protocol.get(key)} -> {now.get(key)}" for key in changed)
                    logger.warning("%s on %s is measured otherwise now (%s): its best counts anew", label, name, told)


def run_randomness(processes: Processes) -> dict[str, Any]:
    """Return the random numbers of all processes, for a checkpoint; all call."""
    return {"rng": processes.gather(capture_randomness())}


def restore_run_randomness(state: Mapping[str, Any], processes: Processes, seed: int) -> None:
    """Put the generators back to a checkpoint's; to be called when everything that draws from them has been built.

    Args:
        state: content of a .state.
        processes: of this run; those that the checkpoint's run did not have draw anew.
        seed: of the run.
    """
    saved = state.get("rng", ())
    if len(saved) > processes.rank:
        restore_randomness(saved[processes.rank])
    if saved and len(saved) != processes.count:
        logger.warning(
            "the resumed run will differ from an uninterrupted one: %d processes saved the state, %d go on; sums are "
            "rounded in another order, and dropout and stochastic depth draw other numbers (crops and flips do not)",
            len(saved),
            processes.count,
        )
        if len(saved) <= processes.rank:
            seeds = np.random.SeedSequence([seed, processes.rank, int(state["iter"])])
            seed_everything(int(seeds.generate_state(1)[0]))


def _best(state: Mapping[str, Any]) -> BestMetrics:
    return state.get("best_metric_results", {})

"""What the entry points share: the command line of train.py and test.py, loading options, and how a run ends.

Exit status: 0 done; 2 something the user can mend, said in `error: ...` on stderr; 130 interrupted; 1 a fault of the
program, with its traceback.
"""

import argparse
import functools
import os
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hriusr.errors import HriusrError, ToldByAnotherError

if TYPE_CHECKING:
    from hriusr.options import Options

EXIT_MENDABLE = 2
EXIT_INTERRUPTED = 130  # 128 + SIGINT, as shells count it
TRACEBACK_VARIABLE = "HRIUSR_TRACEBACK"
_PATIENCE = 5  # seconds


def run_guarded(work: Callable[[], object]) -> int:
    """Do some work and turn the way it ends into an exit status.

    Args:
        work: called once. What it raises beside HriusrError and KeyboardInterrupt goes through, with its traceback.

    Returns:
        0, 2 (HriusrError) or 130 (interrupted). HRIUSR_TRACEBACK=1 shows the traceback of a HriusrError too.
    """
    # Large tensors on Linux lie in huge pages: 10 to 19 % less CPU time for HRIUSR-light (experiments/LOG.md). PyTorch
    # asks when it first takes memory, so not for programs that import hriusr: they decide for themselves.
    os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")
    try:
        work()
    except ToldByAnotherError:
        return EXIT_MENDABLE
    except HriusrError as error:
        if os.environ.get(TRACEBACK_VARIABLE) == "1":
            raise
        sys.stderr.write(f"error: {error}\n")
        return EXIT_MENDABLE
    except KeyboardInterrupt:
        sys.stderr.write("interrupted\n")
        return EXIT_INTERRUPTED
    return 0


def guarded(command: Callable[..., object]) -> Callable[..., None]:
    """Make a command of the command line end as run_guarded says."""

    @functools.wraps(command)
    def wrapper(*args, **kwargs) -> None:
        sys.exit(run_guarded(lambda: command(*args, **kwargs)))

    return wrapper


def parse_arguments(description: str, argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the command line that BasicSR's train.py and test.py take.

    Args:
        description: for --help.
        argv: without the program's name; default sys.argv[1:].
    """
    parser = argparse.ArgumentParser(description=description, allow_abbrev=False)
    parser.add_argument("-opt", "--opt", required=True, type=Path, metavar="FILE", help="option file (YAML)")
    parser.add_argument(
        "--launcher",
        choices=["none", "pytorch", "slurm"],
        default="none",
        help="pytorch under torchrun, slurm under srun",
    )
    parser.add_argument(
        "--auto_resume",
        action="store_true",
        help="go on from the newest state of the same name, also with other options or a longer total_iter",
    )
    parser.add_argument("--debug", action="store_true", help="log each step, validate and save every 8")
    parser.add_argument(
        "--force_yml", nargs="+", default=[], metavar="A:B=C", help="set options: train:total_iter=1000 scale=4"
    )
    parser.add_argument(
        "--local_rank", "--local-rank", type=int, default=0, help="for old launchers; torchrun's environment counts"
    )
    return parser.parse_args(argv)


def load_checked_options(
    option_file: Path,
    *,
    is_train: bool,
    overrides: Sequence[str] = (),
    launcher: str = "none",
    auto_resume: bool = False,
    debug: bool = False,
) -> "Options":
    """Load an option file and check it against everything that is registered; arguments as load_options has them."""
    from hriusr.engine.registered import registered_components
    from hriusr.options import load_options

    return load_options(
        option_file,
        is_train=is_train,
        overrides=overrides,
        launcher=launcher,
        auto_resume=auto_resume,
        debug=debug,
        build_network=_build_on_trial,
        **registered_components(),
    )


def _build_on_trial(network_opt: Mapping[str, Any]) -> None:
    """Build a network without memory for its weights, leaving the random numbers as they were.

    Raises:
        OptionsError: values that its constructor refuses.
    """
    import torch

    from hriusr.archs.registry import build_network

    with torch.random.fork_rng(devices=[]):
        try:
            with torch.device("meta"):
                build_network(network_opt)
        except Exception:
            # some of BasicSR's constructors look into their weights: what they refuse for real counts
            build_network(network_opt)


def run_option_file(option_file: Path, *, is_train: bool, **arguments) -> None:
    """Train or test as an option file says; arguments as load_checked_options has them."""
    try:
        options = load_checked_options(option_file, is_train=is_train, **arguments)
    except HriusrError:
        if (
            arguments.get("launcher", "none") != "none"
            and os.environ.get("RANK", os.environ.get("SLURM_PROCID")) != "0"
        ):
            time.sleep(_PATIENCE)  # process 0 says the same, and the launcher ends this one meanwhile
        raise
    if is_train:
        from hriusr.engine.train_loop import train

        train(options)
    else:
        from hriusr.engine.evaluate import test

        test(options)


def main_from_command_line(description: str, argv: Sequence[str] | None, *, is_train: bool) -> int:
    """Be train.py or test.py; return the exit status."""
    arguments = parse_arguments(description, argv)
    return run_guarded(
        lambda: run_option_file(
            arguments.opt,
            is_train=is_train,
            overrides=arguments.force_yml,
            launcher=arguments.launcher,
            auto_resume=arguments.auto_resume,
            debug=arguments.debug,
        )
    )

"""Writes files on a thread of its own, so that training goes on meanwhile.

One job at a time, in the order they came. An error of a job is raised in the training thread: at the next step, at the
next job, or at the end, whichever comes first.
"""

import logging
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor

logger = logging.getLogger(__name__)


class CheckpointWriter:
    """Context in which jobs are run beside the training; at its end the last one is waited for."""

    def __init__(self) -> None:
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="checkpoint")
        self._job: Future[None] | None = None

    def submit(self, job: Callable[[], None]) -> None:
        """Start a job; waits for the one before, so that at most one set of copies is in memory beside its own.

        Args:
            job: must not touch what training changes.

        Raises:
            Exception: what the job before raised.
        """
        self.wait()
        self._job = self._pool.submit(job)

    def check(self) -> None:
        """Raise the error of a job that has failed; does not wait."""
        if self._job is not None and self._job.done():
            self.wait()

    def wait(self) -> None:
        """Wait for the job in flight; raises its error, once."""
        job, self._job = self._job, None
        if job is not None:
            job.result()

    def __enter__(self) -> "CheckpointWriter":
        """Be waited for at the end of a with statement."""
        return self

    def __exit__(self, error_type: type[BaseException] | None, *_: object) -> None:
        """Wait for the last job; its error must not hide one that is on its way already."""
        try:
            self.wait()
        except Exception as error:
            if error_type is None:
                raise
            logger.error("%s", error)
        finally:
            self._pool.shutdown()

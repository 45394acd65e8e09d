"""What the tests of `hriusr prepare` share."""

import os

QUIET = {"progress": False, "num_processes": 1}


def counts(result):
    return result.num_made, result.num_kept


def age(path, seconds=100):
    """Make a file older."""
    past = path.stat().st_mtime - seconds
    os.utime(path, (past, past))

"""hriusr/train.py, which knows the study's own rivals too; study.py calls it, once a run."""

import sys

import rivals  # noqa: F401  registers them

from hriusr.train import main

if __name__ == "__main__":
    sys.exit(main())

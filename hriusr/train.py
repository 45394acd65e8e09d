"""Train a network as an option file says.

    python hriusr/train.py -opt options/train/quickstart_hriusr_x2.yml
    python hriusr/train.py -opt options/train/hriusr_light_x2.yml --force_yml train:ema_decay=0.99

The same command goes on after a stop of any kind. Also `python -m hriusr.train` and `hriusr train`.
"""

import os
import sys
from collections.abc import Sequence

if __name__ == "__main__" and not __package__:
    # run as a script: this folder stands first on the path and would shadow modules of other names
    here = os.path.dirname(os.path.abspath(__file__))
    sys.path[:] = [os.path.dirname(here), *(folder for folder in sys.path if os.path.abspath(folder) != here)]

from hriusr.entry import main_from_command_line


def main(argv: Sequence[str] | None = None) -> int:
    """Train; return the exit status."""
    return main_from_command_line("Train a network as an option file says.", argv, is_train=True)


if __name__ == "__main__":
    sys.exit(main())

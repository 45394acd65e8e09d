"""Test a trained network as an option file says: PSNR and SSIM a picture and in the mean, pictures saved.

    python hriusr/test.py -opt options/test/quickstart_hriusr_x2.yml
    python hriusr/test.py -opt options/test/benchmarks_x2.yml --force_yml path:pretrain_network_g=net_g_latest.pth

Also `python -m hriusr.test` and `hriusr test`.
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
    """Test; return the exit status."""
    return main_from_command_line("Test a network as an option file says.", argv, is_train=False)


if __name__ == "__main__":
    sys.exit(main())

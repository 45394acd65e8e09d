"""`python -m hriusr.cli` is the command `hriusr`."""

from hriusr.cli import main

main()

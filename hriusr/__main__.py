"""`python -m hriusr` is the command `hriusr`."""

from hriusr.cli import main

main()

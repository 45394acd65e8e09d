"""The command `hriusr`: a front of every job, each of them one function call away.

commands.py has the commands' list; every other file is one command or a few that belong together.
"""

from hriusr.cli.commands import app, main

__all__ = ["app", "main"]

"""Errors meant for the person at the keyboard: one clear message, no traceback.

Entry points print the message and exit with status 2. A message names the thing (file, key), its value and the remedy.
"""


class HriusrError(Exception):
    """Base of every error that a user can cause and mend."""


class ToldByAnotherError(HriusrError):
    """Another process of the same run has said what went wrong; this one ends without a word."""


class FolderBusyError(HriusrError):
    """Another process is at work in a folder."""


class OptionsError(HriusrError):
    """An option file that cannot be run; lists every problem found, one a line."""


class DataError(HriusrError):
    """A picture, folder or database that is missing, unreadable or does not fit."""


class WeightsError(HriusrError):
    """A weights file that is missing, unreadable or belongs to another network."""

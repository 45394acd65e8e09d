"""Find the word that was meant."""

import difflib
from collections.abc import Iterable


def nearest_word(word: str, known: Iterable[str]) -> str | None:
    """Return the known word that is spelt most like this one, or None where none is near."""
    by_lower_case = {name.lower(): name for name in known}
    nearest = difflib.get_close_matches(word.lower(), list(by_lower_case), n=1, cutoff=0.6)
    return by_lower_case[nearest[0]] if nearest else None


def did_you_mean(word: str, known: Iterable[str], list_all: bool = True) -> str:
    """Return the end of an error message that points to the right word.

    Args:
        word: what was written.
        known: what may be written.
        list_all: with no word near enough, list all of them.

    Returns:
        "; did you mean 'x'?", "; known: a, b" or nothing.
    """
    names = list(known)
    nearest = nearest_word(word, names)
    if nearest is not None:
        return f"; did you mean {nearest!r}?"
    return f"; known: {', '.join(names)}" if names and list_all else ""

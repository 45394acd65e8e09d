"""Pictures that come twice, and test pictures that are in the training set: whole, flipped, turned, or in parts."""

import itertools
from collections.abc import Iterator, Sequence

import numpy as np

from hriusr.doctor.findings import Report
from hriusr.doctor.fingerprints import eight_fingerprints, fingerprint, look_alike, luma_8bit
from hriusr.doctor.picture_facts import PictureFacts
from hriusr.doctor.pictures import Audit

# correlation of thumbnails; among 424 different photographs (DIV2K, General100, Urban100, Set5) 0.89 was the highest
SAME = 0.97
_MOST_COMPARED = 30_000  # pictures of one set compared with each other: 30 s on one core
_ROWS = 4096
_ALIKE = 0.4  # correlation of details; copies after JPEG 50, a cut border or halving: 0.55 to 1
_MOST_CLOSE_UPS = 500  # pairs that are read again


def note_duplicates(audit: Audit, report: Report) -> None:
    """Note pictures of one set that are alike."""
    first_of: dict[str, str] = {}
    equal: list[tuple[str, str]] = []
    for facts in audit.facts:
        if facts.digest and facts.digest in first_of:
            equal.append((first_of[facts.digest], facts.name))
        elif facts.digest:
            first_of[facts.digest] = facts.name
    _note_pairs(report, audit, equal, "equal to the pixel", "take one of each pair out: they weigh twice")
    if audit.num_looked_at > _MOST_COMPARED:
        report.add(
            "note", f"datasets.{audit.entry}", f"nearly equal pictures are not looked for above {_MOST_COMPARED}"
        )
        return
    known = {frozenset(pair) for pair in equal}
    candidates = (pair for pair in _near_pairs(audit) if frozenset(facts.name for facts in pair) not in known)
    near = [
        (first.name, second.name)
        for first, second in itertools.islice(candidates, _MOST_CLOSE_UPS)
        if _are_alike(first, second)
    ]
    _note_pairs(
        report, audit, near, "nearly equal", "look at them, and take one of each pair out if they are one picture"
    )


def _note_pairs(report: Report, audit: Audit, pairs: Sequence[tuple[str, str]], how: str, remedy: str) -> None:
    if pairs:
        level = "warning" if audit.is_training or how.startswith("equal") else "note"
        examples = tuple(f"{first} = {second}" for first, second in pairs)
        message = f"{len(pairs)} pairs of pictures are {how} (of {audit.num_looked_at} pictures)"
        report.add(level, f"datasets.{audit.entry}", message, remedy, examples)


def _are_alike(first: PictureFacts, second: PictureFacts) -> bool:
    """Read both pictures again and compare their details."""
    return look_alike(*(luma_8bit(facts.source.read()) for facts in (first, second))) > _ALIKE


def _near_pairs(audit: Audit) -> Iterator[tuple[PictureFacts, PictureFacts]]:
    """Yield pictures whose thumbnails correlate."""
    usable = [facts for facts in audit.facts if facts.small is not None]
    if not usable:
        return
    prints = np.stack([fingerprint(facts.small) for facts in usable])
    for start in range(0, len(prints), _ROWS):
        alike = prints[start : start + _ROWS] @ prints.T
        for row, column in np.argwhere(alike > SAME):
            if start + row < column:
                yield usable[start + row], usable[column]


def note_leaks(training: Audit, test_sets: Sequence[Audit], report: Report) -> None:
    """Note pictures of test sets that are in the training set.

    Args:
        training: its `shared` refers to all pictures with spots of test_sets, one set after the other.
        test_sets: what is validated or tested on.
        report: where findings go.
    """
    usable = [facts for facts in training.facts if facts.small is not None]
    prints = np.stack([fingerprint(facts.small) for facts in usable]) if usable else np.zeros((0, 256), np.float32)
    digests = {facts.digest: facts.name for facts in training.facts if facts.digest}
    owners = [(test, facts) for test in test_sets for facts in test.facts if facts.spots is not None]
    for test in test_sets:
        found: dict[str, str] = {}
        for facts in test.facts:
            if facts.digest in digests:
                found[facts.name] = digests[facts.digest]
            elif facts.small is not None and len(prints):
                alike = (eight_fingerprints(facts.small) @ prints.T).max(axis=0)
                best = usable[int(alike.argmax())]
                if alike.max() > SAME and _are_alike(facts, best):
                    found[facts.name] = best.name
        _note_leak(training, test, found, "are in the training set", report)
        parts = {}
        for number, owner in training.shared.items():
            owning_test, facts = owners[owner]
            if owning_test is test and facts.name not in found:
                parts.setdefault(facts.name, training.facts[number].name)
        _note_leak(training, test, parts, "share a part with pictures of the training set", report)


def _note_leak(training: Audit, test: Audit, found: dict[str, str], how: str, report: Report) -> None:
    if found:
        report.add(
            "error",
            f"datasets.{training.entry}",
            f"{len(found)} of {test.num_looked_at} pictures of {test.entry} {how}: its scores would mean nothing",
            "take them out of the training set (or of the list that meta_info_file names)",
            tuple(f"{name} in {place}" for name, place in found.items()),
        )

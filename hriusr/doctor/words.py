"""The report in plain words, for a terminal."""

from collections.abc import Iterator

from hriusr.doctor.findings import LEVELS, Finding, Report

_MARKS = {"error": "ERROR", "warning": "WARNING", "note": "note"}
_FEW = 3


def in_words(report: Report, *, examples: int = _FEW) -> Iterator[tuple[str | None, str]]:
    """Yield lines as (level of the finding that the line opens, or None; text).

    Args:
        report: what was found.
        examples: how many files to name for each finding.
    """
    for level in LEVELS:
        for finding in report.findings:
            if finding.level == level:
                yield from _finding(finding, examples)
    if report.measured:
        yield None, ""
        yield None, "Measured"
    for section, values in report.measured.items():
        yield from _section(section, values)
    yield None, ""
    counts = ", ".join(f"{report.count(level)} {level}{'' if report.count(level) == 1 else 's'}" for level in LEVELS)
    yield None, f"{counts}: {'nothing stands against starting' if report.is_healthy else 'mend the errors first'}"


def _finding(finding: Finding, examples: int) -> Iterator[tuple[str | None, str]]:
    yield finding.level, f"{_MARKS[finding.level]}  {finding.place}: {finding.message}"
    for example in finding.examples[:examples]:
        if example not in finding.message:
            yield None, f"         {example}"
    if len(finding.examples) > examples:
        yield None, f"         ... {len(finding.examples) - examples} more (--json lists all)"
    if finding.remedy:
        yield None, f"    do:  {finding.remedy}"


def _section(section: str, values: dict) -> Iterator[tuple[str | None, str]]:
    if section == "learning_rate":
        yield None, "  learning rate"
        for row in values["plot"]:
            yield None, f"    {row}"
        last = list(values["at"])[-1]
        yield None, f"    {'':8} 1{last:>59}"
        yield None, "    " + "   ".join(f"{mark}: {rate:.3g}" for mark, rate in values["at"].items())
        return
    words = ", ".join(f"{label.replace('_', ' ')} {_value(value)}" for label, value in values.items())
    yield None, f"  {section}: {words}"


def _value(value: object) -> str:
    return (
        f"{value:,.4g}"
        if isinstance(value, float) and abs(value) < 1000
        else f"{value:,.0f}"
        if isinstance(value, float)
        else f"{value:,}"
        if isinstance(value, int)
        else str(value)
    )

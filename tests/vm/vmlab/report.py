# SPDX-License-Identifier: Apache-2.0
"""What the JUnit file of a test run says."""

from __future__ import annotations

from dataclasses import astuple, dataclass
from pathlib import Path
from xml.etree import ElementTree

from vmlab.errors import LabError

__all__ = ["Tally", "read"]


@dataclass(frozen=True, slots=True)
class Tally:
    """Numbers of tests; `errors` are tests that failed outside their own body."""

    passed: int
    failed: int
    errors: int
    skipped: int

    @property
    def ran(self) -> int:
        return self.passed + self.failed + self.errors

    def __add__(self, other: Tally) -> Tally:
        return Tally(*(mine + theirs for mine, theirs in zip(astuple(self), astuple(other), strict=True)))

    def __str__(self) -> str:
        counts = {
            "failed": self.failed,
            "errors": self.errors,
            "passed": self.passed,
            "skipped": self.skipped,
        }
        return ", ".join(f"{count} {word}" for word, count in counts.items() if count) or "no tests"


def read(path: Path) -> Tally:
    """Adds up the suites of a JUnit file. Raises LabError if it is missing or unreadable."""
    try:
        suites = list(ElementTree.parse(path).iter("testsuite"))
        tests, failed, errors, skipped = (
            sum(int(suite.get(key, "0")) for suite in suites)
            for key in ("tests", "failures", "errors", "skipped")
        )
    except (OSError, ElementTree.ParseError, ValueError) as error:
        raise LabError(f"no test results in {path}: {error}") from error
    return Tally(max(tests - failed - errors - skipped, 0), failed, errors, skipped)

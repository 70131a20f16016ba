"""What the cases ended in, below the results of `make fuzz`."""

from __future__ import annotations

from collections import Counter, defaultdict

import pytest


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    ends: dict[str, Counter[str]] = defaultdict(Counter)
    for report in terminalreporter.getreports("passed"):
        for kind, counts in report.user_properties:
            ends[kind].update(counts)
    for kind, counts in ends.items():
        said = ", ".join(f"{count} {end}" for end, count in counts.most_common())
        terminalreporter.write_line(f"{counts.total()} {kind} cases ended: {said}")

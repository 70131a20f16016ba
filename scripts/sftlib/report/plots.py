"""Plots as text: inline SVG that takes its colours from the page, light or dark, and reaches for nothing outside it.

In: plain numbers. Out: `<svg ...>...</svg>`. matplotlib draws in colours that stand for the page's own, and these are
put in their place afterwards; so are fonts, and what would be the same name in two plots of one page.

    shares(["faq", "sums"], [0.4, 0.6], "Share of rows")  ->  '<svg viewBox="0 0 237 93" role="img" aria-label=...'

Every plot has its table beside it (analysis.html.jinja): what only a plot shows, nobody who cannot see it knows.
Worst bug: a plot in which two colours or labels cannot be told apart (looked at; what can be tested is in
tests/report/test_plots.py).
"""

from __future__ import annotations

import html
import io
import re
import zlib
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# In these colours matplotlib draws; the page has its own in their place.
COLOURS = {
    "#0a0b01": "--ink", "#0a0b02": "--muted", "#0a0b03": "--line", "#0a0b04": "--accent", "#0a0b05": "--second",
    "#0a0b06": "--third",
}  # fmt: skip
INK, MUTED, LINE, ACCENT, SECOND, THIRD = COLOURS
MARKS = ((SECOND, "--"), (THIRD, "-."), (INK, ":"))  # of upright lines: told apart without colour as well
WIDE, NARROW = (10.4, 3.3), (5.0, 2.3)  # inches: about the size at which the page shows them
STYLE = {
    "svg.fonttype": "none", "text.parse_math": False,
    "font.size": 9.5, "axes.edgecolor": LINE, "axes.labelcolor": MUTED, "text.color": INK,
    "xtick.color": MUTED, "ytick.color": MUTED, "axes.spines.top": False, "axes.spines.right": False,
    "legend.frameon": False, "grid.color": LINE, "grid.linewidth": 0.6,
}  # fmt: skip


def lengths(bars: Sequence[dict[str, int]], marks: Sequence[tuple[str, int]], unit: str, label: str) -> str:
    """Rows by length. marks: upright lines, each with its name; those right of the bars are left to the table."""
    with _drawing(label, WIDE) as (axes, done):
        lows, widths = [bar["low"] - 1 for bar in bars], [bar["high"] - bar["low"] + 1 for bar in bars]
        if len(widths) > 1:
            widths[-1] = widths[0]  # it holds the tail, however long that is
        axes.bar(lows, [bar["rows"] for bar in bars], widths, align="edge", color=ACCENT, edgecolor="none", alpha=0.85)
        end = lows[-1] + widths[-1]
        _mark(axes, marks, end * 1.02)
        axes.set(xlabel=f"{unit} in a row", ylabel="rows", xlim=(max(0, lows[0] - end * 0.02), end * 1.02))
        _ground(axes)
        _legend(axes)
    return done[0]


def kept(curve: Sequence[dict[str, Any]], marks: Sequence[tuple[str, int]], label: str) -> str:
    """Share of the supervised tokens that is kept at each limit, dropped or cut."""
    with _drawing(label, WIDE) as (axes, done):
        limits = [point["limit"] for point in curve]
        axes.plot(limits, [100 * point["dropped"] for point in curve], color=ACCENT, lw=2, label="longer rows dropped")
        axes.plot(
            limits,
            [100 * point["cut"] for point in curve],
            color=ACCENT,
            lw=1.4,
            ls=(0, (1, 1)),
            label="longer rows cut",
        )
        _mark(axes, marks, limits[-1] * 1.03)
        axes.set(xlabel="model.max_seq_len", ylabel="supervised tokens kept, %", ylim=(0, 104))
        axes.set_xlim(max(0, limits[0] - limits[-1] * 0.02), limits[-1] * 1.03)
        _ground(axes)
        _legend(axes)
    return done[0]


def shares(names: Sequence[str], values: Sequence[float], label: str) -> str:
    """Lying bars, one a name, with their shares in percent behind them."""
    size = (NARROW[0], max(1.2, 0.34 * len(names) + 0.5))
    with _drawing(label, size) as (axes, done):
        places = range(len(names), 0, -1)
        axes.barh(places, [100 * value for value in values], 0.62, color=ACCENT, alpha=0.85)
        for place, value in zip(places, values, strict=True):
            axes.text(100 * value + 1.5, place, f"{100 * value:.1f} %", va="center", color=MUTED)
        axes.set_yticks(list(places), list(names))
        axes.tick_params(axis="y", length=0, labelcolor=INK)
        axes.set_xlim(0, 100 * max(values) * 1.28)
        axes.xaxis.set_visible(False)
        axes.spines["bottom"].set_visible(False)
    return done[0]


def supervised(by_row: Sequence[int], share: float, label: str) -> str:
    """Rows by the share of them that is supervised."""
    with _drawing(label, NARROW) as (axes, done):
        width = 100 / len(by_row)
        axes.bar(
            [at * width for at in range(len(by_row))], by_row, width * 0.92, align="edge", color=ACCENT, alpha=0.85
        )
        _mark(axes, [(f"all rows together: {100 * share:.1f} %", 100 * share)], 100)
        axes.set(xlabel="supervised, % of a row", ylabel="rows", xlim=(0, 100))
        _ground(axes)
        _legend(axes)
    return done[0]


class _drawing:
    """A figure in the page's style; afterwards `done` holds its text."""

    def __init__(self, label: str, size: tuple[float, float]) -> None:
        self._label, self._size = label, size

    def __enter__(self) -> tuple[Axes, list[str]]:
        from matplotlib import rc_context
        from matplotlib.figure import Figure

        self._style = rc_context({**STYLE, "svg.hashsalt": self._label})
        self._style.__enter__()
        self._figure = Figure(figsize=self._size, layout="constrained", facecolor="none")
        self._done: list[str] = []
        axes = self._figure.add_subplot(facecolor="none")
        return axes, self._done

    def __exit__(self, kind: type[BaseException] | None, *error: object) -> None:
        if kind is None:
            stream = io.StringIO()
            self._figure.savefig(stream, format="svg", metadata={"Date": None}, transparent=True)
            self._done.append(_inlined(stream.getvalue(), self._label))
        self._style.__exit__(kind, *error)


def _inlined(svg: str, label: str) -> str:
    """The drawing as a part of the page: its colours, its font, names of its own, and a text for those who hear it."""
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.S)
    box = re.search(r'viewBox="[^"]+"', svg)
    assert box is not None
    head = f'<svg {box.group()} role="img" aria-label="{html.escape(label)}" preserveAspectRatio="xMinYMin">'
    svg = head + svg[svg.index(">") + 1 :]
    for colour, name in COLOURS.items():
        svg = svg.replace(colour, f"var({name})")
    svg = re.sub(r"(font: [\d.]+px) [^;\"]+", r"\1 var(--font)", svg)
    svg = re.sub(r"font-family: [^;\"]+", "font-family: var(--font)", svg)
    own = f"p{zlib.crc32(label.encode()):x}"
    svg = re.sub(r'\bid="([^"]+)"', rf'id="{own}-\1"', svg)
    svg = re.sub(r'(xlink:href="|url\()#', rf"\1#{own}-", svg)
    return "\n".join(line.strip() for line in svg.splitlines() if line.strip())


def _mark(axes: Axes, marks: Sequence[tuple[str, float]], end: float) -> None:
    for (name, place), (colour, dashes) in zip(marks, MARKS, strict=False):
        if place <= end:
            axes.axvline(place, color=colour, ls=dashes, lw=1.4, label=name)


def _ground(axes: Axes) -> None:
    axes.yaxis.grid(True)
    axes.set_axisbelow(True)
    axes.tick_params(length=0)
    from matplotlib.ticker import FuncFormatter

    plain = FuncFormatter(lambda value, _: f"{value:,.0f}" if value == int(value) else f"{value:g}")
    axes.xaxis.set_major_formatter(plain)
    axes.yaxis.set_major_formatter(plain)


def _legend(axes: Axes) -> None:
    handles, labels = axes.get_legend_handles_labels()
    if handles:
        axes.legend(handles, labels, loc="lower left", bbox_to_anchor=(0, 1.0), ncols=len(labels), borderaxespad=0.2)

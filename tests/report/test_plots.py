"""Plots take their colours from the page, say what they are, and do not change from one run to the next."""

from __future__ import annotations

import re

from sftlib.report import plots

BARS = [{"low": 1, "high": 50, "rows": 7}, {"low": 51, "high": 900, "rows": 3}]


def texts(svg: str) -> list[str]:
    return re.findall(r"<text[^>]*>([^<]*)</text>", svg)


def test_a_plot_says_what_it_is_and_is_the_same_each_time() -> None:
    svg = plots.shares(["faq", "a & b"], [0.25, 0.75], 'Share of "rows"')
    assert svg == plots.shares(["faq", "a & b"], [0.25, 0.75], 'Share of "rows"')
    assert svg.startswith('<svg viewBox="0 0 ')
    assert 'role="img" aria-label="Share of &quot;rows&quot;"' in svg
    assert {"faq", "a &amp; b", "25.0 %", "75.0 %"} <= set(texts(svg))


def test_every_colour_is_the_pages() -> None:
    svg = plots.lengths(BARS, [("95 % of rows: 60", 60)], "tokens", "Rows by length")
    assert set(re.findall(r"var\((--\w+)\)", svg)) >= {"--accent", "--second", "--muted", "--line", "--font"}
    assert set(re.findall(r"#[0-9a-f]{6}", svg)) <= {"#ffffff"}


def test_names_of_two_plots_differ() -> None:
    one, other = (plots.supervised([1, 2], 0.5, label) for label in ("one", "other"))
    assert not set(re.findall(r'id="([^"]+)"', one)) & set(re.findall(r'id="([^"]+)"', other))


def test_a_mark_beyond_the_bars_is_left_to_the_words() -> None:
    near = texts(plots.lengths(BARS, [("95 %: 60", 60), ("now: 5000", 5000)], "tokens", "lengths"))
    assert "95 %: 60" in near
    assert "now: 5000" not in near


def test_marks_are_told_apart_without_colour() -> None:
    curve = [{"limit": limit, "dropped": limit / 100, "cut": 1.0} for limit in (1, 50, 100)]
    svg = plots.kept(curve, [("a", 20), ("b", 40), ("c", 60)], "kept")
    assert {"longer rows dropped", "longer rows cut", "a", "b", "c"} <= set(texts(svg))
    assert len(set(re.findall(r"stroke-dasharray: ([\d., ]+)", svg))) == 4


def test_a_price_in_a_name_is_no_formula() -> None:
    assert "$a$ and $b$" in texts(plots.shares(["$a$ and $b$", "x"], [0.5, 0.5], "names"))

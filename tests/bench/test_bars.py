"""The benchmarks' last lines are read by programs, so their form is fixed."""

import pytest

from tests.bench.bars import Bar


@pytest.mark.parametrize(
    ("bar", "line"),
    [
        (Bar("idle.rss_mb", 61.25, at_most=80), "BAR idle.rss_mb 61.25 80 ok"),
        (Bar("idle.rss_mb", 80.0, at_most=80), "BAR idle.rss_mb 80 80 ok"),
        (Bar("idle.ready_seconds", 1.51, at_most=1.5), "BAR idle.ready_seconds 1.51 1.5 short"),
        (Bar("gateway.rps", 6.0, at_least=5), "BAR gateway.rps 6 5 ok"),
        (Bar("gateway.rps", 4.99, at_least=5), "BAR gateway.rps 4.99 5 short"),
    ],
)
def test_a_bar_is_one_line_with_its_verdict(bar: Bar, line: str) -> None:
    assert str(bar) == line

"""The line in which every benchmark states a figure."""

from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Bar:
    """A figure and the bar it is held against: exactly one of `at_most` and `at_least`."""

    figure: str
    value: float
    at_most: float | None = None
    at_least: float | None = None

    def is_reached(self) -> bool:
        if self.at_most is not None:
            return self.value <= self.at_most
        return self.at_least is not None and self.value >= self.at_least

    def __str__(self) -> str:
        bar = self.at_most if self.at_most is not None else self.at_least
        verdict = "ok" if self.is_reached() else "short"
        return f"BAR {self.figure} {self.value:.4g} {bar:g} {verdict}"


def print_bars(bars: Iterable[Bar]) -> None:
    for bar in bars:
        print(bar)

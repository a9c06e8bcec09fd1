"""Tables of what was measured beside its targets."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Target:
    """The target of a row; `at_most` tells which side is the good one."""

    must: float | None
    good: float | None
    at_most: bool

    def verdict(self, value: float) -> str:
        """GOOD, PASS or MISS; where nothing is a must, MISS cannot be."""
        if self.good is not None and self._reached(value, self.good):
            return "GOOD"
        return "PASS" if self.must is None or self._reached(value, self.must) else "MISS"

    def text(self, bound: float | None) -> str:
        return "" if bound is None else f"{'<=' if self.at_most else '>='} {bound:g}"

    def _reached(self, value: float, bound: float) -> bool:
        return value <= bound if self.at_most else value >= bound


@dataclass(frozen=True, slots=True)
class Row:
    """One line: a value in a unit, with the demand on it if there is one, and what else is to be seen."""

    name: str
    value: float
    unit: str
    target: Target | None = None
    note: str = ""

    @property
    def cells(self) -> list[str]:
        target = self.target
        return [
            self.name,
            f"{self.value:,.2f}" if abs(self.value) < 100 else f"{self.value:,.0f}",
            self.unit,
            target.text(target.must) if target else "",
            target.text(target.good) if target else "",
            target.verdict(self.value) if target else "",
            self.note,
        ]

    def as_json(self) -> dict[str, Any]:
        return asdict(self) | {"verdict": self.target.verdict(self.value) if self.target else None}


HEADER = ["", "value", "unit", "must", "good", "", "note"]


def table(rows: Sequence[Sequence[str]]) -> str:
    """Columns as wide as they need to be; the first line is the header."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    return "\n".join([lines[0], "  ".join("-" * width for width in widths), *lines[1:]])

"""Collecting many mistakes in one message."""

from __future__ import annotations

import re
from collections import Counter

MOST = 10
"""Maximum number of mistakes that are listed. The rest are counted."""


class Problems:
    """Mistakes found in a dataset. All are counted, and some of each kind are kept."""

    def __init__(self) -> None:
        self.number = 0
        self._by_kind: Counter[str] = Counter()
        self._kept: list[tuple[int, str]] = []

    def add(self, place: str, what: str) -> None:
        """Add a mistake.

        Args:
            place: Where it is, such as "image 3, annotation 6".
            what: What is wrong there.
        """
        self.number += 1
        kind = re.sub(r"\d+", "", what)
        self._by_kind[kind] += 1
        if self._by_kind[kind] <= MOST:
            self._kept.append((self._by_kind[kind], f"{place} {what}"))

    @property
    def title(self) -> str:
        """Number of mistakes, such as "3 mistakes"."""
        return f"{self.number} mistake{'s' if self.number > 1 else ''}"

    def __str__(self) -> str:
        """Return a line for each of the first ten mistakes, by kind in turn, and one for the
        rest."""
        first = [text for _, text in sorted(self._kept, key=lambda kept: kept[0])[:MOST]]
        more = self.number - len(first)
        return "\n".join(f"  {text}" for text in first) + (f"\n  and {more} more" if more else "")

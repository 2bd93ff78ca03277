"""numbering.py: numbers for things, so that a file can name each of them once and refer to it."""

from __future__ import annotations

from collections.abc import Hashable
from typing import TypeVar

Thing = TypeVar("Thing", bound=Hashable)


class Numbers(dict[Thing, int]):
    """Numbers from 0 for what is looked up, in the order of the first look."""

    def __missing__(self, key: Thing) -> int:
        return self.setdefault(key, len(self))

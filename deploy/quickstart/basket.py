"""A basket of goods whose prices are whole cents."""
from __future__ import annotations

import dataclasses
from collections.abc import Iterator


class UnknownItem(KeyError):
    """Raised when an item is asked for that was never added."""


@dataclasses.dataclass(frozen=True)
class Item:
    """Something that can be bought."""

    name: str
    cents: int

    def __post_init__(self) -> None:
        if self.cents < 0:
            raise ValueError(f"{self.name}: a price cannot be negative, found {self.cents}")


class Basket:
    """Items and how many of each, in the order in which they were added."""

    def __init__(self) -> None:
        self._counts: dict[Item, int] = {}

    def add(self, item: Item, count: int = 1) -> None:
        """Puts an item into the basket; count must be positive."""
        if count < 1:
            raise ValueError(f"expected a positive count, found {count}")
        self._counts[item] = self._counts.get(item, 0) + count

    def remove(self, item: Item) -> None:
        """Takes an item out of the basket, however many there were."""
        if item not in self._counts:
            raise UnknownItem(item.name)
        del self._counts[item]


    def __len__(self) -> int:
        """How many things are in the basket."""
        return sum(self._counts.values())

    def __iter__(self) -> Iterator[Item]:
        return iter(self._counts)

    def total(self) -> int:
        """What everything in the basket costs, in cents."""
        return sum(item.cents * count for item, count in self._counts.items())

    def count(self, name: str) -> int:
        """How many items of this name are in the basket."""
        for item, count in self._counts.items():
            if item.name == name:
                return count
        raise UnknownItem(name)

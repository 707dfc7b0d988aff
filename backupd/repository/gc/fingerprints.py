"""A set of many names in little memory."""

from __future__ import annotations

from array import array

_ROOM = 1 << 10
_BITS = (1 << 64) - 1


class Fingerprints:
    """Remembers 64 bits of each name, in 11 to 32 bytes.

    What was added is found, always. What was not is found by mistake once in 2^64 / `len` times: so it may
    decide what is kept, or what is looked at more closely, and nothing else.
    """

    def __init__(self) -> None:
        # Open addressing; 0 is a free place, and stands for 1 where a hash is 0.
        self._places = array("Q", bytes(8 * _ROOM))
        self._mask = _ROOM - 1
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def add(self, name: bytes) -> bool:
        """Remember a name; whether it was new."""
        value = hash(name) & _BITS or 1
        place = self._place(value)
        if self._places[place]:
            return False
        self._places[place] = value
        self._count += 1
        if self._count * 4 > len(self._places) * 3:
            self._grow()
        return True

    def __contains__(self, name: bytes) -> bool:
        return self._places[self._place(hash(name) & _BITS or 1)] != 0

    def _place(self, value: int) -> int:
        """Where the value is, or belongs."""
        places, mask = self._places, self._mask
        place = value & mask
        while (found := places[place]) and found != value:
            place = (place + 1) & mask
        return place

    def _grow(self) -> None:
        before = self._places
        self._places = array("Q", bytes(2 * 8 * len(before)))
        self._mask = len(self._places) - 1
        for value in before:
            if value:
                self._places[self._place(value)] = value

"""What a helper says on its standard error, kept within bounds."""

from __future__ import annotations

from collections import deque

_LINES = 200
_LINE_BYTES = 64 * 1024


class Messages:
    """The last lines that were said, and how many were said before them."""

    def __init__(self) -> None:
        self._kept: deque[str] = deque(maxlen=_LINES)
        self._said = 0
        self._rest = b""

    def add(self, content: bytes) -> None:
        """Take the next piece, which may end within a line."""
        *lines, self._rest = (self._rest + content).split(b"\n")
        self._rest = self._rest[:_LINE_BYTES]
        for line in lines:
            self._keep(line)

    @property
    def lines(self) -> tuple[str, ...]:
        """What is kept, oldest first; the first says how much is not."""
        self._keep(self._rest)
        self._rest = b""
        left_out = self._said - len(self._kept)
        return ((f"({left_out} earlier messages left out)",) if left_out else ()) + tuple(self._kept)

    def _keep(self, line: bytes) -> None:
        if line.strip():
            self._said += 1
            self._kept.append(line.decode(errors="backslashreplace").rstrip())

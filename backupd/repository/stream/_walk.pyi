"""The walk over small members in C; walk.py says what it means."""

def walk(
    window: memoryview, start: int, size: int, offset: int, chunk: int, /
) -> tuple[list[int], int, bool, bytes, tuple[int, ...], int]: ...

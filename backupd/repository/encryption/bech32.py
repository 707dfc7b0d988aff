"""Bech32 (BIP 173) without its limit of length: how age writes keys as text."""

from __future__ import annotations

_ALPHABET = "qpzry9x8gf2tvdw0s3jn54khce6mua7l"
_GENERATOR = (0x3B6A57B2, 0x26508E6D, 0x1EA119FA, 0x3D4233DD, 0x2A1462B3)
_CHECKSUM_DIGITS = 6


def decode(text: str) -> tuple[str, bytes]:
    """The prefix in lower case and the bytes; `ValueError`, which does not repeat the text, if it is none."""
    if text not in (text.lower(), text.upper()) or not text.isascii():
        raise ValueError("not bech32: letters of both cases, or of another alphabet")
    prefix, _, digits = text.lower().rpartition("1")
    values = [_ALPHABET.find(digit) for digit in digits]
    if not prefix or len(values) < _CHECKSUM_DIGITS or -1 in values:
        raise ValueError("not bech32")
    expanded = [ord(letter) >> 5 for letter in prefix] + [0] + [ord(letter) & 31 for letter in prefix]
    if _checksum(expanded + values) != 1:
        raise ValueError("not bech32: its checksum is another")
    return prefix, _bytes(values[:-_CHECKSUM_DIGITS])


def _checksum(values: list[int]) -> int:
    state = 1
    for value in values:
        top, state = state >> 25, (state & 0x1FFFFFF) << 5 ^ value
        for bit, factor in enumerate(_GENERATOR):
            if top >> bit & 1:
                state ^= factor
    return state


def _bytes(values: list[int]) -> bytes:
    number = 0
    for value in values:
        number = number << 5 | value
    unused = len(values) * 5 % 8
    if unused >= 5 or number & ((1 << unused) - 1):
        raise ValueError("not bech32: bits are left over")
    return (number >> unused).to_bytes(len(values) * 5 // 8, "big")

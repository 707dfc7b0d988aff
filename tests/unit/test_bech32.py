"""Bech32: the text that names a key names one key only."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backupd.repository.encryption import bech32

RECIPIENT = "age1zvkyg2lqzraa2lnjvqej32nkuu0ues2s82hzrye869xeexvn73equnujwj"


@pytest.mark.parametrize("text", [RECIPIENT, RECIPIENT.upper()])
def test_the_specifications_own_recipient_is_read(text: str) -> None:
    """In either case, but not in both."""
    prefix, content = bech32.decode(text)
    assert (prefix, len(content), content[:4].hex()) == ("age", 32, "132c442b")


@given(st.integers(0, len(RECIPIENT) - 1), st.sampled_from("qpzry9x8gf2tvdw0s3jn54khce6mua7l1b é"))
def test_one_other_letter_is_found_out(at: int, letter: str) -> None:
    """Wherever it is."""
    other = RECIPIENT[:at] + letter + RECIPIENT[at + 1 :]
    if other != RECIPIENT:
        with pytest.raises(ValueError, match="not bech32"):
            bech32.decode(other)


@pytest.mark.parametrize("text", ["", "1", "age1", "age1qqqqq", "AGE" + RECIPIENT[3:], RECIPIENT[4:]])
def test_what_is_no_bech32_is_refused(text: str) -> None:
    """Too short, of both cases, without a prefix."""
    with pytest.raises(ValueError, match="not bech32"):
        bech32.decode(text)


@pytest.mark.parametrize("text", ["a1qqqqqq5nq3wg", "a1pqrrf6xr"])
def test_bits_that_are_left_over_are_refused(text: str) -> None:
    """Five bits too many, or bits that should be zero: another text would mean the same bytes."""
    with pytest.raises(ValueError, match="not bech32"):
        bech32.decode(text)

"""Whether a volume can have changed, by the last events of an engine."""

from __future__ import annotations

from typing import Any

import pytest

from backupd.engine.memory import unchanged

RUN = "20261123T020000Z-7f3a"


def event(kind: str, action: str, identity: str = "", **attributes: str) -> dict[str, Any]:
    named = {name.replace("_", "/"): value for name, value in attributes.items()}
    return {"Type": kind, "Action": action, "Actor": {"ID": identity, "Attributes": named}}


HELPER = {"Type": "container", "Action": "create", "Actor": {"ID": "h", "Attributes": {"backupd.run": RUN}}}
READ = event("volume", "mount", "data", container="h", read_write="false")


@pytest.mark.parametrize(
    ("since", "same"),
    [
        ([], True),
        ([READ, event("volume", "unmount", "data", container="h")], True),
        ([READ, event("volume", "mount", "other", read_write="true")], True),
        ([READ, event("container", "start", "x"), event("network", "connect", "n")], True),
        ([READ, event("volume", "mount", "data", read_write="true")], False),
        ([READ, event("volume", "mount", "data")], False),
        ([READ, event("volume", "destroy", "data")], False),
        ([READ, event("volume", "destroy", "data"), event("volume", "create", "data")], False),
        ([READ, event("container", "extract-to-dir", "x")], False),
    ],
)
def test_what_happens_after_the_helper_decides(since: list[dict[str, Any]], same: bool) -> None:
    """A mount to write, a removal, a copy into a container: then the snapshot is not what is there."""
    assert unchanged([event("volume", "create", "data"), HELPER, *since], "data", RUN) is same


def test_a_memory_that_does_not_reach_back_proves_nothing() -> None:
    """The engine keeps 256 events; without the helper among them anything may have happened."""
    assert not unchanged([], "data", RUN)
    assert not unchanged([READ], "data", RUN)
    assert not unchanged([HELPER], "data", "another run")

"""The Docker Engine, and the image that helpers are made of."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime

from backupd.doctor.finding import Finding, bad, good, note
from backupd.engine.client import Engine
from backupd.engine.image import HelperImage
from backupd.gate.installation import weakness

SKEW_SECONDS = 5.0


def examine(engine: Engine) -> Iterator[Finding]:
    """That it answers, which version it is, and whether its clock is this machine's."""
    where = engine.socket or "the network"
    yield good("engine", f"Docker Engine {engine.version} answers on {where}")
    if engine.socket is None:
        yield note(
            "engine",
            "it is reached through the network: data comes at a tenth of the speed",
            "run backupd on the engine's own machine, if you can",
        )
    if weak := weakness(engine.version):
        yield note("engine", f"{engine.version}: {weak}", "update it to 25.0.16, 29.3.1 or later")
    yield _clock(engine, datetime.now(UTC))


def helper(image: HelperImage) -> Finding:
    """Which tar helpers have, and what that loses."""
    if image.tar == "gnu":
        return good("helper", f"{image.reference} has GNU tar {image.version}")
    return bad(
        "helper",
        f"{image.reference} has busybox tar only: extended attributes, ACLs, capabilities and holes are lost",
        "let the engine reach its registry once, or set helper.image to an image with GNU tar",
    )


def _clock(engine: Engine, now: datetime) -> Finding:
    ahead = (engine.clock() - now).total_seconds()
    if abs(ahead) <= SKEW_SECONDS:
        return good("clock", "the engine's clock and this one agree")
    return bad(
        "clock",
        f"the engine's clock is {abs(ahead):.0f} s {'ahead of' if ahead > 0 else 'behind'} this one",
        "let both follow the same time server: snapshots are named and kept by their time",
    )

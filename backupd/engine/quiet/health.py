"""A container that was started is waited for until it says that it is well."""

from __future__ import annotations

import time

from backupd.engine.client import Engine
from backupd.engine.quiet.condition import condition

HEALTHY_SECONDS = 120
"""How long a container with a health check may take to be healthy before the next one is started."""

_LOOK_SECONDS = 0.2


def wait_until_well(engine: Engine, container: str, name: str) -> str | None:
    """Wait until the container is healthy, or runs and has no check; what is wrong if that does not come."""
    deadline = time.monotonic() + HEALTHY_SECONDS
    while True:
        found = condition(engine, container, name)
        if found is None or found.removing:
            return f"{name} was removed after it was started again"
        if not found.running:
            return f"{name} was started again and ended with exit code {found.exit_code}"
        if found.health in (None, "none", "healthy"):
            return None
        if time.monotonic() > deadline:
            return f"{name} was started again and is {found.health} after {HEALTHY_SECONDS} s"
        time.sleep(_LOOK_SECONDS)

"""The shell recipe, run in a container that has the repository and standard tools, and no backupd."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from tests.docker.operations.conftest import Site


def run_with_repository(
    site: Site, volume: str, script: str, files: Mapping[Path, str] | None = None
) -> None:
    """Run a script with the volume at /volume, the repository at /repository, and `files` where they say."""
    api = site.context.engine.api
    binds = [f"{volume}:/volume", f"{site.directory / 'repository'}:/repository:ro"]
    binds += [f"{path}:{place}:ro" for path, place in (files or {}).items()]
    container = api.create_container(
        "backupd-test-tools",
        ["sh", "-euc", script],
        labels={"backupd.test": "true"},
        host_config=api.create_host_config(binds=binds, network_mode="none", cap_add=["SYS_ADMIN", "MKNOD"]),
    )["Id"]
    try:
        api.start(container)
        status = api.wait(container)["StatusCode"]
        assert status == 0, api.logs(container).decode(errors="replace")
    finally:
        api.remove_container(container, force=True)

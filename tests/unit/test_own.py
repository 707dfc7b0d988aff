"""The container that this process runs in is recognised by its own files, and by nothing else."""

from __future__ import annotations

from backupd.engine.own import OwnContainer, OwnMount, containers_in

OWN, OTHER = "a" * 64, "b" * 64


def line(root: str, mounted: str) -> str:
    return f"612 590 254:0 {root} {mounted} rw,relatime master:1 - ext4 /dev/vda rw"


def test_a_container_is_known_by_the_files_that_the_engine_gives_it() -> None:
    """The engine mounts three files out of a container's directory; they agree."""
    mounts = [
        line(f"/var/lib/docker/containers/{OWN}/{name}", f"/etc/{name}")
        for name in ("resolv.conf", "hostname", "hosts")
    ]
    assert containers_in("\n".join(mounts)) == (OWN,)


def test_a_stranger_s_container_is_not_taken_for_it() -> None:
    """On a host the mounts of all containers show, in one with the engine's directory too. (I6)"""
    strangers = [
        line(f"/containers/{OTHER}/mounts/shm", f"/var/lib/docker/containers/{OTHER}/mounts/shm"),
        line(
            f"/var/lib/docker/containers/{OTHER}/hostname",
            f"/host/var/lib/docker/containers/{OTHER}/hostname",
        ),
        line(f"/var/lib/docker/containers/{OTHER}", "/engine"),
    ]
    assert containers_in("\n".join(strangers)) == ()


def test_a_line_that_is_cut_is_passed_by() -> None:
    """What the kernel says is read, not trusted."""
    assert containers_in("612 590\n\n") == ()


def test_only_what_it_writes_to_is_its_own() -> None:
    """A volume that is mounted to be looked at is somebody's data; a directory of the host is no volume."""
    own = OwnContainer(
        OWN,
        "sha256:image",
        (
            OwnMount("volume", "backups", "/backups", True),
            OwnMount("volume", "shop_data", "/look", False),
            OwnMount("bind", "/srv/backupd", "/var/lib/backupd", True),
        ),
    )
    assert own.volumes == frozenset({"backups"})

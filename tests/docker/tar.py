"""Short ways to move a volume's tar stream in tests."""

from __future__ import annotations

import io
import os
import tarfile
from collections.abc import Mapping
from pathlib import Path

from backupd.engine.client import Engine
from backupd.engine.helper import TarOutput, export, extract
from backupd.engine.image import HelperImage
from backupd.engine.labels import HELPER, RUN

# Files run beside each other: each process sees its own helpers alone.
INSTANCE = f"backupd-test-{os.getpid()}"
RUN_ID = f"20260101T000000Z-{os.getpid()}"


def read_all(output: TarOutput, buffer_bytes: int = 1 << 20) -> bytes:
    """Everything tar writes."""
    buffer = memoryview(bytearray(buffer_bytes))
    content = bytearray()
    while size := output.readinto(buffer):
        content += buffer[:size]
    return bytes(content)


def save(
    engine: Engine, volume: str, image: HelperImage, fifo_dir: Path | None, exclude: tuple[str, ...] = ()
) -> bytes:
    """The volume's tar stream, over the transport that `fifo_dir` asks for."""
    with export(
        engine, volume, image, instance=INSTANCE, run=RUN_ID, fifo_dir=fifo_dir, exclude=exclude
    ) as output:
        output.begin()
        assert output.transport == ("fifo" if fifo_dir else "attach")
        content = read_all(output)
        assert output.finish().exit_code == 0
    return content


def load(engine: Engine, volume: str, image: HelperImage, fifo_dir: Path | None, content: bytes) -> None:
    """Unpack a tar stream into the volume."""
    with extract(engine, volume, image, instance=INSTANCE, run=RUN_ID, fifo_dir=fifo_dir) as entry:
        assert entry.transport == ("fifo" if fifo_dir else "attach")
        for start in range(0, len(content), 100_000):
            entry.write(memoryview(content)[start : start + 100_000])
        entry.finish()


def names(content: bytes) -> list[str]:
    """The members of a tar stream."""
    with tarfile.open(fileobj=io.BytesIO(content)) as archive:
        return archive.getnames()


def helpers(engine: Engine, run: str = RUN_ID) -> list[Mapping[str, object]]:
    """The helper containers of a run that the engine has."""
    labels = [f"{HELPER}=true", f"{RUN}={run}"]
    found: list[Mapping[str, object]] = engine.api.containers(all=True, filters={"label": labels})
    return found

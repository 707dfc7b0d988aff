"""The shell snippet makes `docker` mean backupd, and can be gone around."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

SNIPPET = Path(__file__).parents[3] / "deploy" / "guard.sh"


def test_docker_is_backupd_once_the_snippet_is_read(tmp_path: Path) -> None:
    """With its words as they were typed; `command docker` is docker."""
    for name in ("docker", "backupd"):
        program = tmp_path / name
        program.write_text(f'#!/bin/sh\necho {name}; for word; do echo "[$word]"; done\n', encoding="utf-8")
        program.chmod(0o755)
    script = f'. {SNIPPET}; docker volume rm "a b"; command docker ps'
    done = subprocess.run(
        ["sh", "-c", script],
        env={**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.split("\n")[:-1] == [
        "backupd",
        "[docker]",
        "[volume]",
        "[rm]",
        "[a b]",
        "docker",
        "[ps]",
    ]

"""Servers that are fetched before they can run."""

from __future__ import annotations

import subprocess
from pathlib import Path


def fetch(script: str) -> bool:
    """Have a server in the cache, by a script beside this file; False where this machine cannot have it."""
    code = subprocess.run([Path(__file__).with_name(script)], check=False).returncode
    assert code in (0, 3)
    return code == 0

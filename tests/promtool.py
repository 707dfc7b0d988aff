"""Prometheus's own judge of metrics and rules, where it can be had."""

from __future__ import annotations

import os
import shutil
import subprocess
from functools import lru_cache
from pathlib import Path

_ROOT = Path(__file__).parents[1]


@lru_cache(maxsize=1)
def promtool() -> str | None:
    """The program, fetched into the cache if need be; None on a machine that cannot have it."""
    found = shutil.which("promtool")
    if found is None:
        code = subprocess.run([_ROOT / "tests/engine/fetch", "promtool"], check=False).returncode
        assert code in (0, 3)
        cache = Path(os.environ.get("TESTS_CACHE") or _ROOT / ".cache")
        found = str(cache / "bin" / "promtool") if code == 0 else None
    return found


def judge(*words: str, text: str = "", directory: Path | None = None) -> None:
    """Have it check something; an error of the test where it complains. Nothing where it is not to be had."""
    program = promtool()
    if program is None:
        return
    done = subprocess.run(
        [program, *words], input=text, capture_output=True, text=True, cwd=directory, check=False
    )
    assert done.returncode == 0, f"{done.stdout}{done.stderr}"
    assert not done.stderr.strip(), done.stderr

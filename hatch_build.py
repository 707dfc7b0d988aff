"""Builds the part of backupd that is written in C, where there is a C compiler; without it all is slower."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
import sysconfig
import tempfile
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

SOURCE = "backupd/repository/stream/_walk.c"
BUILT = "backupd/repository/stream/_walk.abi3.so"
FLAGS = ["-std=c11", "-O3", "-fPIC", "-shared", "-fvisibility=hidden"]


class NativeWalk(BuildHookInterface):  # type: ignore[type-arg]
    """Adds the extension to wheels and to editable installs, or says in a line why it does not."""

    PLUGIN_NAME = "custom"

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Build; a wheel with the extension serves one platform and every Python from 3.11 on."""
        built = Path(self.root, BUILT)
        if problem := _compile(Path(self.root, SOURCE), built):
            built.unlink(missing_ok=True)
            self.app.display_warning(f"backupd is built without its C extension, and slower: {problem}")
            return
        platform = sysconfig.get_platform().replace("-", "_").replace(".", "_")
        build_data.update(pure_python=False, tag=f"cp311-abi3-{platform}")
        build_data["artifacts"].append(f"/{BUILT}")


def _compile(source: Path, built: Path) -> str:
    """Compile `source`; what kept the compiler from it, if anything did."""
    compiler = shlex.split(os.environ.get("CC") or sysconfig.get_config_var("CC") or "cc")
    include = sysconfig.get_path("include")
    if sys.implementation.name != "cpython" or sysconfig.get_config_var("Py_GIL_DISABLED"):
        return "it is for CPython with a GIL"
    if not Path(include, "Python.h").exists():
        return f"there is no Python.h in {include}"
    with tempfile.TemporaryDirectory(dir=built.parent) as work:
        made = Path(work, built.name)
        command = [*compiler, *FLAGS, f"-I{include}", str(source), "-o", str(made)]
        try:
            done = subprocess.run(command, stderr=subprocess.PIPE, text=True, check=False)
        except OSError as error:
            return f"{compiler[0]}: {error.strerror}"
        if done.returncode:
            return f"{compiler[0]} failed: {done.stderr.strip().splitlines()[0] if done.stderr else ''}"
        made.replace(built)  # never written in place: a process may have it mapped
    return ""

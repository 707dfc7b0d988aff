"""A place inside a volume where its new content is built, and its exchange for the old by renaming."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from backupd.engine.client import Engine
from backupd.engine.container import VOLUME_PATH, Task, run_to_end
from backupd.engine.helper import WRITE
from backupd.engine.image import CREATE_FLAGS, EXTRACT_FLAGS, HelperImage
from backupd.errors import HelperFailed

_PREFIX = ".backupd-restore"
_NEW, _PROVEN, _MOVING, _OLD, _ROOT = (
    f"{_PREFIX}-{state}" for state in ("new", "proven", "moving", "old", "root")
)

# Each script goes on where one that was killed has stopped: which directories there are says how far it
# came. Renaming within a volume moves no bytes. `.` is the volume; its own mode, owner and times come last,
# out of an archive that is read once more after it has been removed, for its removal changes the time.
_FUNCTIONS = f"""
content() {{
    find "$1" -mindepth 1 -maxdepth 1 ! -name lost+found ! -name '{_PREFIX}-*' -exec mv -f {{}} "$2/" ';'
}}
"""
_BEGIN = f"rm -rf {_NEW} {_PROVEN} {_ROOT}; mkdir {_NEW}; df -Pk . | tail -n 1"
_PROVE = f"tar $CREATE --no-recursion -C {_NEW} -f - . >{_ROOT}; mv {_NEW} {_PROVEN}; sync"
_SWAP = f"""
if [ -d {_PROVEN} ]; then mkdir -p {_OLD}; content . {_OLD}; mv {_PROVEN} {_MOVING}; sync; fi
if [ -d {_MOVING} ]; then content {_MOVING} .; rm -rf {_MOVING}; sync; fi
rm -rf {_OLD}
if [ -e {_ROOT} ]; then
    exec 3<{_ROOT}
    tar $EXTRACT -f - <{_ROOT}; rm {_ROOT}; tar $EXTRACT -f - <&3; sync
fi
"""
_UNDO = f"""
if [ ! -d {_PROVEN} ] && [ -d {_OLD} ]; then
    mkdir -p {_MOVING}; content . {_MOVING}; mv {_MOVING} {_PROVEN}; sync
fi
if [ -d {_OLD} ]; then content {_OLD} .; rmdir {_OLD}; sync; fi
rm -rf {_NEW} {_PROVEN} {_ROOT}
"""
_FINISH = f"""
if [ -d {_NEW} ]; then rm -rf {_NEW} {_ROOT}; echo undone; fi
if [ -e {_ROOT} ]; then echo finished; fi
{_SWAP}
"""


@dataclass(frozen=True)
class Staging:
    """The staging directory of one volume: `begin`, extract `below`, `prove`, `swap`; or `undo` it.

    Nobody may use the volume meanwhile. What a helper that was killed left half done, the same call, or
    `undo`, brings to its end. Each raises `EngineError`.
    """

    engine: Engine
    volume: str
    image: HelperImage
    instance: str
    run: str

    below = _NEW
    """Where in the volume the new content is extracted."""

    def begin(self) -> int:
        """Make it anew and empty; how many bytes the volume has left."""
        said = self._run(_BEGIN).split()
        try:
            return int(said[-3]) * 1024
        except (IndexError, ValueError):
            raise HelperFailed(f"cannot tell how much room volume {self.volume} has: {said}") from None

    def prove(self) -> None:
        """Note that the content is what it should be: from now on `swap` may be called, in any process."""
        self._run(_PROVE)

    def swap(self) -> None:
        """Let the new content take the place of the old, which is removed."""
        self._run(_SWAP)

    def undo(self) -> None:
        """Remove the new content; where it is in place already the old comes back, if it is still there."""
        self._run(_UNDO)

    def finish(self) -> Literal["finished", "undone", ""]:
        """For a restore that was killed: what was proven takes its place, what was not is removed.

        Which it was; empty where nothing was left to do, because it was all done or not begun.
        """
        said = self._run(_FINISH).strip()
        return "finished" if said == "finished" else "undone" if said == "undone" else ""

    def _run(self, script: str) -> str:
        flags = (" ".join(known[self.image.tar]) for known in (CREATE_FLAGS, EXTRACT_FLAGS))
        begun = "set -f; CREATE='{}' EXTRACT='{}'; cd {}".format(*flags, VOLUME_PATH)
        task = Task(
            image=self.image.reference,
            command=("sh", "-ec", f"{begun}\n{_FUNCTIONS}\n{script}"),
            volume=self.volume,
            writes=True,
            capabilities=WRITE,
            instance=self.instance,
            run=self.run,
        )
        return run_to_end(self.engine, task).decode(errors="replace")

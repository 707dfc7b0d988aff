"""What may be handed to a tar that extracts: nothing that reaches outside its directory."""

from __future__ import annotations

from collections.abc import Iterator

from backupd.errors import StreamRejected
from backupd.repository.stream.tarstream import BLOCK, is_trailer, padding, read_head


class Admission:
    """Looks at the members of one snapshot in order; remembers its symbolic links.

    A link may point anywhere, as links do. What must not be is a member whose path leads out, by itself or
    through such a link, and a hard link to something outside.
    """

    def __init__(self, snapshot: str) -> None:
        self._snapshot = snapshot
        self._links: set[bytes] = set()

    def admit(self, path: bytes, kind: str, target: bytes) -> None:
        """`StreamRejected` unless the member may be extracted after those that were admitted."""
        name = self._inside(path, path)
        if kind == "other":
            raise self._rejected(path, "is of no type that backupd saves")
        if name in self._links:
            raise self._rejected(path, "is there twice, once as a link")
        if kind == "symlink" or (kind == "hardlink" and self._inside(target, path) in self._links):
            self._links.add(name)

    def _inside(self, path: bytes, member: bytes) -> bytes:
        """The path in its shortest form, proven to stay inside."""
        parts = [part for part in path.split(b"/") if part not in (b"", b".")]
        if path.startswith(b"/") or b".." in parts:
            raise self._rejected(member, "leads out of the volume")
        if self._links and any(b"/".join(parts[:end]) in self._links for end in range(1, len(parts))):
            raise self._rejected(member, "lies behind a link")
        return b"/".join(parts)

    def _rejected(self, path: bytes, reason: str) -> StreamRejected:
        name = path.decode("utf-8", "replace")
        return StreamRejected(
            f"snapshot {self._snapshot} is not extracted: its member {name!r} {reason}",
            hint=f"backupd did not write this; `backupd export {self._snapshot} | tar tv` shows all it holds",
        )


def admitted(stream: Iterator[bytes], admission: Admission) -> Iterator[bytes | memoryview]:
    """The stream, no head of a member before it is admitted; `StreamRejected` where one is not."""
    rest, data_left, ended = b"", 0, False
    for content in stream:
        window = memoryview(rest + content if rest else content)
        at = min(data_left, len(window))
        data_left -= at
        while not data_left and not ended and len(window) - at >= BLOCK:
            if is_trailer(window, at):
                ended = True
            elif (member := read_head(window, at)) is None:
                break
            else:
                admission.admit(member.path, member.type, member.target)
                size = member.head_bytes + member.data_bytes + padding(member.data_bytes)
                data_left = max(0, at + size - len(window))
                at = min(at + size, len(window))
        if ended:
            if bytes(window[at:]).strip(b"\0"):
                raise StreamRejected("the tar stream goes on after its end")
            at = len(window)
        if at:
            yield window[:at]
        rest = bytes(window[at:])
    if rest:
        yield rest

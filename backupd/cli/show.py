"""`backupd show`."""

from __future__ import annotations

import base64
import json
import stat
import sys
from argparse import Namespace
from collections.abc import Iterable
from datetime import datetime
from typing import Any

from backupd.cli.output import speak
from backupd.opening import opened
from backupd.operations.show import show
from backupd.repository.stream.index import IndexEntry
from backupd.settings import Settings

_KINDS = {
    "file": stat.S_IFREG,
    "directory": stat.S_IFDIR,
    "symlink": stat.S_IFLNK,
    "fifo": stat.S_IFIFO,
    "character": stat.S_IFCHR,
    "block": stat.S_IFBLK,
}


def run(arguments: Namespace, settings: Settings) -> int:
    """List the members of a snapshot, each as soon as it is read: there may be millions."""
    speak(settings)
    with opened(settings) as repository:
        entries = show(repository, repository.find(None, arguments.snapshot), arguments.path)
        if arguments.json:
            _print_json(entries)
        else:
            for entry in entries:
                sys.stdout.write(_line(entry) + "\n")
    return 0


def _line(entry: IndexEntry) -> str:
    mode = stat.filemode(_KINDS.get(entry.type, stat.S_IFREG) | entry.mode)
    time = datetime.fromtimestamp(entry.mtime // 1_000_000_000).astimezone()
    arrow = {"symlink": " -> ", "hardlink": " link to "}.get(entry.type)
    target = f"{arrow}{printable(entry.target)}" if arrow else ""
    owner = f"{entry.uid}:{entry.gid}"
    return f"{mode} {owner:>11} {entry.size:>12} {time:%Y-%m-%d %H:%M:%S} {printable(entry.path)}{target}"


def printable(name: bytes) -> str:
    """A name on one line: what would move a terminal's cursor is escaped, as are bytes that are not UTF-8."""
    text = name.decode("utf-8", "backslashreplace")
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in text)


def _print_json(entries: Iterable[IndexEntry]) -> None:
    before = "["
    for entry in entries:
        sys.stdout.write(f"{before}\n{json.dumps(_as_json(entry), ensure_ascii=False)}")
        before = ","
    sys.stdout.write("\n]\n")


def _as_json(entry: IndexEntry) -> dict[str, Any]:
    facts = {
        **_name("path", entry.path),
        "type": entry.type,
        "size": entry.size,
        "mode": entry.mode,
        "uid": entry.uid,
        "gid": entry.gid,
        "mtime_ns": entry.mtime,
    }
    return {**facts, **_name("target", entry.target)} if entry.target else facts


def _name(key: str, name: bytes) -> dict[str, str]:
    try:
        return {key: name.decode()}
    except UnicodeDecodeError:
        return {f"{key}_base64": base64.b64encode(name).decode()}

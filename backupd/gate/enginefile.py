"""The engine's own settings: daemon.json, with the gate in it or without. Everything else in it stays."""

from __future__ import annotations

import json
import os
import shutil
from contextlib import suppress
from pathlib import Path
from typing import Any

from backupd.errors import ConfigError

KEY = "authorization-plugins"
COPY_SUFFIX = ".before-backupd-gate"


class EngineFile:
    """One daemon.json; a symbolic link is followed, the file it names is what changes."""

    def __init__(self, path: Path) -> None:
        self._shown = path
        self._path = Path(os.path.realpath(path))

    @property
    def copy(self) -> Path:
        """Where the file is kept as it was before the gate was put into it."""
        return self._path.with_name(self._path.name + COPY_SUFFIX)

    def plugins(self) -> list[str]:
        """The authorization plugins it names; `ConfigError` if it cannot be read."""
        return self._plugins(self._load())

    def add(self, plugin: str) -> None:
        """Name the plugin, after those that are named already, and keep a copy of the file as it was."""
        settings = self._load()
        plugins = self._plugins(settings)
        if plugin in plugins:
            return
        if self._path.exists():
            shutil.copy2(self._path, self.copy)
        self._write(settings | {KEY: [*plugins, plugin]})

    def remove(self, plugin: str) -> None:
        """Name the plugin no more. The file is what it was before `add`, where nothing else has changed."""
        settings = self._load()
        left = [name for name in self._plugins(settings) if name != plugin]
        wanted = {key: value for key, value in settings.items() if key != KEY or left}
        if left:
            wanted[KEY] = left
        if self._copied() == wanted:
            self.copy.replace(self._path)
        else:
            self._write(wanted)
            self.copy.unlink(missing_ok=True)

    def _load(self) -> dict[str, Any]:
        try:
            text = self._path.read_text(encoding="utf-8")
        except FileNotFoundError:
            return {}
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigError(f"cannot read {self._shown}: {error}") from error
        try:
            settings = json.loads(text) if text.strip() else {}
        except ValueError as error:
            raise ConfigError(
                f"{self._shown} is no JSON: {error}",
                hint="correct it first; the engine would not start with it either",
            ) from error
        if not isinstance(settings, dict):
            raise ConfigError(f"{self._shown} holds no JSON object")
        return settings

    def _plugins(self, settings: dict[str, Any]) -> list[str]:
        plugins = settings.get(KEY) or []
        if not isinstance(plugins, list) or not all(isinstance(name, str) for name in plugins):
            raise ConfigError(f"{KEY} in {self._shown} is no list of names")
        return plugins

    def _copied(self) -> Any:
        with suppress(OSError, ValueError):
            return json.loads(self.copy.read_text(encoding="utf-8") or "{}")
        return None

    def _write(self, settings: dict[str, Any]) -> None:
        """The whole file or nothing of it, whatever happens meanwhile; owner and mode stay."""
        self._path.parent.mkdir(parents=True, exist_ok=True)
        new = self._path.with_name(self._path.name + ".backupd-gate-new")
        try:
            with new.open("w", encoding="utf-8") as stream:
                stream.write(json.dumps(settings, indent=2, ensure_ascii=False) + "\n")
                stream.flush()
                os.fsync(stream.fileno())
            _take_after(self._path, new)
            new.replace(self._path)
        except OSError as error:
            new.unlink(missing_ok=True)
            raise ConfigError(f"cannot write {self._shown}: {error}") from error
        _sync(self._path.parent)


def _take_after(old: Path, new: Path) -> None:
    try:
        facts = old.stat()
    except FileNotFoundError:
        new.chmod(0o644)
    else:
        new.chmod(facts.st_mode & 0o7777)
        os.chown(new, facts.st_uid, facts.st_gid)


def _sync(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)

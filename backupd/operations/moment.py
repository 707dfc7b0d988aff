"""Which snapshots of several volumes belong together: pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from backupd.snapshot import Manifest, Window


@dataclass(frozen=True)
class Moment:
    """A snapshot for each volume, and what a person should know about how far they belong together."""

    manifests: tuple[Manifest, ...]
    remarks: tuple[str, ...] = ()


def newest_moment(manifests: Iterable[Manifest]) -> Moment:
    """For each volume among the snapshots the one to restore, all of one quiet where there was one.

    That is the newest quiet in which all was saved that was meant to be. It is passed over if each of its
    volumes has been saved since, for then the volumes have ceased to be read together. A volume that is not
    part of it, and each volume where there is none, has its newest snapshot.
    """
    found = sorted(manifests, key=lambda manifest: manifest.snapshot)
    newest = {manifest.volume.name: manifest for manifest in found}
    remarks: list[str] = []
    for window, saved in _runs(found):
        if all(newest[name].snapshot > manifest.snapshot for name, manifest in saved.items()):
            break
        if missing := sorted(set(window.volumes) - saved.keys()):
            remarks.append(f"run {window.run} is passed over: {', '.join(missing)} could not be saved in it")
            continue
        chosen = {**newest, **saved}
        remarks += _strangers(chosen, saved, window)
        return Moment(tuple(chosen[name] for name in sorted(chosen)), tuple(remarks))
    if len(newest) > 1:
        remarks.append("the volumes were not read together: each is as it was in its newest snapshot")
    return Moment(tuple(newest[name] for name in sorted(newest)), tuple(remarks))


def _runs(found: Sequence[Manifest]) -> Iterator[tuple[Window, Mapping[str, Manifest]]]:
    """The quiets and what was saved in each by volume, the newest first."""
    runs: dict[str, tuple[Window, dict[str, Manifest]]] = {}
    for manifest in found:
        if manifest.window:
            _, saved = runs.setdefault(manifest.window.run, (manifest.window, {}))
            saved[manifest.volume.name] = manifest
    for run in sorted(runs, reverse=True):
        yield runs[run]


def _strangers(
    chosen: Mapping[str, Manifest], saved: Mapping[str, Manifest], window: Window
) -> Iterator[str]:
    for name in sorted(chosen.keys() - saved.keys()):
        yield f"{name} was not read together with {', '.join(window.volumes)}"

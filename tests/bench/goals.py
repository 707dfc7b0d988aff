"""What backupd wants to reach, as ratios within one run."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from tests.bench.contest import Course, Result
from tests.bench.own import Pause

_MB = 1_000_000
_BACKUP_LIMIT_MB = 200
_DAEMON_LIMIT_MB = 100


@dataclass(frozen=True)
class Goal:
    """One goal with what it came to; `reached` is None where the other tool could not be had."""

    what: str
    corpus: str
    wanted: str
    figure: str
    reached: bool | None


def goals(
    results: Iterable[Result], idle_bytes: int | None, pause: Pause | None, *, s3: bool
) -> Iterator[Goal]:
    """Every goal for every corpus, and those that have none.

    In front of an S3 server backupd encrypts as restic does, and shall be no slower.
    """
    for result in results:
        if "backupd" in result.courses:
            yield from _of_corpus(result, s3=s3)
    if idle_bytes is not None:
        figure = idle_bytes / _MB
        yield Goal(
            "peak memory of the idle daemon", "", f"< {_DAEMON_LIMIT_MB} MB", f"{figure:.0f} MB", figure < 100
        )
    if pause is not None:
        figure_text = f"{pause.seconds:.2f} of {pause.of_seconds:.2f} s"
        shorter = pause.seconds < pause.of_seconds
        yield Goal(
            "containers are paused for less than the backup takes", "mixed", "less", figure_text, shorter
        )


def _of_corpus(result: Result, *, s3: bool) -> Iterator[Goal]:
    name, own = result.corpus, result.courses["backupd"]

    def other(key: str) -> Course | None:
        return result.courses.get(key)

    yield _faster(
        "first backup: one-liner / backupd", name, 8, _wall(other("one-liner"), "first"), _wall(own, "first")
    )
    yield _faster(
        "first backup: restic / backupd",
        name,
        1 if s3 else 2,
        _wall(other("restic"), "first"),
        _wall(own, "first"),
    )
    yield _within(
        "first backup: backupd / tar | zstd", name, 1.25, _wall(own, "first"), _wall(other("zstd"), "first")
    )
    yield _within(
        "unchanged backup: backupd / restic",
        name,
        1.0 if s3 else 1.4,
        _wall(own, "unchanged"),
        _wall(other("restic"), "unchanged"),
    )
    yield _within(
        "bytes stored after 1 % changed: backupd / restic", name, 1.2, _added(own), _added(other("restic"))
    )
    yield _within(
        "restore: backupd / restic", name, 1.0, _wall(own, "restore"), _wall(other("restic"), "restore")
    )
    yield _within(
        "restore: backupd / (zstd -dc | tar x)",
        name,
        1.2,
        _wall(own, "restore"),
        _wall(other("zstd"), "restore"),
    )
    yield _memory(name, own)
    yield Goal("restored tree", name, "exact", own.restored, own.restored == "exact")


def _faster(what: str, corpus: str, wanted: float, other: float | None, own: float | None) -> Goal:
    ratio = other / own if other and own else None
    return Goal(what, corpus, f">= {wanted:g}", _ratio(ratio), None if ratio is None else ratio >= wanted)


def _within(what: str, corpus: str, wanted: float, own: float | None, other: float | None) -> Goal:
    ratio = own / other if other and own else None
    return Goal(what, corpus, f"<= {wanted:g}", _ratio(ratio), None if ratio is None else ratio <= wanted)


def _memory(corpus: str, own: Course) -> Goal:
    peaks = [step.usage.peak_bytes or 0 for name, step in own.steps.items() if name != "restore"]
    peak = max(peaks) / _MB
    return Goal(
        "peak memory of a backup",
        corpus,
        f"< {_BACKUP_LIMIT_MB} MB",
        f"{peak:.0f} MB",
        peak < _BACKUP_LIMIT_MB,
    )


def _ratio(value: float | None) -> str:
    return "–" if value is None else f"{value:.2f}"  # noqa: RUF001


def _wall(course: Course | None, step: str) -> float | None:
    return course.steps[step].usage.wall if course and step in course.steps else None


def _added(course: Course | None) -> float | None:
    return course.steps["changed"].added if course and "changed" in course.steps else None

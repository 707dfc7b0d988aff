"""The contest: every tool through every step, on the same bytes at every step."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.bench import corpus
from tests.bench.contenders import Borg, Contender, OneLiner, Restic, TarZstd, fetch_borg, find_restic
from tests.bench.corpus import Corpus, Facts, Fingerprint
from tests.bench.measure import Step, Usage, median
from tests.bench.own import Backupd
from tests.bench.workshop import Workshop, say

STEPS = ("first", "unchanged", "changed", "restore")
ABSENT = "could not be had on this machine"

Make = Callable[[Workshop, Path], Contender]


@dataclass(frozen=True)
class Course:
    """What one tool did with one corpus: its steps by name; `restored` says how alike the trees were."""

    tool: str
    steps: Mapping[str, Step]
    restored: str


@dataclass(frozen=True)
class Result:
    """What all tools did with one corpus."""

    corpus: str
    facts: Facts
    courses: Mapping[str, Course]


def field(wanted: Sequence[str] | None) -> dict[str, Make | None]:
    """The tools by the key that `--only` takes; None where one could not be had."""
    restic = find_restic()
    makers: dict[str, Callable[[], Make | None]] = {
        "one-liner": lambda: OneLiner,
        "zstd": lambda: TarZstd,
        "restic": lambda: (lambda shop, path: Restic(shop, path, restic)) if restic else None,
        "borg": _borg,
        "backupd": lambda: Backupd,
    }
    return {key: make() for key, make in makers.items() if wanted is None or key in wanted}


def compete(shop: Workshop, volume: Corpus, makers: Mapping[str, Make | None], repeat: int) -> Result:
    """Let all tools save the corpus, save it unchanged, save it changed, and restore it.

    The first three steps are done `repeat` times and give medians; each repeated change is another one.

    Nothing is removed before the end: for minutes after many files were removed, ext4 looks at each of their
    inodes again before it hands out a new one, and whoever creates files then takes five times as long.
    """
    counted = corpus.facts(shop, volume.volume)
    say(f"{volume.name}: {counted.files} files, {counted.size_bytes / 1e6:.0f} MB")
    runners = [_Runner(shop, key, make, volume) for key, make in makers.items() if make]
    for _ in range(repeat):
        _each(runners, lambda runner: runner.first())
    # those that know no second backup restore now: after the change they would need another first one
    _restore(shop, volume, [runner for runner in runners if not runner.incremental])
    incremental = [runner for runner in runners if runner.incremental]
    for _ in range(repeat):
        _each(incremental, lambda runner: runner.again("unchanged"))
    for number in range(1, repeat + 1):
        say(f"{volume.name}: changing about 1 %")
        volume.change(number)
        _each(incremental, lambda runner: runner.again("changed"))
    _restore(shop, volume, incremental)
    courses = {runner.key: runner.course() for runner in runners}
    missing = {key: Course(key, {}, ABSENT) for key, make in makers.items() if make is None}
    return Result(volume.name, counted, courses | missing)


class _Runner:
    """One tool on its way through one corpus."""

    def __init__(self, shop: Workshop, key: str, make: Make, volume: Corpus) -> None:
        self.key = key
        self._shop, self._make, self._corpus = shop, make, volume
        self._attempts = 0
        self._steps: dict[str, list[Step]] = {}
        self._restored = ""
        self._tool = self._anew()

    @property
    def incremental(self) -> bool:
        return self._tool.incremental

    def first(self) -> None:
        """A backup into a repository of its own."""
        self._tool = self._anew()
        self._tool.prepare()
        self._steps.setdefault("first", []).append(self._backup("first"))

    def again(self, name: str) -> None:
        """One more backup into the same repository."""
        self._steps.setdefault(name, []).append(self._backup(name))

    def restore(self, original: Fingerprint) -> None:
        """Bring the last backup back into a new volume, and compare."""
        corpus.warm(self._shop, str(self._tool.repository))
        target = self._shop.reserve(f"restored-{self._directory.name}")
        asked = self._tool.requests()
        usage = self._tool.restore(self._corpus.volume, target)
        self._say("restore", usage)
        self._steps["restore"] = [Step(usage, requests=_since(asked, self._tool.requests()))]
        self._restored = corpus.likeness(self._shop, original, target)

    def course(self) -> Course:
        return Course(
            self._tool.name, {name: median(steps) for name, steps in self._steps.items()}, self._restored
        )

    def _anew(self) -> Contender:
        self._attempts += 1
        self._directory = self._shop.directory(
            f"{self.key}-{self._corpus.name.replace(' ', '-')}-{self._attempts}"
        )
        return self._make(self._shop, self._directory)

    def _backup(self, name: str) -> Step:
        corpus.warm(self._shop, self._corpus.volume)
        before, asked = self._tool.stored_bytes(), self._tool.requests()
        usage = self._tool.backup(self._corpus.volume)
        self._say(name, usage)
        requests = _since(asked, self._tool.requests())
        after = self._tool.stored_bytes()
        return Step(usage, after, after - before, requests)

    def _say(self, step: str, usage: Usage) -> None:
        say(f"{self._corpus.name}: {self._tool.name}: {step}: {usage.wall:.1f} s")


def _since(before: int | None, now: int | None) -> int | None:
    return None if before is None or now is None else now - before


def _restore(shop: Workshop, volume: Corpus, runners: Sequence[_Runner]) -> None:
    original = corpus.fingerprint(shop, volume.volume)
    _each(runners, lambda runner: runner.restore(original))


def _each(runners: Iterable[_Runner], do: Callable[[_Runner], None]) -> None:
    for runner in runners:
        do(runner)


def _borg() -> Make | None:
    root = fetch_borg()
    return (lambda shop, path: Borg(shop, path, root)) if root else None

"""The figures and goals as tables, on a terminal and in docs/BENCHMARKS.md."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from rich.console import Console
from rich.table import Table

from tests.bench.contest import STEPS, Result
from tests.bench.goals import Goal
from tests.bench.measure import Step
from tests.bench.workshop import run

NOTHING = "–"  # noqa: RUF001

FIGURES = (
    "tool",
    "step",
    "wall s",
    "tool s",
    "tool CPU s",
    "machine CPU s",
    "peak MB",
    "stored MB",
    "added MB",
    "requests",
)
GOALS = ("goal", "corpus", "wanted", "measured", "reached")
RESTORED = ("tool", "restored tree")

_MB = 1_000_000


@dataclass(frozen=True)
class Grid:
    """A table: a title, the names of its columns, rows of text. The first `words` columns are no figures."""

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    words: int


def grids(results: Iterable[Result], reached: Iterable[Goal]) -> list[Grid]:
    """All tables of a run: two for each corpus, and the goals."""
    made = []
    for result in results:
        size = f"{result.facts.files:,} files, {result.facts.size_bytes / _MB:,.0f} MB"
        made.append(Grid(f"Corpus: {result.corpus} ({size})", FIGURES, _figures(result), 2))
        likeness = [(course.tool, course.restored) for course in result.courses.values()]
        made.append(Grid(f"Restored from {result.corpus}", RESTORED, likeness, 2))
    made.append(Grid("Goals", GOALS, [_goal(goal) for goal in reached], 2))
    return made


def show(tables: Iterable[Grid]) -> None:
    """Print tables on the terminal."""
    console = Console(width=None if Console().is_terminal else 130)
    for grid in tables:
        table = Table(title=grid.title, title_justify="left")
        for number, column in enumerate(grid.columns):
            table.add_column(column, justify="left" if number < grid.words else "right")
        for row in grid.rows:
            table.add_row(*row)
        console.print(table)


def write(path: Path, tables: Iterable[Grid], command: str, load: float) -> None:
    """Write the page with the tables, the machine and its load before the run, and how they came about."""
    lines = [*machine(), f"Load average before the run: {load:.1f}"]
    parts = [_HEAD.format(command=command, machine="\n".join(f"- {line}" for line in lines))]
    parts += [f"## {grid.title}\n\n{_markdown(grid)}" for grid in tables]
    path.write_text("\n".join(parts), encoding="utf-8")


def machine() -> list[str]:
    """What the figures depend on: processor, memory, kernel, engine, date."""
    info = Path("/proc/cpuinfo").read_text()
    processors = [
        line.split(":", 1)[1].strip() for line in info.splitlines() if line.startswith("model name")
    ]
    memory = int(Path("/proc/meminfo").read_text().split()[1]) * 1024 / 2**30
    engine = run(["docker", "version", "--format", "{{.Server.Version}}"]).strip()
    driver = run(["docker", "info", "--format", "{{.Driver}}"]).strip()
    return [
        f"Processor: {processors[0] if processors else 'unknown'}, {len(processors)} cores",
        f"Memory: {memory:.0f} GiB",
        f"Kernel: {run(['uname', '-sr']).strip()}",
        f"Docker Engine: {engine}, {driver}",
        f"Date: {datetime.now(UTC):%Y-%m-%d}",
    ]


def _figures(result: Result) -> list[Sequence[str]]:
    rows: list[Sequence[str]] = []
    for course in result.courses.values():
        if not course.steps:
            rows.append((course.tool, course.restored, *[NOTHING] * 8))
        rows += [_row(course.tool, name, course.steps[name]) for name in STEPS if name in course.steps]
    return rows


def _row(tool: str, name: str, step: Step) -> Sequence[str]:
    usage = step.usage
    return (
        tool,
        name,
        _number(usage.wall),
        _number(usage.tool_wall),
        _number(usage.tool_cpu),
        _number(usage.machine_cpu),
        _megabytes(usage.peak_bytes, "{:.0f}"),
        _megabytes(step.stored, "{:.1f}"),
        _megabytes(step.added, "{:.1f}"),
        NOTHING if step.requests is None else f"{step.requests:,}",
    )


def _goal(goal: Goal) -> Sequence[str]:
    reached = NOTHING if goal.reached is None else "yes" if goal.reached else "NO"
    return (goal.what, goal.corpus, goal.wanted, goal.figure, reached)


def _number(value: float | None) -> str:
    return NOTHING if value is None else f"{value:.1f}"


def _megabytes(value: int | None, form: str) -> str:
    return NOTHING if value is None else form.format(value / _MB)


def _markdown(grid: Grid) -> str:
    rule = ["---" if number < grid.words else "---:" for number in range(len(grid.columns))]
    cells = [[cell.replace("|", "\\|") for cell in row] for row in (grid.columns, rule, *grid.rows)]
    return "".join(f"| {' | '.join(row)} |\n" for row in cells)


_HEAD = """\
# Benchmarks

All figures are from one run of `{command}`, every tool side by side on the same bytes. Only the ratios mean
something elsewhere. They are made again with `make bench`; its arguments are explained by
`make bench ARGS=--help`.

## Machine

{machine}

## What is measured

- *mixed*: a volume with text (20 %), binaries (up to 20 %), a PostgreSQL data directory filled by
  pgbench and shut down cleanly (40 %), and incompressible data (20 %, half of it in one file). *small
  files*: a volume of files of 0.2 to 12 KB, three of four are text.
- *first*: a backup into an empty repository. *unchanged*: one more. *changed*: one more after about 1 %
  has changed: some pgbench transactions and one in a hundred text files appended to, 4 KB inserted into
  the middle of the largest file; of the small files a third of 1 % each edited, added and removed.
  *restore*: the last backup into a new volume. The plain tars have no such steps as unchanged and
  changed, they take as long as the first; theirs is restored before the change.
- Each tool works in front of the volume as its users do: backupd on the host, with its own helper
  container; the others in a container that mounts the volume, the repository in a directory on the same
  disk. *wall s* is what a user waits for and has the container's start in it, backupd's as well as the
  others'. *tool s* is without the start of the container for the others, and all of it for backupd.
  *tool CPU s* is the process and its children; backupd's does not have the tar in the helper in it,
  *machine CPU s* is all that the machine did meanwhile, the engine included. *peak MB* is the largest
  process of the tool. *stored MB* is the size of all files of the repository, *added MB* what the step
  added; *requests* is for repositories on a server (`--s3`).
- Volume, or repository, are read once before every step, so the page cache is warm for all; what an
  earlier step left unwritten is written first.
- restic compresses at its default, zstd level 3, and encrypts (it cannot be told not to); borg uses
  level 3 and backupd level 2 (decisions/0006-compression-level.md says why) without encryption: what
  each comes to is in *stored MB*.
- The restored tree is compared with the original by a checksum of its tar: *exact* has owners, modes,
  nanoseconds, extended attributes and ACLs; *exact to the second* lost parts of a second or attributes,
  as tar's default format does; *all but times* lost times altogether, as busybox tar does for directories.
"""

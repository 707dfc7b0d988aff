"""Fills and changes the benchmark's volumes. Runs in a container with the volume at /data; needs only Python.

generate.py mixed SEED TEXT_BYTES BINARY_BYTES RANDOM_BYTES
generate.py small SEED FILES
generate.py change-mixed SEED ROUND
generate.py change-small SEED ROUND
"""

import os
import random
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

DATA = Path("/data")
EPOCH_NS = 1_700_000_000_000_000_000
VOCABULARY = 20_000
CHANGED = 0.01


def mixed(seed: str, text: str, binary: str, incompressible: str) -> None:
    """Text, the binaries of this image, and incompressible data, each of about so many bytes."""
    rng = random.Random(seed)
    writer = Prose(rng)
    left = int(text)
    for number in range(10**9):
        if left <= 0:
            break
        # many short ones and a few long ones, as in a directory of logs and sources
        size = min(left, int(2 ** rng.uniform(11, 22)))
        write(DATA / "text" / f"{number % 40:02}" / f"{number:05}.log", writer.text(size), rng)
        left -= size
    binaries(int(binary))
    half = int(incompressible) // 2
    write(DATA / "media" / "film.bin", rng.randbytes(half), rng)
    for number in range(20):
        write(DATA / "media" / f"photo-{number:02}.bin", rng.randbytes(half // 20), rng)


def small(seed: str, files: str) -> None:
    """A tree of files of 0.2 to 12 KB: three of four are text, one is incompressible."""
    rng = random.Random(seed)
    writer = Prose(rng)
    for number in range(int(files)):
        small_file(
            DATA / "small" / f"{number // 2000:03}" / f"{number // 40 % 50:02}" / f"{number:06}", rng, writer
        )


def change_mixed(seed: str, round_number: str) -> None:
    """Append to one in a hundred text files, and insert 4 KB into the middle of the largest file."""
    rng = random.Random(f"{seed}/{round_number}")
    writer = Prose(rng)
    for path in chosen(sorted((DATA / "text").rglob("*.log")), rng):
        with path.open("ab") as file:
            file.write(writer.text(2000))
    film = DATA / "media" / "film.bin"
    content = film.read_bytes()
    middle = rng.randrange(len(content))
    film.write_bytes(content[:middle] + rng.randbytes(4096) + content[middle:])


def change_small(seed: str, round_number: str) -> None:
    """Of the files edit, add and remove a third of one per cent each."""
    rng = random.Random(f"{seed}/{round_number}")
    writer = Prose(rng)
    picked = chosen(sorted(path for path in (DATA / "small").rglob("*") if path.is_file()), rng)
    third = len(picked) // 3
    for path in picked[:third]:
        path.unlink()
    for path in picked[third : 2 * third]:
        small_file(path.with_name(f"{path.name}.{round_number}"), rng, writer)
    for path in picked[2 * third :]:
        with path.open("ab") as file:
            file.write(writer.text(100))


class Prose:
    """What text in volumes looks like: lines of a log, between them words as uneven as real ones."""

    def __init__(self, rng: random.Random) -> None:
        self._rng = rng
        letters = "etaoinshrdlucmfwypvbgkjqxz"
        weights = range(len(letters), 0, -1)
        self._words = [
            "".join(rng.choices(letters, weights, k=rng.randint(2, 11))) for _ in range(VOCABULARY)
        ]
        total = 0.0
        self._cumulated = [total := total + 1 / (rank + 3) for rank in range(VOCABULARY)]

    def text(self, size: int) -> bytes:
        """About `size` bytes of lines."""
        words = self._rng.choices(self._words, cum_weights=self._cumulated, k=size // 20 + 8)
        lines = []
        for at in range(0, len(words), 14):
            lines.append(" ".join(words[at : at + 14]))
            lines += [self._log_line() for _ in range(2)]
        return "\n".join(lines).encode()[:size]

    def _log_line(self) -> str:
        draw = self._rng.randrange
        verb, noun = self._rng.choice(("GET", "GET", "GET", "POST", "DELETE")), self._words[draw(40)]
        return (
            f"2026-11-{draw(1, 29):02}T{draw(24):02}:{draw(60):02}:{draw(60):02}.{draw(1000):03}Z INFO api "
            f'"{verb} /api/{noun}/{draw(100_000)} HTTP/1.1" status=200 ms={draw(400)} user={draw(9000)}'
        )


def small_file(path: Path, rng: random.Random, writer: Prose) -> None:
    size = rng.randint(200, 12_000)
    write(path, rng.randbytes(size) if rng.random() < 0.25 else writer.text(size), rng)


def write(path: Path, content: bytes, rng: random.Random) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    moment = EPOCH_NS + rng.randrange(10**16)
    os.utime(path, ns=(moment, moment))


def binaries(budget: int) -> None:
    for path in own_binaries():
        size = path.stat().st_size
        if budget < size:
            continue
        target = DATA / "usr" / path.relative_to("/usr")
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(path, target)
        budget -= size


def own_binaries() -> Iterator[Path]:
    for directory, below, names in os.walk("/usr"):
        below.sort()
        for path in (Path(directory, name) for name in sorted(names)):
            if path.is_file() and not path.is_symlink():
                yield path


def chosen(paths: list[Path], rng: random.Random) -> list[Path]:
    return rng.sample(paths, max(3, round(len(paths) * CHANGED)))


if __name__ == "__main__":
    commands: dict[str, Callable[..., None]] = {
        "mixed": mixed,
        "small": small,
        "change-mixed": change_mixed,
        "change-small": change_small,
    }
    commands[sys.argv[1]](*sys.argv[2:])

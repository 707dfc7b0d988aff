"""Writes the golden vectors. Only ever run to add new ones: what is here must stay readable for good.

python -m tests.vectors.make
"""

from __future__ import annotations

import base64
import hashlib
import json
from pathlib import Path

import zstandard

from backupd.repository import Repository
from backupd.repository.chunker import Cutter
from backupd.repository.codec import Codec
from backupd.storage.local import LocalStorage
from tests.streams import save, tar_of

HERE = Path(__file__).parent
SNAPSHOT = "20261123T020000Z-7f3a"


def tree() -> dict[str, bytes]:
    """Small files, a large one, database pages, odd names; compressible, so that the vector stays small."""
    return {
        "./base/16384/2619": b"".join(b"page %d ".ljust(64) % number * 64 for number in range(150)),
        "./café": "naïve".encode(),
        "./empty": b"",
        "./lines.txt": b"".join(b"%d bottles of beer on the wall\n" % number for number in range(20_000)),
        "./new\nline": b"odd",
        **{f"./small/{number:03}": b"%d\n" % number * (number * 97 % 3000) for number in range(60)},
    }


def counter_noise(size: int) -> bytes:
    """SHA-256 in counter mode: noise that any language can make again."""
    blocks = (hashlib.sha256(number.to_bytes(8, "big")).digest() for number in range(size // 32))
    return b"".join(blocks)


def noise_stream() -> bytes:
    """24 MiB of noise in one large member, pages of a database beside it, small members around."""
    noise = counter_noise(25 * 1024 * 1024)
    return tar_of(
        {
            "./base/1/1259": noise[:700_000],
            "./large": noise[1_000_000:],
            **{f"./s/{number:04}": noise[: number * 131 % 30_000] for number in range(300)},
        }
    )


def chunks_of(stream: bytes) -> list[tuple[str, int]]:
    """Id and size of each chunk."""
    view, start, chunks = memoryview(stream), 0, []
    for end in Cutter(lambda *_: None).cut(view, last=True):
        chunks.append((Codec().identify(view[start:end]), end - start))
        start = end
    return chunks


def main() -> None:
    """Write everything that is not there yet."""
    if not (HERE / "format1").exists():
        storage = LocalStorage.create(HERE / "format1")
        save(Repository.init(storage), tar_of(tree()), host="db1", volume="shop_data", snapshot=SNAPSHOT)
        storage.close()
    if not (HERE / "cuts.json").exists():
        (HERE / "cuts.json").write_text(json.dumps(chunks_of(noise_stream()), indent=0) + "\n")
    if not (HERE / "invalid.json").exists():
        (HERE / "invalid.json").write_text(json.dumps(_invalid(), indent=1) + "\n")


def _invalid() -> list[dict[str, str]]:
    encode = Codec().encode
    one = encode(b"one")
    chunks = {
        "not zstd": b"one",
        "empty": b"",
        "cut short": one[:-1],
        "wrong checksum": one[:-1] + bytes([one[-1] ^ 1]),
        "another content": encode(b"two"),
        "two frames": one + one,
        "a byte after the frame": one + b"\0",
        "no content size": zstandard.ZstdCompressor(write_content_size=False).compress(b"one"),
        "a bomb": zstandard.compress(bytes(9 * 1024 * 1024)),
    }
    manifest = next((HERE / "format1").rglob("*-7f3a.json")).read_bytes()
    manifests = {
        "empty": b"",
        "not JSON": b"{",
        "not UTF-8": b'{"format":1,"host":"\xff"}',
        "a list": b"[]",
        "duplicate key": manifest[:-1] + b',"host":"other"}',
        "NaN": manifest.replace(b'"seconds":0.0', b'"seconds":NaN'),
        "a key is missing": manifest.replace(b'"host":"db1",', b""),
        "time without zone": manifest.replace(b'Z","format"', b'","format"'),
    }
    newer = {
        "format 2": manifest.replace(b'"format":1', b'"format":2'),
        "unknown feature": manifest.replace(b'"required_features":[]', b'"required_features":["packs"]'),
    }
    return [
        {"kind": kind, "error": error, "case": case, "object": base64.b64encode(content).decode()}
        for kind, error, cases in (
            ("chunk", "ObjectDamaged", chunks),
            ("manifest", "ObjectDamaged", manifests),
            ("manifest", "RepositoryUnsupported", newer),
        )
        for case, content in cases.items()
    ]


if __name__ == "__main__":
    main()

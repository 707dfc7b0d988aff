"""Writes the golden vectors. Only ever run to add new ones: what is here must stay readable for good.

python -m tests.vectors.make
"""

from __future__ import annotations

import base64
import hashlib
import json
from pathlib import Path

import zstandard

from backupd.repository import Keys, Repository
from backupd.repository.encryption import age
from backupd.repository.stream.chunker import Cutter
from backupd.repository.stream.codec import Codec
from backupd.repository.stream.padding import padding_frame
from backupd.storage.local import LocalStorage
from tests.streams import save, tar_of

HERE = Path(__file__).parent
ENCRYPTED = HERE / "format1-age"
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
    if not ENCRYPTED.exists():
        _make_encrypted()
    if not (ENCRYPTED / "invalid.json").exists():
        (ENCRYPTED / "invalid.json").write_text(json.dumps(_invalid_encrypted(), indent=1) + "\n")


def encrypted_keys() -> Keys:
    """What opens the encrypted repository: keys made for it, which protect nothing else."""
    return Keys(identity_file=ENCRYPTED / "key.txt", id_key_file=ENCRYPTED / "id_key")


def _make_encrypted() -> None:
    ENCRYPTED.mkdir()
    (one, public), (two, also) = age.new_identity(), age.new_identity()
    (ENCRYPTED / "key.txt").write_text(f"# made for this vector: {public}\n{one}\n")
    (ENCRYPTED / "key2.txt").write_text(f"# made for this vector: {also}\n{two}\n")
    (ENCRYPTED / "passphrase").write_text("made for this vector\n")
    keys = Keys((public, also), passphrase_file=ENCRYPTED / "passphrase", id_key_file=ENCRYPTED / "id_key")
    storage = LocalStorage.create(ENCRYPTED / "repository")
    save(
        Repository.init(storage, keys),
        tar_of(tree()),
        host="db1",
        volume="shop_data",
        snapshot=SNAPSHOT,
        concealed={"options.o": "username=shop,password=vector"},
    )
    storage.close()


def _invalid_encrypted() -> list[dict[str, str]]:
    """Chunks that are not what "one" makes, age files to the first key but where they say otherwise."""
    to = [age.recipient((ENCRYPTED / "key.txt").read_text().split()[5])]
    frame = Codec().encode(b"one")
    whole = padding_frame(len(frame)) + frame
    inside = {
        "no padding": frame,
        "padding alone": padding_frame(len(frame)),
        "padding after": frame + padding_frame(len(frame)),
        "padding longer than what is there": whole[:4] + b"\xff\xff\xff\x7f" + whole[8:],
        "empty": b"",
        "another content": padding_frame(len(frame)) + Codec().encode(b"two"),
        "two frames": whole + frame,
        "a byte after the frame": whole + b"\0",
        "wrong checksum": whole[:-1] + bytes([whole[-1] ^ 1]),
        "a bomb": padding_frame(300) + zstandard.compress(bytes(9 * 1024 * 1024)),
    }
    sealed = _sealed(whole, to)
    outside = {
        "no age file": whole,
        "nothing": b"",
        "cut short": sealed[:-1],
        "a byte more": sealed + b"\0",
        "a header alone": sealed[: sealed.index(b"\n--- ") + 49],
        "to somebody else": _sealed(whole, [age.recipient(age.new_identity()[1])]),
        "to a passphrase": age.wrap("one", (ENCRYPTED / "passphrase").read_text().strip()).encode(),
        "in armor of another": age.encrypt_armored(b"one", to).encode(),
    }
    objects = {case: _sealed(content, to) for case, content in inside.items()} | outside
    return [{"case": case, "object": base64.b64encode(content).decode()} for case, content in objects.items()]


def _sealed(content: bytes, to: list[age.Recipient]) -> bytes:
    return bytes(age.encrypt(content, to)[0])


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
        "unknown feature": manifest.replace(b'"required_features":[]', b'"required_features":["later"]'),
    }
    pack, chunk = f"packs/db1/shop_data/{SNAPSHOT}/0123456789abcdef.pack", 32 * "ab"
    lines = {
        "empty": "",
        "no slice": pack,
        "no id": f"{pack}@0+17",
        "a short id": f"{pack}@0+17 {chunk[1:]}",
        "an id in capitals": f"{pack}@0+17 {chunk.upper()}",
        "no bytes": f"{pack}@0+0 {chunk}",
        "a leading zero": f"{pack}@00+17 {chunk}",
        "before the beginning": f"{pack}@-1+17 {chunk}",
        "too far": f"{pack}@1000000000000+17 {chunk}",
        "too long": f"{pack}@0+1000000000 {chunk}",
        "digits of another script": f"{pack}@\u0663+17 {chunk}",
        "something after it": f"{pack}@0+17 {chunk} ",
        "another folder": f"sessions/db1/shop_data/{SNAPSHOT}/0123456789abcdef.pack@0+17 {chunk}",
        "a folder too many": f"packs/x/db1/shop_data/{SNAPSHOT}/0123456789abcdef.pack@0+17 {chunk}",
        "another ending": f"{pack[:-5]}@0+17 {chunk}",
    }
    return [
        {"kind": kind, "error": error, "case": case, "object": base64.b64encode(content).decode()}
        for kind, error, cases in (
            ("chunk", "ObjectDamaged", chunks),
            ("line", "ObjectDamaged", {case: line.encode() for case, line in lines.items()}),
            ("manifest", "ObjectDamaged", manifests),
            ("manifest", "RepositoryUnsupported", newer),
        )
        for case, content in cases.items()
    ]


if __name__ == "__main__":
    main()

"""Encrypted repositories: who has the keys reads, who has not does not, and who forges is found out."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import re
import textwrap
import threading
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pyrage
import pytest

from backupd.errors import (
    ConfigError,
    IntegrityError,
    KeyMissing,
    ObjectDamaged,
    RepositoryUnsupported,
    StorageError,
    StorageFull,
    WrongKey,
)
from backupd.operations.verify import verify
from backupd.progress import silent
from backupd.repository import Keys, Repository
from backupd.repository.encryption import age
from backupd.repository.gc.prune import execute, plan
from backupd.repository.history import forget
from backupd.repository.verification.finding import Finding
from backupd.storage.memory import MemoryStorage
from tests.faults import FaultyStorage
from tests.keys import KeyPair, age_pair, ssh_pair
from tests.streams import load, noise, save, tar_of

TREE = {"./secret plan": b"attack at dawn", "./big": noise(600_000, seed=3), "./text": b"words " * 50_000}


@pytest.fixture
def pair(tmp_path: Path) -> KeyPair:
    """Whose repository it is."""
    return age_pair(tmp_path)


@pytest.fixture
def id_key_file(tmp_path: Path) -> Path:
    """Where the id_key is."""
    return tmp_path / "state" / "id_key"


@pytest.fixture
def storage(pair: KeyPair, id_key_file: Path) -> FaultyStorage:
    """A storage with an encrypted repository."""
    made = FaultyStorage(MemoryStorage())
    Repository.init(made, pair.keys(id_key_file=id_key_file, reads=False))
    return made


@pytest.fixture
def repository(storage: FaultyStorage, pair: KeyPair, id_key_file: Path) -> Repository:
    """Opened with all keys."""
    return Repository.open(storage, pair.keys(id_key_file=id_key_file))


@pytest.fixture
def writer(storage: FaultyStorage, pair: KeyPair, id_key_file: Path) -> Repository:
    """Opened without an identity."""
    return Repository.open(storage, pair.keys(id_key_file=id_key_file, reads=False))


def stored(storage: FaultyStorage) -> dict[str, bytes]:
    """All objects."""
    return {info.key: storage.inner.get(info.key, limit_bytes=10**8) for info in storage.inner.list("")}


def exchange(storage: FaultyStorage, key: str, content: bytes) -> None:
    """Put something else under a key, as only somebody without scruples does."""
    storage.inner.delete(key)
    storage.inner.put(key, content)
    storage.inner.flush()


def test_what_was_saved_is_loaded(repository: Repository) -> None:
    """Stream and index."""
    manifest = save(repository, tar_of(TREE))
    assert load(repository, manifest) == tar_of(TREE)
    assert [entry.path.decode() for entry in repository.reader(manifest).members()] == sorted(TREE)
    assert repository.find("data") == manifest


def test_who_only_writes_writes_what_the_identity_reads(writer: Repository, repository: Repository) -> None:
    """Without an identity: save, deduplicate, list; nothing else is needed to restore than the identity."""
    first, second = save(writer, tar_of(TREE)), save(writer, tar_of(TREE))
    assert (second.chunks.new, second.bytes.stored) == (0, 0)
    assert {each.snapshot for each in writer.snapshots()} == {first.snapshot, second.snapshot}
    writer.reader(first).check_present()
    assert load(repository, repository.find("data")) == tar_of(TREE)


def test_who_only_writes_is_told_what_reading_takes(writer: Repository) -> None:
    """Stream, index and the check before a restore: what is missing, and where to do it."""
    manifest = save(writer, tar_of(TREE))
    reader = writer.reader(manifest)
    for read in (lambda: load(writer, manifest), lambda: list(reader.members()), reader.check_readable):
        with pytest.raises(KeyMissing, match="no identity is set") as caught:
            read()
        assert "encryption.identity_file" in str(caught.value.hint)


def test_nothing_of_the_content_is_in_the_open(writer: Repository, storage: FaultyStorage) -> None:
    """No content, no file name, no plain hash of any content."""
    save(writer, tar_of(TREE), concealed={"options.o": "password=hunter2"})
    everything = b"\n".join(key.encode() + b"\n" + content for key, content in stored(storage).items())
    for secret in (b"attack", b"secret plan", b"hunter2", hashlib.sha256(TREE["./big"]).hexdigest().encode()):
        assert secret not in everything


def test_what_a_volume_conceals_is_read_with_the_identity(writer: Repository, repository: Repository) -> None:
    """The first line of the index, which is no member."""
    manifest = save(writer, tar_of(TREE), concealed={"options.o": "password=hunter2"})
    reader = repository.reader(manifest)
    assert reader.concealed() == {"options.o": "password=hunter2"}
    assert [entry.path.decode() for entry in reader.members()] == sorted(TREE)


def test_an_identity_alone_opens_what_the_id_key_file_would(
    storage: FaultyStorage, pair: KeyPair, writer: Repository
) -> None:
    """Another host joins with the secret key only, and deduplicates against what is there."""
    save(writer, tar_of(TREE))
    other = Repository.open(storage, Keys(identity_file=pair.identity_file))
    assert load(other, other.find("data")) == tar_of(TREE)
    assert save(other, tar_of(TREE), host="other").chunks.new == 0


def test_the_id_key_alone_opens_for_writing(storage: FaultyStorage, id_key_file: Path) -> None:
    """Recipients need not be repeated: the marker that lists them carries a MAC."""
    save(Repository.open(storage, Keys(id_key_file=id_key_file)), tar_of(TREE))


def test_the_id_key_file_is_for_its_owner_only(storage: FaultyStorage, id_key_file: Path) -> None:
    """I21."""
    assert id_key_file.stat().st_mode & 0o777 == 0o600
    assert re.fullmatch(r"[0-9a-f]{64}\n", id_key_file.read_text())


def test_without_any_key_nothing_opens(storage: FaultyStorage, tmp_path: Path) -> None:
    """What is missing, and both ways to get it."""
    with pytest.raises(KeyMissing) as caught:
        Repository.open(storage, Keys(id_key_file=tmp_path / "none"))
    assert "identity_file" in str(caught.value.hint)
    assert str(tmp_path / "none") in str(caught.value.hint)


def _calls(storage: FaultyStorage) -> list[str]:
    return [call for call in storage.calls if "backupd.json" not in call]


def test_a_wrong_identity_is_its_own_error(storage: FaultyStorage, tmp_path: Path) -> None:
    """I17: before anything but the marker is read, and before any write."""
    wrong = age_pair(tmp_path, "wrong")
    storage.calls.clear()
    with pytest.raises(WrongKey, match=re.escape(str(wrong.identity_file))):
        Repository.open(storage, Keys(identity_file=wrong.identity_file))
    assert _calls(storage) == []


@pytest.mark.parametrize("reads", [False, True])
def test_a_wrong_id_key_is_its_own_error(
    storage: FaultyStorage, pair: KeyPair, tmp_path: Path, reads: bool
) -> None:
    """I17: with and without an identity that fits; a file that does not is never passed over."""
    other = tmp_path / "other"
    Repository.init(MemoryStorage(), pair.keys(id_key_file=other))
    storage.calls.clear()
    with pytest.raises(WrongKey, match=re.escape(str(other))) as caught:
        Repository.open(storage, pair.keys(id_key_file=other, reads=reads))
    assert "id_key_file" in str(caught.value.hint)
    assert _calls(storage) == []


@pytest.mark.parametrize("content", [b"", b"xyz", b"0" * 63, b"0" * 64 + b"\n\n", b"\xff" * 64])
def test_a_file_that_holds_no_id_key_is_named(storage: FaultyStorage, tmp_path: Path, content: bytes) -> None:
    """And what it holds is not repeated."""
    (tmp_path / "bad").write_bytes(content)
    with pytest.raises(ConfigError, match=re.escape(str(tmp_path / "bad"))):
        Repository.open(storage, Keys(id_key_file=tmp_path / "bad"))


@pytest.mark.parametrize(
    "keys",
    [
        lambda pair, path: pair.keys(reads=False),
        lambda pair, path: Keys(identity_file=pair.identity_file),
        lambda pair, path: Keys(passphrase_file=path),
        lambda pair, path: Keys(id_key_file=path),
    ],
    ids=["recipients", "identity", "passphrase", "id_key"],
)
def test_a_repository_that_should_be_encrypted_and_is_not_is_refused(
    pair: KeyPair, tmp_path: Path, keys: Callable[[KeyPair, Path], Keys]
) -> None:
    """Whoever exchanges the marker for a plain one gets nothing written in the open."""
    plain = MemoryStorage()
    Repository.init(plain)
    (tmp_path / "there").write_text("0" * 64)
    with pytest.raises(WrongKey, match="is not encrypted"):
        Repository.open(plain, keys(pair, tmp_path / "there"))


def _edited(marker: bytes, **changes: object) -> bytes:
    values = json.loads(marker)
    values["encryption"].update(changes)
    mac = values.pop("mac")
    return json.dumps(values, indent=1).encode()[:-1] + b',"mac":"' + mac.encode() + b'"}'


def test_a_recipient_added_to_the_marker_is_found_out(
    storage: FaultyStorage, id_key_file: Path, pair: KeyPair, tmp_path: Path
) -> None:
    """Who can write to the storage must not become one of those to whom everything is encrypted."""
    marker = stored(storage)["backupd.json"]
    evil = age_pair(tmp_path, "evil").recipient
    exchange(storage, "backupd.json", _edited(marker, recipients=[pair.recipient, evil]))
    for keys in (Keys(id_key_file=id_key_file), Keys(identity_file=pair.identity_file)):
        with pytest.raises(ObjectDamaged, match=r"backupd\.json"):
            Repository.open(storage, keys)


def test_a_marker_made_by_somebody_else_is_held_against_the_recipients(
    storage: FaultyStorage, pair: KeyPair, tmp_path: Path
) -> None:
    """A whole new marker to the public key that everybody knows, and one more."""
    evil = age_pair(tmp_path, "evil").recipient
    forged = FaultyStorage(MemoryStorage())
    Repository.init(forged, Keys((pair.recipient, evil), id_key_file=tmp_path / "forged"))
    exchange(storage, "backupd.json", stored(forged)["backupd.json"])
    with pytest.raises(WrongKey, match="other recipients"):
        Repository.open(storage, pair.keys())


@pytest.mark.parametrize(
    "changes",
    [{"scheme": "gpg"}, {"recipients": []}, {"recipients": "age1"}, {"id_key": None}, {"check": "é"}],
)
def test_an_encryption_of_another_kind_is_refused(
    storage: FaultyStorage, pair: KeyPair, changes: dict[str, object]
) -> None:
    """I16: as what it is, and not as a wrong key."""
    exchange(storage, "backupd.json", _edited(stored(storage)["backupd.json"], **changes))
    with pytest.raises(RepositoryUnsupported):
        Repository.open(storage, pair.keys())


def test_two_recipients_each_read_alone(tmp_path: Path, id_key_file: Path) -> None:
    """One writes for both."""
    one, two = age_pair(tmp_path, "one"), age_pair(tmp_path, "two")
    storage = MemoryStorage()
    made = Repository.init(storage, Keys((one.recipient, two.recipient), id_key_file=id_key_file))
    manifest = save(made, tar_of(TREE))
    for pair in (one, two):
        assert load(Repository.open(storage, Keys(identity_file=pair.identity_file)), manifest) == tar_of(
            TREE
        )


@pytest.mark.parametrize("kind", ["ed25519", "rsa"])
def test_ssh_keys_are_recipients(tmp_path: Path, id_key_file: Path, kind: str) -> None:
    """As they stand in a .pub file, comment included; a changed comment is no other key."""
    pair, storage = ssh_pair(tmp_path, kind), MemoryStorage()
    manifest = save(Repository.init(storage, pair.keys(id_key_file=id_key_file, reads=False)), tar_of(TREE))
    assert "me@host" not in storage.get("backupd.json", limit_bytes=10**5).decode()
    renamed = replace(pair.keys(), recipients=(pair.recipient.replace("me@host", "you@other"),))
    assert load(Repository.open(storage, renamed), manifest) == tar_of(TREE)


def test_a_passphrase_opens_what_was_made_with_it(tmp_path: Path, id_key_file: Path) -> None:
    """Alone, with no key pair to keep; another passphrase is a wrong key."""
    passphrase, storage = tmp_path / "passphrase", MemoryStorage()
    passphrase.write_text("correct horse\n")
    made = Repository.init(storage, Keys(passphrase_file=passphrase, id_key_file=id_key_file))
    manifest = save(made, tar_of(TREE))
    passphrase.write_text("correct horse")
    assert load(Repository.open(storage, Keys(passphrase_file=passphrase)), manifest) == tar_of(TREE)
    save(Repository.open(storage, Keys(id_key_file=id_key_file)), tar_of(TREE))
    passphrase.write_text("battery staple")
    with pytest.raises(WrongKey, match=re.escape(str(passphrase))) as caught:
        Repository.open(storage, Keys(passphrase_file=passphrase))
    assert "staple" not in f"{caught.value} {caught.value.hint}"


def test_a_passphrase_opens_on_a_machine_that_is_busy_for_a_moment(monkeypatch: pytest.MonkeyPatch) -> None:
    """What age takes for a slow machine is asked again; a file that is made to keep it busy stays shut."""
    wrapped = age.wrap("secret", "pass")
    ask, answers = pyrage.passphrase.decrypt, [pyrage.DecryptError("Excessive work parameter")] * 3

    def busy(sealed: bytes, passphrase: str) -> bytes:
        if answers:
            raise answers.pop()
        return bytes(ask(sealed, passphrase))

    monkeypatch.setattr("pyrage.passphrase.decrypt", busy)
    assert age.unwrap(wrapped, "pass") == "secret"
    monkeypatch.undo()
    body = base64.b64decode("".join(wrapped.splitlines()[1:-1]))
    slow = base64.b64encode(re.sub(rb"(-> scrypt \S+) \d+\n", rb"\1 40\n", body)).decode()
    armor = "\n".join([wrapped.splitlines()[0], *textwrap.wrap(slow, 64), wrapped.splitlines()[-1], ""])
    with pytest.raises(age.Undecryptable, match="excessive work"):
        age.unwrap(armor, "pass")


def test_a_passphrase_stands_beside_recipients(tmp_path: Path, pair: KeyPair, id_key_file: Path) -> None:
    """Either opens, and the settings' recipients need not name the one that the passphrase has."""
    passphrase, storage = tmp_path / "passphrase", MemoryStorage()
    passphrase.write_text("correct horse")
    keys = Keys((pair.recipient,), passphrase_file=passphrase, id_key_file=id_key_file)
    manifest = save(Repository.init(storage, keys), tar_of(TREE))
    for opening in (replace(keys, id_key_file=None), Keys(identity_file=pair.identity_file)):
        assert load(Repository.open(storage, opening), manifest) == tar_of(TREE)


def test_a_passphrase_for_a_repository_without_one_is_a_wrong_key(
    storage: FaultyStorage, tmp_path: Path, id_key_file: Path
) -> None:
    """I17."""
    (tmp_path / "passphrase").write_text("x")
    with pytest.raises(WrongKey, match="has no passphrase"):
        Repository.open(storage, Keys(passphrase_file=tmp_path / "passphrase", id_key_file=id_key_file))


def test_init_with_an_identity_that_does_not_fit_makes_nothing(
    pair: KeyPair, tmp_path: Path, id_key_file: Path
) -> None:
    """I17: found out at once, and not at the first restore."""
    storage, wrong = MemoryStorage(), age_pair(tmp_path, "wrong")
    with pytest.raises(WrongKey):
        Repository.init(
            storage, replace(pair.keys(id_key_file=id_key_file), identity_file=wrong.identity_file)
        )
    assert list(storage.list("")) == []
    assert not id_key_file.exists()


def test_init_keeps_an_id_key_that_is_there(pair: KeyPair, id_key_file: Path) -> None:
    """It may be the only one of another repository."""
    id_key_file.parent.mkdir()
    id_key_file.write_text("0" * 64)
    storage = MemoryStorage()
    with pytest.raises(ConfigError, match=re.escape(str(id_key_file))):
        Repository.init(storage, pair.keys(id_key_file=id_key_file))
    assert list(storage.list("")) == []
    assert id_key_file.read_text() == "0" * 64


def test_init_that_fails_leaves_no_id_key(pair: KeyPair, id_key_file: Path) -> None:
    """R1: so that it can be tried again."""

    def full(call: str) -> StorageError | None:
        return StorageFull("no room") if call == "put backupd.json" else None

    storage = FaultyStorage(MemoryStorage(), fail_when=full)
    with pytest.raises(StorageFull):
        Repository.init(storage, pair.keys(id_key_file=id_key_file))
    assert not id_key_file.exists()
    Repository.init(storage.inner, pair.keys(id_key_file=id_key_file))


def test_an_identity_without_recipients_does_not_make_a_plain_repository(pair: KeyPair) -> None:
    """Who sets a secret key means to encrypt."""
    storage = MemoryStorage()
    with pytest.raises(ConfigError) as caught:
        Repository.init(storage, Keys(identity_file=pair.identity_file))
    assert f"age-keygen -y {pair.identity_file}" in str(caught.value.hint)
    assert list(storage.list("")) == []


def _alterations(manifest: bytes) -> dict[str, bytes]:
    values = json.loads(manifest)
    mac = values.pop("mac")
    plain = json.dumps({**values, "encrypted": False}, separators=(",", ":"), sort_keys=True).encode()
    return {
        "another host": manifest.replace(b'"host":"host"', b'"host":"evil"'),
        "another chunk list": manifest.replace(b'"chunks":"', b'"chunks":"0', 1),
        "a warning less": manifest.replace(b'"warnings":[]', b'"warnings":["x"]'),
        "no MAC": json.dumps(values, separators=(",", ":"), sort_keys=True).encode(),
        "no MAC, not encrypted": plain,
        "MAC of zeros": manifest.replace(mac.encode(), b"0" * 64),
        "MAC in front": b'{"mac":"' + mac.encode() + b'",' + json.dumps(values).encode()[1:],
        "a space more": manifest.replace(b'"format":1', b'"format": 1'),
        "empty": b"",
    }


@pytest.mark.parametrize("case", list(_alterations(b'{"mac":"00"}')))
def test_an_altered_manifest_is_named(writer: Repository, storage: FaultyStorage, case: str) -> None:
    """Found by who has the id_key, which takes no identity: nobody else wrote it, and nothing is missing."""
    manifest = save(writer, tar_of(TREE))
    altered = _alterations(stored(storage)[manifest.key])[case]
    assert altered != stored(storage)[manifest.key]
    exchange(storage, manifest.key, altered)
    with pytest.raises(IntegrityError, match=re.escape(manifest.key)):
        writer.snapshots()


def test_a_manifest_under_another_name_is_refused(writer: Repository, storage: FaultyStorage) -> None:
    """Signed, but an old snapshot is not passed off as the newest, or as another volume's."""
    manifest = save(writer, tar_of(TREE))
    for name in (
        "snapshots/host/data/20991231T000000Z-0000.json",
        f"snapshots/b/c/{manifest.snapshot}.json",
    ):
        exchange(storage, name, stored(storage)[manifest.key])
        with pytest.raises(ObjectDamaged, match=re.escape(name)):
            writer.snapshots()
        storage.inner.delete(name)


def test_content_can_not_be_made_to_name_the_mac_of_a_manifest(
    writer: Repository, storage: FaultyStorage, id_key_file: Path
) -> None:
    """Chunk ids are MACs of what people store, in the open: they must be good for nothing else."""
    manifest = save(writer, tar_of(TREE))
    signed = stored(storage)[manifest.key]
    mac, body = json.loads(signed)["mac"], re.sub(rb',"mac":"[0-9a-f]{64}"}$', b"}", signed)
    assert writer.chunks.prepare(body, lambda chunk: None).chunk != mac
    id_key = bytes.fromhex(id_key_file.read_text())
    signing_key = hmac.digest(id_key, b"backupd manifest", "sha256")
    assert hmac.digest(signing_key, body, "sha256").hex() == mac
    published = writer.chunks.prepare(b"backupd manifest", lambda chunk: None).chunk
    assert signing_key.hex() != published


@pytest.mark.parametrize("bit", [0, 100, 999, 12345, -1])
def test_a_flipped_bit_in_any_object_is_named_and_never_returned(
    storage: FaultyStorage, repository: Repository, bit: int
) -> None:
    """R4: pack, chunk list, index, manifest."""
    manifest = save(repository, tar_of(TREE))
    for key in stored(storage):
        if not key.startswith(("packs/", "snapshots/")):
            continue
        storage.flip_bit(key, bit)
        with pytest.raises(IntegrityError, match=re.escape(key)):
            _read_all(repository)
        storage._damage.clear()
    assert load(repository, manifest) == tar_of(TREE)


def _read_all(repository: Repository) -> None:
    for manifest in map(repository.load, repository.places()):
        list(repository.reader(manifest).members())
        load(repository, manifest)


def test_a_chunk_in_another_chunks_place_is_refused(storage: FaultyStorage, repository: Repository) -> None:
    """Whole, encrypted to us, and not what the chunk list says."""
    manifest = save(repository, tar_of(TREE))
    one, two, *_ = repository.reader(manifest).slices()
    frame = storage.get_range(two.pack, two.offset, two.length)
    pack = stored(storage)[one.pack]
    exchange(storage, one.pack, pack[: one.offset] + frame.ljust(one.length, b"x") + pack[one.end :])
    with pytest.raises(ObjectDamaged, match=re.escape(str(one))):
        repository.chunks.load_only(one)
    with pytest.raises(ObjectDamaged, match=re.escape(one.pack)):
        _read_all(repository)


def test_no_secret_is_in_what_can_be_printed(
    repository: Repository, pair: KeyPair, id_key_file: Path
) -> None:
    """I21: values of ours as they would stand in a log or a traceback."""
    keys = pair.keys(id_key_file=id_key_file)
    seen = " ".join(
        map(repr, (keys, repository, vars(repository), repository.chunks, repository._encryption))
    )
    assert pair.secret not in seen
    assert id_key_file.read_text().strip() not in seen


def test_a_host_that_only_writes_can_verify_all_but_the_data(
    writer: Repository, storage: FaultyStorage
) -> None:
    """Without an identity listings and hashes are checked, nobody is accused, and data is refused."""
    manifest = save(writer, tar_of(TREE))
    assert _verified(writer) == []
    with pytest.raises(KeyMissing):
        _verified(writer, share=1.0)
    storage.flip_bit(manifest.index_key, 100)
    assert [found.object for found in _verified(writer)] == [manifest.index_key]
    storage._damage.clear()
    gone = next(writer.reader(manifest).slices()).pack
    storage.inner.delete(gone)
    assert [found.object for found in _verified(writer)] == [gone]


def _verified(repository: Repository, share: float = 0.0) -> list[Finding]:
    found: list[Finding] = []
    verify(repository, share=share, found=found.append, progress=silent, cancel=threading.Event())
    return found


def test_a_host_that_only_writes_prunes_and_heals(
    writer: Repository, repository: Repository, storage: FaultyStorage
) -> None:
    """R4: keys of collections and of damage work the same, and no identity is needed for either."""
    gone, kept = save(writer, tar_of(TREE)), save(writer, tar_of({"./big": TREE["./big"]}))
    forget(storage, [gone])
    cancel = threading.Event()
    for _ in range(2):
        execute(storage, plan(storage, grace=timedelta(), cancel=cancel), cancel=cancel)
    left = {info.key for info in storage.list("packs/")}
    assert left == {each.pack for each in repository.reader(kept).slices()}
    for key in left:
        storage.inner.delete(key)
    assert {found.object for found in _verified(writer)} == left
    again = save(writer, tar_of({"./big": TREE["./big"]}))
    assert all(each.pack not in left for each in repository.reader(again).slices())
    assert load(repository, kept) == load(repository, again) == tar_of({"./big": TREE["./big"]})

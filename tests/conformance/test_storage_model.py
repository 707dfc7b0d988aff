"""Every storage behaves as a dictionary that is never overwritten, whatever the order of calls."""

from __future__ import annotations

import tempfile
from io import BytesIO
from pathlib import Path

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test

from backupd.storage.base import Storage
from tests.conformance.conftest import Factory

KEYS = st.sampled_from(["a", "b/a", "b/b", "b-c", "b.c/d", "ü/x", "chunks/ab/1", "chunks/ab/2", "chunks/b/1"])
BYTES = st.binary(max_size=2000)
PREFIXES = st.sampled_from(["", "b", "b/", "chunks/a", "chunks/ab/", "z", "b.c/d/"])


def machine(factory: Factory) -> type[RuleBasedStateMachine]:
    """A state machine for the storages that this factory makes."""

    class AgainstDictionary(RuleBasedStateMachine):
        def __init__(self) -> None:
            super().__init__()
            self.folder = tempfile.TemporaryDirectory()
            self.storage: Storage = factory(Path(self.folder.name))
            self.model: dict[str, bytes] = {}

        @rule(key=KEYS, content=BYTES)
        def put(self, key: str, content: bytes) -> None:
            assert self.storage.put(key, content) is (key not in self.model)
            self.model.setdefault(key, content)

        @rule(key=KEYS, content=BYTES)
        def put_file(self, key: str, content: bytes) -> None:
            assert self.storage.put_file(key, BytesIO(content)) is (key not in self.model)
            self.model.setdefault(key, content)

        @rule(key=KEYS)
        def delete(self, key: str) -> None:
            self.storage.delete(key)
            self.model.pop(key, None)

        @rule(key=KEYS)
        def read(self, key: str) -> None:
            assert self.storage.exists(key) is (key in self.model)
            if key in self.model:
                content = self.model[key]
                assert self.storage.get(key, limit_bytes=2000) == content
                if content:
                    half = len(content) // 2
                    assert self.storage.get_range(key, half, len(content) - half) == content[half:]

        @rule(prefix=PREFIXES)
        def flush_and_list(self, prefix: str) -> None:
            self.storage.flush()
            listed = [(info.key, info.size_bytes) for info in self.storage.list(prefix)]
            assert listed == sorted((k, len(v)) for k, v in self.model.items() if k.startswith(prefix))

        @invariant()
        def lists_only_what_is_there(self) -> None:
            assert {info.key for info in self.storage.list()} <= set(self.model)

        def teardown(self) -> None:
            self.storage.close()
            self.folder.cleanup()

    return AgainstDictionary


def test_storage_behaves_as_a_dictionary_without_overwriting(
    factory: Factory, request: pytest.FixtureRequest
) -> None:
    """Any sequence of calls answers as a plain dictionary would that keeps the first value of a key."""
    examples = 8 if request.node.get_closest_marker("s3") else 40
    run_state_machine_as_test(
        machine(factory), settings=settings(max_examples=examples, stateful_step_count=30, deadline=None)
    )

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path

import pytest

from ringfence.seal.signing import SigningKey, load_or_create
from ringfence.seal.verify import Examination, examine_stream
from tests.seal import sample


@pytest.fixture(scope="session")
def key(tmp_path_factory: pytest.TempPathFactory) -> SigningKey:
    return load_or_create(tmp_path_factory.mktemp("key") / "seal.key")


@pytest.fixture(scope="session")
def bundle(tmp_path_factory: pytest.TempPathFactory, key: SigningKey) -> bytes:
    """The sample bundle's bytes."""
    path = tmp_path_factory.mktemp("bundle") / "INC-1.tar"
    sample.write(path, key)
    return path.read_bytes()


@pytest.fixture(scope="session")
def examine(key: SigningKey) -> Callable[[bytes], Examination]:
    """Examine bytes as a bundle, with the right key."""
    return lambda data: examine_stream(io.BytesIO(data), key.public_key)


@pytest.fixture
def bundle_file(tmp_path: Path, bundle: bytes) -> Path:
    path = tmp_path / "INC-1.tar"
    path.write_bytes(bundle)
    return path

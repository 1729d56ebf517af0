"""Golden bundles of every version of the format, made by make_golden.py: each later release must verify them.

A failure here means that evidence sealed in the field no longer verifies. Never regenerate; add a version.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from ringfence.seal.keys import public_key_from_pem
from ringfence.seal.signing import SigningKey
from ringfence.seal.verify import verify_bundle
from tests.seal import sample
from tests.seal.archive import members, statement_of

GOLDEN = Path(__file__).parent / "golden"

SHA256 = {"v1": "d29f42cecd93c44828cb7af1a4bffe0fc07ddc44facf9e09ac95eb2b03ae5547"}


@pytest.mark.parametrize("version", SHA256)
def test_a_golden_bundle_still_verifies(version: str) -> None:
    key = public_key_from_pem((GOLDEN / f"{version}.pub").read_bytes())
    seal = verify_bundle(GOLDEN / f"{version}.tar", key)
    assert seal.sha256 == SHA256[version]
    assert seal.predicate.seal_id == "INC-1/seal/1"
    assert [(item.id, item.result.value) for item in seal.items] == [
        ("pod", "collected"),
        ("logs/cards/current", "collected"),
        ("logs/cards/again", "collected"),
        ("logs/cards/previous", "absent"),
        ("events", "denied"),
    ]


def test_every_golden_bundle_is_tested() -> None:
    assert {path.stem for path in GOLDEN.glob("*.tar")} == set(SHA256)


def test_today_the_same_facts_give_the_same_documents(tmp_path: Path, key: SigningKey) -> None:
    """The format has not moved: statement, manifest and chains are the golden ones, byte for byte."""
    golden = (GOLDEN / "v1.tar").read_bytes()
    today = sample.write(tmp_path / "today.tar", key).path.read_bytes()
    assert statement_of(today) == statement_of(golden)
    assert members(today)[1:4] == members(golden)[1:4]

"""Redacted copies: nothing that went is anywhere in them, an auditor can verify them, and the record tells of them."""

from __future__ import annotations

import base64
import hashlib
import hmac
import io
import json
import re
import string
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import zstandard
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ringfence.errors import EvidenceError, Tampered, TargetError, VaultError
from ringfence.evidence.disclosure import Disclosed, disclose
from ringfence.evidence.redaction.hunt import MOST_FROM_TEXT, Hunt, variants
from ringfence.evidence.redaction.items import Wish
from ringfence.evidence.redaction.lines import LONGEST_LINE, redact_lines
from ringfence.evidence.redaction.rules import FieldRule, Pattern, Rules, Scanner, without
from ringfence.evidence.redaction.tally import Tally
from ringfence.evidence.redaction.tree import NoJson, Walker, parse
from ringfence.evidence.vault import Vault
from ringfence.model.custody import EvidenceDisclosed
from ringfence.model.evidence import Seal
from ringfence.seal import cli as verifier
from ringfence.seal.signing import SigningKey
from ringfence.store import evidence
from ringfence.store.database import Store
from tests.evidence.furniture import NOW, declare, events, seal_items

PASSWORD = "corr3ct-h0rse"
JWT = "eyJhbGciOiJSUzI1NiJ9.eyJzdWIiOiJzeXN0ZW0ifQ.c2lnbmF0dXJl"
KEY = "-----BEGIN PRIVATE KEY-----\n" + "\n".join(["MIGHAgEAMBMGByqGSM49" + str(n) for n in range(9)])
KEY += "\n-----END PRIVATE KEY-----"
AWS = "AKIAIOSFODNN7EXAMPLE"
LOG = f"""2026-11-23T03:00:00Z start as bank-user
2026-11-23T03:00:01Z connect db password={PASSWORD} ok
2026-11-23T03:00:02Z Authorization: Bearer {JWT}
2026-11-23T03:00:03Z {base64.b64encode(b"user:" + PASSWORD.encode()).decode()}
2026-11-23T03:00:04Z key {AWS}
{KEY}
2026-11-23T03:00:05Z served /cards?q=1
""".encode()
APPLIED = json.dumps({"kind": "Pod", "spec": {"containers": [{"env": [{"name": "DB_PASSWORD", "value": PASSWORD}]}]}})
POD = json.dumps(
    {
        "kind": "Pod",
        "metadata": {"name": "cards-1", "annotations": {"kubectl.kubernetes.io/last-applied-configuration": APPLIED}},
        "spec": {
            "nodeName": "worker-17",
            "volumes": [{"name": "t", "secret": {"secretName": "cards-db"}}],
            "containers": [
                {
                    "env": [{"name": "DB_PASSWORD", "value": PASSWORD}, {"name": "PORT", "value": "8080"}],
                    "args": ["--api-token", "t0ken-value-1", "--verbose"],
                }
            ],
        },
    }
).encode()
SECRETS = json.dumps(
    {"kind": "SecretList", "items": [{"data": {"p": base64.b64encode(b"only-in-the-secret").decode()}}]}
).encode()
ITEMS = {
    "pod": ("application/json", POD),
    "logs/cards/current": ("text/plain; charset=utf-8", LOG),
    "events": ("application/json", b'{"kind": "EventList", "items": []}'),
    "secrets": ("application/json", SECRETS),
    "node/files": ("application/x-tar", b"\0" * 600 + PASSWORD.encode()),
}
WENT = (PASSWORD, JWT, AWS, "MIGHAgEAMBMGByqGSM490", "t0ken-value-1", "only-in-the-secret")


@pytest.fixture
def vault(tmp_path: Path) -> Vault:
    return Vault(tmp_path / "vault")


Make = Callable[..., Disclosed]


@pytest.fixture
def seal(fresh_store: Store, vault: Vault, signing_key: SigningKey) -> Seal:
    return seal_items(fresh_store, vault, signing_key, declare(fresh_store), ITEMS)


@pytest.fixture
def make(fresh_store: Store, vault: Vault, signing_key: SigningKey, seal: Seal, tmp_path: Path) -> Make:
    def made(rules: Rules | None = None, **more: Any) -> Disclosed:
        wish = Wish("the police", "case 7", rules or Rules(), **more)
        return disclose(fresh_store, vault, signing_key, seal, tmp_path / "out", wish, actor="local/a", now=NOW)

    return made


def everything(path: Path) -> dict[str, bytes]:
    """The bundle's bytes as they lie, every member by its name, and every blob as it was before it was packed."""
    raw = path.read_bytes()
    found = {"the file": raw}
    with tarfile.open(fileobj=io.BytesIO(raw)) as bundle:
        for member in bundle:
            opened = bundle.extractfile(member)
            assert opened is not None
            data = opened.read()
            found[f"{member.name} (packed)"] = data
            if member.name.startswith("blobs/"):
                data = zstandard.ZstdDecompressor().decompressobj().decompress(data)
            found[member.name] = data
    envelope = json.loads(found["seal.json"])
    found["statement"] = base64.b64decode(envelope["payload"])
    return found


def item(path: Path, name: str) -> bytes:
    found = everything(path)
    (entry,) = [one for one in json.loads(found["manifest.json"])["items"] if one["id"] == name]
    return found[f"blobs/sha256/{entry['blob']['stored_sha256']}"]


def nowhere(path: Path, secret: str) -> None:
    for where, data in everything(path).items():
        for spelling in variants(secret):
            if len(spelling) >= 6:
                assert spelling.encode("utf-8", "surrogateescape") not in data, f"{spelling} in {where}"


def test_nothing_that_went_is_anywhere_in_the_copy(make: Make) -> None:
    done = make()
    for secret in WENT:
        nowhere(done.path, secret)
        assert secret.encode() not in done.list_path.read_bytes()
    log = item(done.path, "logs/cards/current").decode()
    assert "password=[redacted:named-secret] ok" in log
    assert "served /cards?q=1" in log, "what is no secret stays"
    pod = json.loads(item(done.path, "pod"))
    assert pod["spec"]["volumes"][0]["secret"]["secretName"] == "cards-db", "a reference is no secret"
    assert pod["spec"]["containers"][0]["env"][1]["value"] == "8080"
    assert pod["spec"]["containers"][0]["args"] == ["--api-token", "[redacted:argument]", "--verbose"]


def test_the_receiver_verifies_the_copy_with_the_public_key_alone(
    make: Make, signing_key: SigningKey, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    done = make()
    key = tmp_path / "key.pub"
    key.write_bytes(signing_key.public_key.to_pem())
    assert verifier.main([str(done.path), "--key", str(key)]) == 0
    assert "INC-1/disclosure/1" in capsys.readouterr().out
    assert hashlib.sha256(done.path.read_bytes()).hexdigest() == done.sha256


def test_the_list_names_item_rule_and_count_and_its_places_are_the_markers(make: Make, seal: Seal) -> None:
    done = make()
    listed = json.loads(done.list_path.read_bytes())
    assert item(done.path, "disclosure") == done.list_path.read_bytes()
    assert listed["derived_from"]["bundle_sha256"] == seal.bundle_sha256
    assert (listed["to"], listed["reason"]) == ("the police", "case 7")
    fates = {one["item"]: one for one in listed["items"]}
    assert {name: one["result"] for name, one in fates.items()} == {
        "pod": "redacted",
        "logs/cards/current": "redacted",
        "events": "unchanged",
        "secrets": "redacted",
        "node/files": "left out",
    }
    assert fates["events"]["original_sha256"] == hashlib.sha256(ITEMS["events"][1]).hexdigest()
    log = item(done.path, "logs/cards/current")
    for found in fates["logs/cards/current"]["redactions"]:
        assert found["count"] == len(found["places"])
        for start, end in found["places"]:
            assert log[start:end].decode() == f"[redacted:{found['rule']}]"
    places = {place for found in fates["pod"]["redactions"] for place in found["places"]}
    assert "/spec/containers/0/env/0/value" in places
    applied = "/metadata/annotations/kubectl.kubernetes.io~1last-applied-configuration"
    assert f"{applied}#/spec/containers/0/env/0/value" in places


def test_a_digest_of_an_original_that_was_redacted_is_a_commitment_that_only_the_maker_opens(
    make: Make, fresh_store: Store, seal: Seal
) -> None:
    done = make()
    original = hashlib.sha256(POD)
    nowhere(done.path, original.hexdigest())
    (word,) = [one for one in events(fresh_store, seal.incident) if isinstance(one, EvidenceDisclosed)]
    told = {one["item"]: one for one in json.loads(done.list_path.read_bytes())["items"]}["pod"]
    assert told["original_commitment"] == hmac.digest(bytes.fromhex(word.salt), original.digest(), "sha256").hex()


def test_the_record_tells_who_made_it_for_whom_and_why(make: Make, fresh_store: Store, seal: Seal) -> None:
    original = Path(seal.path).read_bytes()
    first, second = make(), make()
    assert (first.id, second.id) == ("INC-1/disclosure/1", "INC-1/disclosure/2")
    word = events(fresh_store, seal.incident)[-1]
    assert isinstance(word, EvidenceDisclosed)
    assert (word.actor, word.to, word.reason, word.sha256) == ("local/a", "the police", "case 7", second.sha256)
    assert word.left_out == ("node/files",)
    with fresh_store.read() as session:
        last = json.loads(evidence.custody(session, seal.incident)[-1])
    assert (last["action"], last["sha256"]) == ("export", seal.bundle_sha256)
    assert second.sha256 in last["purpose"]
    assert Path(seal.path).read_bytes() == original


def test_binary_items_are_handed_out_only_when_told_and_that_is_listed(make: Make) -> None:
    done = make(binary=("node/*",))
    assert item(done.path, "node/files") == ITEMS["node/files"][1]
    assert done.unsearched == ("node/files",)
    told = {one["item"]: one["result"] for one in json.loads(done.list_path.read_bytes())["items"]}
    assert told["node/files"] == "not searched"


def test_rules_of_the_configuration(make: Make) -> None:
    rules = Rules(
        patterns=(Pattern("account", re.compile("bank-(?P<redact>user)")),),
        fields=(FieldRule("node", "pod", ("spec", "nodeName")), FieldRule("unused", "*", ("no", "such"))),
        omit=("events", "nothing/*"),
    )
    done = make(rules)
    assert b"start as bank-[redacted:account]" in item(done.path, "logs/cards/current")
    assert json.loads(item(done.path, "pod"))["spec"]["nodeName"] == "[redacted:node]"
    counts = {one["name"]: one["count"] for one in json.loads(done.list_path.read_bytes())["rules"]}
    assert (counts["account"], counts["node"], counts["unused"]) == (1, 1, 0)
    assert (counts["item:events"], counts["item:nothing/*"]) == (1, 0)
    assert done.left_out == ("events", "node/files")


def test_words_of_the_manifest_are_searched_too(
    fresh_store: Store, vault: Vault, signing_key: SigningKey, tmp_path: Path
) -> None:
    contents = {f"logs/{PASSWORD}": ("text/plain", f"password={PASSWORD}\n".encode())}
    seal = seal_items(fresh_store, vault, signing_key, declare(fresh_store), contents)
    wish = Wish(PASSWORD, f"because of {PASSWORD}", Rules())
    done = disclose(fresh_store, vault, signing_key, seal, tmp_path / "out", wish, actor="local/a", now=NOW)
    nowhere(done.path, PASSWORD)
    (told,) = json.loads(done.list_path.read_bytes())["items"]
    assert told["item"] == "logs/[redacted:known-value]"
    assert told["in_its_description"]["known-value"] == 1


def test_a_pattern_without_end_stops_the_disclosure(make: Make, fresh_store: Store, seal: Seal, tmp_path: Path) -> None:
    evil = Pattern("evil", re.compile("(s|s|st|t|ta|a|r|ar|.)*!$"))
    with pytest.raises(EvidenceError, match="longer than"):
        make(Rules(patterns=(evil,), seconds=0.2))
    assert not list((tmp_path / "out").iterdir()), "nothing is left behind"
    assert not [one for one in events(fresh_store, seal.incident) if isinstance(one, EvidenceDisclosed)]


def test_a_bundle_that_was_altered_is_not_disclosed(make: Make, seal: Seal) -> None:
    path = Path(seal.path)
    path.chmod(0o600)
    path.write_bytes(path.read_bytes().replace(b"alice", b"malon"))
    with pytest.raises(Tampered):
        make()


def test_a_copy_of_nothing_is_none(make: Make) -> None:
    with pytest.raises(TargetError, match="nothing"):
        make(omit=("*",))


def test_a_name_that_is_taken_is_not_overwritten(make: Make, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "INC-1-disclosure-1.tar").write_text("mine")
    with pytest.raises(VaultError, match="written"):
        make()
    assert (tmp_path / "out" / "INC-1-disclosure-1.tar").read_text() == "mine"


# --- texts ----------------------------------------------------------------------------------------------------------


def redacted(data: bytes, rules: Rules | None = None, chunk: int = 7) -> bytes:
    out: list[bytes] = []
    chunks = [data[start : start + chunk] for start in range(0, len(data), chunk)]
    redact_lines(chunks, Scanner(rules or Rules()), "log", out.append, Tally())
    return b"".join(out)


@pytest.mark.parametrize(
    ("line", "want"),
    [
        ('{"password":"pa ss\\"x","a":1}', '{"password":"[redacted:named-secret]","a":1}'),
        (r"{\"token\":\"abcdefgh\",\"a\":1}", r"{\"token\":\"[redacted:named-secret]\",\"a\":1}"),
        ("postgres://u:hunter22@db/x", "postgres://u:[redacted:url-password]@db/x"),
        ("GET /?access_token=abc123&x=1", "GET /?access_token=[redacted:named-secret]&x=1"),
        ("authorization: Basic dTpwYXNz", "authorization: Basic [redacted:authorization]"),
        (f"x={JWT};", "x=[redacted:jwt];"),
        ("secretName: cards-db", "secretName: cards-db"),
        ("automountServiceAccountToken: false", "automountServiceAccountToken: false"),
        ("the token was refused", "the token was refused"),
    ],
)
def test_what_goes_of_a_line(line: str, want: str) -> None:
    assert redacted(line.encode()).decode() == want


def test_a_private_key_over_many_pieces_goes_and_what_follows_stays() -> None:
    body = "\n".join("A" * 64 for _ in range(400))
    text = f"before\n-----BEGIN RSA PRIVATE KEY-----\n{body}\n-----END RSA PRIVATE KEY-----\nafter\n" + "x\n" * 70_000
    out = redacted(text.encode(), chunk=9_999)
    assert b"AAAA" not in out
    assert out.startswith(b"before\n")
    assert b"\nafter\n" in out


def test_a_line_that_cannot_be_searched_goes_as_a_whole() -> None:
    long = b"x" * LONGEST_LINE + f" password={PASSWORD}".encode()
    out = redacted(b"a\n" + long + b"\nb\n" + long, chunk=100_000)
    assert out == b"a\n[redacted:line-too-long]\nb\n[redacted:line-too-long]\n"


@given(st.binary(max_size=300).filter(lambda data: b"\0" not in data), st.integers(1, 50))
def test_what_holds_no_secret_stays_byte_for_byte(data: bytes, chunk: int) -> None:
    text = re.sub(rb"(?i)[:=@]|eyj|akia|-----", b"", data)
    assert redacted(text, chunk=chunk) == text


# --- JSON -----------------------------------------------------------------------------------------------------------


def test_json_that_two_programs_read_differently_is_refused() -> None:
    for data in (b'{"a":1,"a":2}', b'{"a":NaN}', b"[" * 100_000, b'{"a":"\xff"}'):
        with pytest.raises(NoJson):
            parse(data)


def test_numbers_stay_as_they_are_written_and_are_searched() -> None:
    rules = Rules(patterns=(Pattern("card", re.compile(r"\d{16}")),))
    out = Walker("x", Scanner(rules), Tally()).redact(b'{"a":1.10,"n":4111111111111111,"big":1e400}')
    assert out == b'{"a":1.10,"n":"[redacted:card]","big":1e400}'


# --- properties -----------------------------------------------------------------------------------------------------

SECRET_TEXT = st.text(string.ascii_letters + string.digits + "!#$%*+-_/\\\"'{}é☃ \n", min_size=8, max_size=300).filter(
    lambda text: len(text.strip()) >= 8 and len(set(text)) > 4
)
NO_WORD_OF_OURS = SECRET_TEXT.map(lambda text: f"{text}#7")
"""Never the name of a member of the format, which is in every bundle."""


@given(st.lists(SECRET_TEXT, min_size=1, max_size=6), st.text(max_size=40), st.text(max_size=40))
@settings(max_examples=150)
def test_no_spelling_of_a_known_value_survives(values: list[str], before: str, after: str) -> None:
    hunt = Hunt()
    for value in values:
        hunt.add(value, structured=True)
    known = hunt.pattern()
    for value in values:
        spelled = [*variants(value), base64.b64encode((before + value + after).encode("utf-8", "replace")).decode()]
        text = before.join(spelled) + after
        left = without(text, Scanner(Rules(), known).scan(text))
        left = re.sub(r"\[redacted:[a-z-]+\]", "\0", left)
        for part in variants(value):
            assert len(part) < 6 or part not in left


@given(data=st.data(), secret=NO_WORD_OF_OURS)
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_no_value_of_a_secret_survives_in_a_whole_copy(
    fresh_store: Store, signing_key: SigningKey, tmp_path_factory: pytest.TempPathFactory, data: Any, secret: str
) -> None:
    around = data.draw(st.text(max_size=30).filter(lambda text: "\0" not in text))
    encoded = base64.b64encode(secret.encode()).decode()
    contents = {
        "secret": ("application/json", json.dumps({"kind": "Secret", "data": {"k": encoded}}).encode()),
        "map": ("application/json", json.dumps({"data": {around: around + secret, secret: [secret, {}]}}).encode()),
        "log": ("text/plain", f"{around}{secret}\n{encoded} {around}".encode("utf-8", "replace")),
    }
    place = tmp_path_factory.mktemp("one")
    seal = seal_items(fresh_store, Vault(place / "vault"), signing_key, declare(fresh_store, place.name), contents)
    wish = Wish("the police", "case 7", Rules())
    done = disclose(
        fresh_store, Vault(place / "vault"), signing_key, seal, place / "out", wish, actor="local/a", now=NOW
    )
    nowhere(done.path, secret)
    assert secret not in done.list_path.read_text()


def test_of_many_values_in_texts_the_first_are_looked_for_and_the_others_counted() -> None:
    hunt = Hunt()
    for number in range(MOST_FROM_TEXT + 5):
        hunt.add(f"value-{number}", structured=False)
    assert (len(hunt.known), hunt.unhunted) == (MOST_FROM_TEXT, 5)
    hunt.add("from-a-secret", structured=True)
    known = hunt.pattern()
    assert known is not None
    assert known.search("x from-a-secret")

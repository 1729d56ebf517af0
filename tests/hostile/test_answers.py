"""Answers of a server that is not what it says: too large, a compressed bomb, endless, not JSON, not that object."""

from __future__ import annotations

import gzip
import itertools
import json
import re
import zlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from ringfence.errors import Effect, NotFound, PlatformError, Unanswered
from ringfence.platform.kubernetes import answers
from ringfence.platform.kubernetes.answers import DEEPEST, MAX_ERROR_BYTES, parse
from ringfence.platform.kubernetes.client import Cluster, connect
from ringfence.platform.kubernetes.resources import POD
from tests.hostile.firehose import Firehose, Flood
from tests.hostile.texts import HOSTILE, NO_OBJECT, as_received
from tests.wire import Answer, Request, Responder, Wire, kubeconfig

pytestmark = pytest.mark.slow

LIMIT = 1 << 20
Open = Callable[..., Cluster]


@pytest.fixture
def opened(tmp_path: Path) -> Iterator[Open]:
    """A cluster, which brings at most a megabyte into memory, behind what a server answers."""
    with ExitStack() as stack:

        def start(server: Responder | Answer | Flood, most: int = LIMIT) -> Cluster:
            running = Firehose(server) if isinstance(server, Flood) else Wire(server)
            stack.enter_context(running)
            cluster = connect(kubeconfig(tmp_path / "kubeconfig", running.url), None, 10, max_answer_bytes=most)
            stack.callback(cluster.close)
            return cluster

        yield start


def pod(**more: Any) -> bytes:
    return json.dumps({"metadata": {"name": "x"}, **more}).encode()


# --- size -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("announced", [True, False])
def test_an_answer_of_gigabytes_is_given_up_and_says_so(opened: Open, announced: bool) -> None:
    cluster = opened(Flood(1 << 40, announced=announced))
    for read in (lambda: cluster.get(POD, "bank", "x"), lambda: cluster.list(POD, "bank")):
        with pytest.raises(Unanswered, match=f"too large.*larger than {LIMIT} bytes") as caught:
            read()
        assert caught.value.next_step
    with pytest.raises(Unanswered):  # nobody knows what the server did before it sent that
        cluster.create(POD, "bank", {"metadata": {"name": "x"}})


def test_an_answer_up_to_the_limit_is_read(opened: Open) -> None:
    body = pod(filling="x" * (LIMIT - 100))
    assert opened(Answer(body=body)).get_bytes(POD, "bank", "x") == body
    with pytest.raises(Unanswered):
        opened(Answer(body=body + b" " * 101)).get_bytes(POD, "bank", "x")


def test_a_collection_is_as_large_as_one_answer_and_no_larger(opened: Open) -> None:
    numbers = itertools.count()

    def endless(_request: Request) -> Answer:
        page = {"kind": "PodList", "metadata": {"continue": f"t{next(numbers)}"}, "items": []}
        return Answer(body=json.dumps(page).encode() + b" " * (LIMIT // 4))

    cluster = opened(endless)
    with pytest.raises(Unanswered, match="too large"):
        cluster.list(POD)
    assert next(numbers) <= 5


def test_a_page_that_leads_to_itself_is_no_list(opened: Open) -> None:
    page = {"kind": "PodList", "metadata": {"continue": "again"}, "items": []}
    with pytest.raises(Unanswered, match="the same page"):
        opened(Answer(body=json.dumps(page).encode())).list(POD)


@pytest.mark.parametrize("status", [302, 403, 404, 429, 500])
def test_an_error_of_gigabytes_is_an_error_with_few_words(opened: Open, status: int) -> None:
    body = json.dumps({"kind": "Status", "message": "x" * (5 * MAX_ERROR_BYTES)}).encode()
    with pytest.raises(PlatformError) as caught:
        opened(Answer(status, body)).get(POD, "bank", "x")
    assert len(str(caught.value)) < 1000


def test_a_long_refusal_by_admission_is_still_understood(opened: Open) -> None:
    message = 'admission webhook "x" denied the request: ' + "y" * 200_000
    with pytest.raises(PlatformError) as caught:
        opened(Answer(403, json.dumps({"kind": "Status", "message": message}).encode())).get(POD, "bank", "x")
    assert caught.value.code == "invalid"
    assert "characters more" in caught.value.why


# --- compression ----------------------------------------------------------------------------------------------------


def encoded(body: bytes, encoding: str) -> Answer:
    return Answer(body=body, headers={"Content-Encoding": encoding})


def test_gzip_is_understood_and_the_server_may_use_it(opened: Open) -> None:
    seen: list[str] = []

    def respond(request: Request) -> Answer:
        seen.append(request.headers["accept-encoding"])
        return encoded(gzip.compress(pod(), mtime=0), "gzip")

    cluster = opened(respond)
    assert cluster.get(POD, "bank", "x") == json.loads(pod())
    with cluster.log("bank", "x", "cards"):
        pass
    assert seen == ["gzip", "identity"], "a log comes as it is"


def bomb(compress: Callable[[Iterator[bytes]], Iterable[bytes]]) -> bytes:
    return b"".join(compress(iter([bytes(1 << 20)] * 200)))


def _gzipped(blocks: Iterator[bytes]) -> Iterator[bytes]:
    packer = zlib.compressobj(9, wbits=31)
    yield from (packer.compress(block) for block in blocks)
    yield packer.flush()


def _zstd(blocks: Iterator[bytes]) -> Iterator[bytes]:
    packer = zstandard.ZstdCompressor(level=19).compressobj()
    yield from (packer.compress(block) for block in blocks)
    yield packer.flush()


def test_a_gzip_bomb_ends_at_the_limit(opened: Open) -> None:
    packed = bomb(_gzipped)
    assert len(packed) < LIMIT, "it is small on the wire"
    with pytest.raises(Unanswered, match="too large"):
        opened(encoded(packed, "gzip")).get(POD, "bank", "x")


def test_a_zstd_bomb_is_not_opened(opened: Open) -> None:
    with pytest.raises(Unanswered, match="not asked for: 'zstd'"):
        opened(encoded(bomb(_zstd), "zstd")).get(POD, "bank", "x")


@pytest.mark.parametrize("encoding", ["br", "deflate", "zstd", "gzip, gzip", "x" * 5000, "\x1b[2J"])
def test_any_other_compression_is_refused(opened: Open, encoding: str) -> None:
    with pytest.raises(Unanswered) as caught:
        opened(encoded(pod(), encoding)).get(POD, "bank", "x")
    assert len(str(caught.value)) < 300


@pytest.mark.parametrize("body", [b"", b"{}", gzip.compress(pod(), mtime=0)[:-9], b"\x1f\x8b" + bytes(99)])
def test_broken_gzip_is_no_answer(opened: Open, body: bytes) -> None:
    with pytest.raises(Unanswered):
        opened(encoded(body, "gzip")).get(POD, "bank", "x")


@pytest.mark.parametrize("encoding", ["gzip", "zstd", "br"])
def test_an_error_is_an_error_however_it_is_compressed(opened: Open, encoding: str) -> None:
    with pytest.raises(PlatformError) as caught:
        opened(Answer(403, bomb(_zstd), {"Content-Encoding": encoding})).get(POD, "bank", "x")
    assert len(str(caught.value)) < 1000


# --- JSON -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("body", NO_OBJECT.values(), ids=NO_OBJECT)
@pytest.mark.parametrize("verb", ["get", "list", "create"])
def test_what_is_no_object_is_no_answer(body: bytes, verb: str) -> None:
    if verb == "create" and body == NO_OBJECT["another name"]:
        return  # what was made may have another name than was asked for
    with pytest.raises(Unanswered) as caught:
        parse(body, verb, "x")
    assert caught.value.effect is Effect.MAYBE


@pytest.mark.parametrize(
    "items", ["x", {}, [1], [None], [{}], [{"metadata": None}], [{"metadata": {"name": 1}}], [{"metadata": []}], [[]]]
)
def test_a_list_of_something_else_is_no_list(items: Any) -> None:
    with pytest.raises(Unanswered, match="not a list"):
        parse(json.dumps({"kind": "PodList", "items": items}).encode(), "list", "pods")


def test_nesting_is_read_to_its_limit() -> None:
    def nested(levels: int) -> bytes:
        return b'{"metadata":{"name":"x"},"a":' + b"[" * levels + b"]" * levels + b"}"

    assert parse(nested(DEEPEST - 2), "get", "x")
    with pytest.raises(Unanswered, match="deeper"):
        parse(nested(DEEPEST + 1), "get", "x")


def test_of_two_members_with_one_name_the_last_one_counts() -> None:
    body = b'{"metadata":{"name":"x"},"spec":{"a":1},"spec":{"a":2}}'
    assert parse(body, "get", "x")["spec"] == {"a": 2}


@pytest.mark.parametrize("number", [2**53, 2**53 + 1, 2**63 - 1, -(2**63), 10**400])
def test_large_integers_come_through(number: int) -> None:
    assert parse(pod(spec={"a": number}), "get", "x")["spec"]["a"] == number


@pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE)
def test_a_text_comes_in_as_it_is_but_for_what_is_no_unicode(text: str) -> None:
    meta = {"name": "x", "annotations": {"a": text, "k" + text[:200]: "v"}}
    received = parse(json.dumps({"metadata": meta}).encode(), "get", "x")["metadata"]["annotations"]
    assert received == {"a": as_received(text), "k" + as_received(text[:200]): "v"}
    json.dumps(received, ensure_ascii=False).encode()


def test_bytes_that_are_no_utf_8_become_the_replacement_character() -> None:
    body = b'{"metadata":{"name":"x","annotations":{"a":"\xff\xed\xa0\x80."}}}'
    assert set(parse(body, "get", "x")["metadata"]["annotations"]["a"]) == {"\ufffd", "."}


_json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters()),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=4), inner, max_size=4),
    max_leaves=12,
)


@given(st.binary() | _json.map(lambda value: json.dumps(value).encode()), st.sampled_from(["get", "list", "patch"]))
def test_any_body_is_an_object_or_an_error_of_ours(body: bytes, verb: str) -> None:
    try:
        answer = parse(body, verb, "x")
    except Unanswered:
        return
    json.dumps(answer, allow_nan=False).encode()


@given(_json.filter(lambda value: not re.search("NaN|Infinity", json.dumps(value))))
def test_any_object_comes_through(value: Any) -> None:
    received = parse(pod(data=value), "get", "x")["data"]
    assert json.dumps(received) == json.dumps(json.loads(as_received_json(value)))


_PIECES = (
    *(
        b"{",
        b"}",
        b"[",
        b"]",
        b",",
        b":",
        b" ",
        b"\n",
        b'"a":',
        b'"a":',
        b'"',
        b"null",
        b"true",
        b"tru",
        b"\xef\xbb\xbf",
    ),
    *(b"0", b"-0", b"1.5", b"1E400", b"1e-400", b"01", b"9" * 30, b"-" + b"9" * 30, b"1.", b".5", b"NaN", b"-Infinity"),
    *(b'"\\ud800"', b'"\\udc00\\ud800"', b'"\\ud83d\\ude00"', b'"\\u0000"', b'"\x00"', b'"\t"', b'"\x7f"', b'"\xff"'),
    *(b'"\xed\xa0\x80"', b'"\\x"', b'"\\/"', b'"\xf0\x9f\x98\x80"', b"'a'", b"/* */"),
)


def _read(by: Callable[[bytes], Any], body: bytes) -> str:
    try:
        return repr(by(body))
    except ValueError:
        return "no JSON"


@given(st.lists(st.sampled_from(_PIECES), max_size=12).map(b"".join) | st.binary(max_size=30))
def test_the_quick_reader_of_json_reads_what_the_patient_one_reads(body: bytes) -> None:
    assert _read(answers.loads, body) == _read(answers._patiently, body)


@pytest.mark.parametrize("piece", [one for one in _PIECES if one[:1] not in b"{}[],: "])
def test_each_value_is_read_alike(piece: bytes) -> None:
    for body in (piece, b"[" + piece + b"]", b'{"a":' + piece + b"}", b"{" + piece + b":1}"):
        assert _read(answers.loads, body) == _read(answers._patiently, body)


def as_received_json(value: Any) -> str:
    """The value as JSON, with U+FFFD where a text is no Unicode."""

    def walk(one: Any) -> Any:
        match one:
            case str():
                # In JSON a pair of escapes is one character: only lone ones are replaced.
                return as_received(json.loads(json.dumps(one)))
            case list():
                return [walk(inner) for inner in one]
            case dict():
                return {walk(name): walk(inner) for name, inner in one.items()}
        return one

    return json.dumps(walk(value))


# --- names ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [".", "..", "x" * 9000, "\u202e" * 4000])
def test_a_name_that_no_object_can_have_is_not_asked_for(opened: Open, name: str) -> None:
    asked: list[str] = []

    def respond(request: Request) -> Answer:
        asked.append(request.path)
        return Answer(body=pod())

    cluster = opened(respond)
    calls: tuple[Callable[[], object], ...] = (
        lambda: cluster.get(POD, "bank", name),
        lambda: cluster.get(POD, name, "x"),
        lambda: cluster.delete(POD, "bank", name, uid="u"),
        lambda: cluster.patch(POD, "bank", name, []),
        lambda: cluster.list(POD, name),
    )
    for call in calls:
        with pytest.raises(NotFound) as caught:
            call()
        assert len(str(caught.value)) < 800
    for pod_name, namespace in (("x", name), (name, "bank")):
        with pytest.raises(NotFound), cluster.log(namespace, pod_name, "cards"):
            pass
    assert asked == [], "dots lead to another object: to the namespace itself"


@pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE)
def test_a_hostile_name_of_a_pod_or_container_stays_in_its_place(opened: Open, text: str) -> None:
    seen: list[Request] = []

    def respond(request: Request) -> Answer:
        seen.append(request)
        return Answer(body=b"a log")

    cluster = opened(respond)
    try:
        with cluster.log("bank", text or "x", as_received(text)[:500]) as chunks:
            assert b"".join(chunks) == b"a log"
    except NotFound:
        assert len(text) > 1000
        assert seen == []
        return
    (request,) = seen
    assert request.path.startswith("/api/v1/namespaces/bank/pods/")
    assert request.path.endswith("/log")
    assert request.path.count("/") == 7
    assert request.query == {"container": as_received(text)[:500], "timestamps": "true"}

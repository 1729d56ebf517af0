"""A list whose objects are read when they are asked for: nobody who is asked for is missed, however it is written."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ringfence.errors import Unanswered
from ringfence.platform.kubernetes import answers, pods
from ringfence.platform.kubernetes.resources import POD
from ringfence.platform.kubernetes.unread import Unread, page_of

Json = dict[str, Any]
DIGEST = "sha256:" + "a" * 64
NAMES = ("registry/shop:1", "registry/shop@" + DIGEST, "busybox", "", "odd<name>", "sch\u00f6n", 'a"b')
IDS = ("", DIGEST, "docker.io/registry/shop@" + DIGEST, "registry/shop@sha256:" + "b" * 64)


def pod(name: str, images: list[tuple[str, str]], namespace: str = "bank") -> Json:
    return {
        "metadata": {"name": name, "namespace": namespace, "uid": f"u-{name}"},
        "spec": {"containers": [{"name": f"c{n}", "image": image} for n, (image, _) in enumerate(images)]},
        "status": {"containerStatuses": [{"name": f"c{n}", "imageID": id_} for n, (_, id_) in enumerate(images)]},
    }


def slashed(obj: Json) -> bytes:
    return json.dumps(obj).replace("/", "\\/").encode()


def numbered(obj: Json) -> bytes:
    """Every letter of a value by its number, as a writer of JSON may do."""

    def walk(value: Any) -> Any:
        match value:
            case str():
                return "".join(f"\ue000{ord(char):04x}" for char in value)
            case dict():
                return {name: walk(inner) for name, inner in value.items()}
            case list():
                return [walk(inner) for inner in value]
        return value

    return json.dumps(walk(obj), ensure_ascii=False).replace("\ue000", "\\u").encode()


WRITERS = (
    lambda obj: json.dumps(obj).encode(),
    lambda obj: json.dumps(obj, ensure_ascii=False, indent=1).encode(),
    slashed,
    numbered,
)
_images = st.lists(st.tuples(st.sampled_from(NAMES), st.sampled_from(IDS)), min_size=1, max_size=3)


@given(mine=_images, theirs=st.lists(_images, max_size=4), writer=st.sampled_from(WRITERS))
def test_no_pod_that_shares_an_image_is_missed(mine: Any, theirs: Any, writer: Any) -> None:
    suspect = pod("suspect", mine)
    others = [pod(f"p{n}", images) for n, images in enumerate(theirs)]
    body = b'{"kind":"PodList","items":[' + b",".join(map(writer, others)) + b"]}"
    unread = Unread(POD, page_of(body, "pods")["items"])
    shares = pods.sharing_image(suspect)
    found = [one["metadata"]["name"] for one in unread.with_any(pods.words_of_images(suspect)) if shares(one)]
    assert found == [one["metadata"]["name"] for one in others if shares(one)]


@pytest.mark.parametrize("writer", WRITERS)
def test_a_word_is_found_and_what_has_it_is_as_the_whole_list_has_it(writer: Any) -> None:
    here, there = pod("a", [("x", "")]), pod("b", [("x", "")], namespace="shop")
    body = b'{"kind":"PodList","items":[' + writer(here) + b", " + writer(there) + b"]}"
    unread = Unread(POD, page_of(body, "pods")["items"])
    found = unread.with_any(["shop"])
    assert {**there, "apiVersion": "v1", "kind": "Pod"} in found
    assert found[-1] is unread.with_any(["shop"])[-1], "read once"


def test_what_is_not_asked_for_is_not_read(monkeypatch: pytest.MonkeyPatch) -> None:
    body = json.dumps({"kind": "PodList", "items": [pod(f"p{n}", [("x", "")]) for n in range(50)]}).encode()
    unread = Unread(POD, page_of(body, "pods")["items"])
    read: list[bytes] = []
    parse = answers.parse_item
    monkeypatch.setattr(answers, "parse_item", lambda item, target: read.append(item) or parse(item, target))
    assert [one["metadata"]["name"] for one in unread.with_any(["u-p7", "u-p33"])] == ["p7", "p33"]
    assert len(read) == 2


@pytest.mark.parametrize(
    "body",
    [
        b"<html>",
        b"[]",
        b"{}",
        b'{"kind":"Pod","metadata":{"name":"x"}}',
        b'{"kind":"PodList","items":{}}',
        b'{"kind":"PodList","items":[1]}',
        b'{"kind":"PodList","metadata":[]}',
        b'{"kind":["PodList"],"items":[]}',
        b'{"kind":"PodList","items":[' + b"[" * 5000 + b"]" * 5000 + b"]}",
    ],
)
def test_a_strangers_page_is_no_list(body: bytes) -> None:
    with pytest.raises(Unanswered):
        page_of(body, "pods")


@pytest.mark.parametrize("item", [b"{}", b'{"metadata":[]}', b'{"metadata":{"labels":[]}}', b'{"metadata":{"name":1}}'])
def test_an_item_that_is_no_object_is_said_when_it_is_read(item: bytes) -> None:
    unread = Unread(POD, page_of(b'{"kind":"PodList","items":[' + item + b"]}", "pods")["items"])
    with pytest.raises(Unanswered):
        unread.with_any(["<any>"])


def test_text_that_is_no_unicode_is_read_as_elsewhere() -> None:
    item = b'{"metadata":{"name":"x","annotations":{"a":"\xff\\ud800"}}}'
    unread = Unread(POD, page_of(b'{"kind":"PodList","items":[' + item + b"]}", "pods")["items"])
    assert unread.with_any(["x"])[0]["metadata"]["annotations"] == {"a": "\ufffd\ufffd"}


def test_a_list_without_items_is_empty_and_the_next_page_is_known() -> None:
    page = page_of(b'{"kind":"PodList","metadata":{"continue":"t"},"items":null}', "pods")
    assert (page["items"], answers.next_page(page)) == ([], "t")

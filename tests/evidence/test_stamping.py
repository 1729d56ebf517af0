"""Time stamps by an authority of our own, which is ``openssl ts`` behind a small web server."""

from __future__ import annotations

import io
import shutil
import subprocess
import tarfile
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from ringfence.errors import ExitCode, Tampered, Unverifiable
from ringfence.seal import stamp
from tests.cli.console import Console, console

__all__ = ["console"]

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(shutil.which("openssl") is None, reason="openssl is not installed"),
]

SETTINGS = """[tsa]
default_tsa = one
[one]
serial = serial
default_policy = 1.2.3.4.1
digests = sha256
signer_digest = sha256
accuracy = secs:1
ess_cert_id_alg = sha256
[root]
basicConstraints = critical,CA:TRUE
keyUsage = critical,keyCertSign
[leaf]
extendedKeyUsage = critical,timeStamping
keyUsage = critical,digitalSignature
[req]
distinguished_name = name
[name]
"""


@dataclass
class Authority:
    """``answer`` set: what it says instead of a stamp, with ``status``."""

    folder: Path
    url: str = ""
    answer: bytes | None = None
    status: int = 200

    @property
    def roots(self) -> Path:
        return self.folder / "root.pem"

    def openssl(self, *arguments: str) -> None:
        subprocess.run(["openssl", *arguments], cwd=self.folder, check=True, capture_output=True)

    def stamped(self, query: bytes) -> bytes:
        (self.folder / "query").write_bytes(query)
        signer = ("-signer", "leaf.pem", "-inkey", "leaf.key", "-config", "settings")
        self.openssl("ts", "-reply", "-queryfile", "query", *signer, "-out", "reply")
        return (self.folder / "reply").read_bytes()


def make_authority(folder: Path) -> Authority:
    made = Authority(folder)
    (folder / "settings").write_text(SETTINGS)
    (folder / "serial").write_text("01\n")
    ec = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-config", "settings")
    made.openssl(
        "req", "-x509", *ec, "-keyout", "root.key", "-out", "root.pem", "-subj", "/CN=r", "-extensions", "root"
    )
    made.openssl("req", *ec, "-keyout", "leaf.key", "-out", "leaf.csr", "-subj", "/CN=tsa")
    signing = ("-CA", "root.pem", "-CAkey", "root.key", "-CAcreateserial")
    made.openssl(
        "x509", "-req", "-in", "leaf.csr", *signing, "-out", "leaf.pem", "-extfile", "settings", "-extensions", "leaf"
    )
    return made


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Authority]:
    made = make_authority(tmp_path_factory.mktemp("tsa"))

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            query = self.rfile.read(int(self.headers["Content-Length"]))
            fit = self.headers["Content-Type"] == stamp.CONTENT_TYPE
            body = made.answer if made.answer is not None else made.stamped(query)
            self.send_response(made.status if fit else 415)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Silence."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    made.url = f"http://127.0.0.1:{server.server_address[1]}/"
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield made
    server.shutdown()
    server.server_close()


@pytest.fixture
def authority(served: Authority) -> Authority:
    served.answer, served.status = None, 200
    return served


def contain(console: Console, authority: Authority) -> None:
    console.settings["signing"] |= {"timestamp_url": authority.url, "timestamp_roots": str(authority.roots)}
    console("contain", "cards-1", "-n", "bank", "--reason", "odd egress", "--accept-outage")


def bundle(console: Console) -> Path:
    return console.home / "console-vault" / "INC-1" / "INC-1-seal-1.tar"


def test_a_seal_is_stamped_verified_and_exported(console: Console, authority: Authority, tmp_path: Path) -> None:
    contain(console, authority)
    assert "time stamp verified" in console("evidence", "verify", "1").out
    assert "stamped by a time-stamping authority" in console("timeline", "1").out
    assert "every seal has its time stamp" in console("evidence", "stamp", "1").out
    console("evidence", "export", "1", str(tmp_path / "out"))
    copy = tmp_path / "out" / bundle(console).name
    with tarfile.open(copy) as tar:
        tar.extract("seal.json", tmp_path, filter="data")
    by_hand = ["ts", "-verify", "-data", str(tmp_path / "seal.json"), "-in", f"{copy}.tsr", "-CAfile", "root.pem"]
    authority.openssl(*by_hand)


@pytest.mark.parametrize(("answer", "status"), [(b"junk", 200), (b"", 503), (b"x" * 100_000, 200)])
def test_an_authority_that_fails_stops_no_seal_and_is_asked_again(
    console: Console, authority: Authority, answer: bytes, status: int
) -> None:
    authority.answer, authority.status = answer, status
    contain(console, authority)
    verified = console("evidence", "verify", "1", "-o", "json").data
    assert verified["time_stamp"] is None
    assert "has no time stamp" in console("timeline", "1").out
    assert console("evidence", "stamp", "1").code == ExitCode.INCOMPLETE
    authority.answer, authority.status = None, 200
    assert console("evidence", "stamp", "1").code == 0
    assert console("evidence", "verify", "1", "-o", "json").data["time_stamp"]


def test_a_stamp_that_was_taken_away_or_is_another_seals_is_noticed(console: Console, authority: Authority) -> None:
    contain(console, authority)
    console("evidence", "collect", "1")
    first, second = (Path(f"{bundle(console)}".replace("seal-1", f"seal-{n}") + ".tsr") for n in (1, 2))
    kept = first.read_bytes()
    first.unlink()
    assert console("evidence", "verify", "1", "--seal", "1").code == ExitCode.UNVERIFIABLE
    first.write_bytes(second.read_bytes())
    assert console("evidence", "verify", "1", "--seal", "1").code == ExitCode.TAMPERED
    first.write_bytes(kept)
    assert console("evidence", "verify", "1", "--seal", "1").code == 0


def test_only_a_trusted_authority_and_the_very_nonce_count(authority: Authority, tmp_path: Path) -> None:
    asked = stamp.query(b"seal")
    answer = authority.stamped(asked.as_bytes())
    roots = authority.roots.read_bytes()
    assert stamp.check(answer, b"seal", roots, nonce=asked.nonce).serial > 0
    other = make_authority(tmp_path).roots.read_bytes()
    for data, trusted, nonce in ((b"seaL", roots, None), (b"seal", other, None), (b"seal", roots, 1)):
        with pytest.raises(Tampered):
            stamp.check(answer, data, trusted, nonce=nonce)
    with pytest.raises(Unverifiable):
        stamp.check(answer, b"seal", b"no certificate")
    flipped = bytearray(answer)
    flipped[-5] ^= 1
    with pytest.raises((Tampered, Unverifiable)):
        stamp.check(bytes(flipped), b"seal", roots)


def test_a_refusal_is_no_stamp(authority: Authority) -> None:
    """A response of RFC 3161 with the status "rejection" and no token."""
    rejection = bytes.fromhex("30053003020102")
    with pytest.raises((Tampered, Unverifiable)):
        stamp.check(rejection, b"seal", authority.roots.read_bytes())


def test_what_is_stamped_is_the_first_member_of_a_bundle(tmp_path: Path) -> None:
    path = tmp_path / "no.tar"
    with tarfile.open(path, "w") as tar:
        tar.addfile(tarfile.TarInfo("other.json"), io.BytesIO())
    with pytest.raises(Tampered):
        stamp.sealed_bytes(io.BytesIO(path.read_bytes()), "no.tar")
    path.write_bytes(b"none")
    with pytest.raises(Tampered):
        stamp.sealed_bytes(io.BytesIO(path.read_bytes()), "no.tar")

"""A kubelet that can: it answers the API server's proxy as one whose runtime makes checkpoints, and writes nothing.

The lab's own node has no CRIU, so an archive is made nowhere there. This one listens on an address of the host that the
API server takes for a node's, with a certificate of the cluster's own authority.
"""

from __future__ import annotations

import json
import ssl
import threading

from lab import certificates
from lab.layout import Lab
from ringfence.platform.kubernetes.checkpoints import FOLDER
from tests.loopback import Handler, Loopback


class Kubelet(Loopback):
    """``asked`` are the paths for which an archive was made, in order; safe for several threads."""

    def __init__(self, lab: Lab) -> None:
        self.asked: list[str] = []
        self._lock = threading.Lock()
        tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        # The API server's own certificate names the host's address, where this one stands.
        tls.load_cert_chain(certificates.certificate(lab, "apiserver"), certificates.key(lab, "apiserver"))
        super().__init__(_handler(self), tls=tls, address=lab.host_address)

    def archive(self, path: str) -> str:
        with self._lock:
            self.asked.append(path)
            return f"{FOLDER}/checkpoint-{len(self.asked)}.tar"


def _handler(kubelet: Kubelet) -> type[Handler]:
    class Handling(Handler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers.get("Content-Length") or 0))
            path = self.path.partition("?")[0]
            known = path.startswith("/checkpoint/")
            body = json.dumps({"items": [kubelet.archive(path)]}).encode() if known else b"404: Page Not Found"
            self.send_response(200 if known else 404)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

    return Handling

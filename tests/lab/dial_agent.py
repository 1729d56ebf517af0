"""Runs in a test pod: echoes on some ports and, told by HTTP on port 7000, tries connections and says what happened.

Standard library only. ``python3 dial_agent.py TCP_PORT[,...] UDP_PORT[,...] [HOST:PORT]``; with the last argument it
tries that TCP address every 20 ms from its start on and remembers whether it ever got through.

GET /tcp?host&port · /udp?host&port         → open | refused | silent
GET /hold?host&port&name · /held?name       open a connection and keep it; is it still answered?
GET /resolve?name · /early                  addresses of a name, or why not; what the attempts from the start came to
"""

import contextlib
import http.server
import json
import socket
import sys
import threading
import time
from urllib.parse import parse_qs, urlsplit

TIMEOUT = 0.5
CONTROL_PORT = 7000
held = {}
early = {"tried": 0, "open": 0}


def tcp(host, port):
    try:
        connection = socket.create_connection((host, port), TIMEOUT)
    except ConnectionRefusedError:
        return "refused", None
    except OSError:
        return "silent", None
    return "open", connection


def answered(connection):
    connection.settimeout(TIMEOUT)
    try:
        connection.send(b"ping")
        return connection.recv(16) == b"ping"
    except OSError:
        return False


def udp(host, port):
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
        try:
            client.connect((host, port))
        except OSError:
            return "silent"
        return "open" if answered(client) else "silent"


def resolve(name):
    try:
        return sorted({entry[4][0] for entry in socket.getaddrinfo(name, None, socket.AF_INET)})
    except socket.gaierror as error:
        return {socket.EAI_NONAME: "no such name", socket.EAI_AGAIN: "try again"}.get(error.errno, str(error))


class Control(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        address = urlsplit(self.path)
        query = {key: values[0] for key, values in parse_qs(address.query).items()}
        target = query.get("host", ""), int(query.get("port", 0))
        result = None
        if address.path == "/tcp":
            result, connection = tcp(*target)
            if connection:
                connection.close()
        elif address.path == "/udp":
            result = udp(*target)
        elif address.path == "/hold":
            result, held[query["name"]] = tcp(*target)
        elif address.path == "/held":
            result = answered(held[query["name"]])
        elif address.path == "/resolve":
            result = resolve(query["name"])
        elif address.path == "/early":
            result = early
        body = json.dumps(result).encode()
        self.send_response(200 if result is not None else 404)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


def echo(connection):
    with connection, contextlib.suppress(OSError):
        while data := connection.recv(1024):
            connection.send(data)


def serve_tcp(port):
    server = socket.create_server(("", port), backlog=64)
    while True:
        connection, _ = server.accept()
        threading.Thread(target=echo, args=(connection,), daemon=True).start()


def serve_udp(port):
    server = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    server.bind(("", port))
    while True:
        data, sender = server.recvfrom(1024)
        server.sendto(data, sender)


def try_early(host, port):
    while early["tried"] < 1000:
        early["tried"] += 1
        with contextlib.suppress(OSError):
            socket.create_connection((host, port), 0.05).close()
            early["open"] += 1
        time.sleep(0.02)


def main():
    jobs = [(serve_tcp, int(port)) for port in sys.argv[1].split(",") if port]
    jobs += [(serve_udp, int(port)) for port in sys.argv[2].split(",") if port]
    if len(sys.argv) > 3:
        host, _, port = sys.argv[3].partition(":")
        jobs.append((try_early, host, int(port)))
    for work, *arguments in jobs:
        threading.Thread(target=work, args=arguments, daemon=True).start()
    http.server.ThreadingHTTPServer(("", CONTROL_PORT), Control).serve_forever()


main()

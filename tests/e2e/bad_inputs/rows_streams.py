"""Section I (cache, streams, tenants): clients that go away, stop reading, or vanish."""

import json
import socket
import struct
import time

from bad_inputs.case import Case
from bad_inputs.rows_routes import BODY, post

STREAM = json.dumps({"prompt": "hello", "max_tokens": 400, "ignore_eos": True, "stream": True}).encode()


def stream_request(body=STREAM):
    return post(b"Content-Length: %d" % len(body), body=body, line=b"POST /v1/completions HTTP/1.1")


def connect(server):
    return socket.create_connection(("127.0.0.1", server.port), timeout=5)


def settled(server, timeout_s=5):
    """Waits until no request runs or waits; how long that took."""
    started = time.monotonic()
    while time.monotonic() - started < timeout_s:
        samples = server.metrics()
        busy = sum(value for name, value in samples.items()
                   if name.startswith(("modu_num_requests_running", "modu_num_requests_waiting{")))
        if busy == 0:
            return time.monotonic() - started
        time.sleep(0.02)
    raise AssertionError("a request still runs after its client went away")


def vanish(sent_bytes, read_first=0):
    def act(server):
        data = stream_request()
        connection = connect(server)
        connection.sendall(data[: sent_bytes if sent_bytes else len(data)])
        if read_first:
            connection.recv(read_first)
        # A reset, as a killed process gives it.
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        connection.close()
        settled(server)

    return act


def stop_reading(server):
    """Never reads: the stream must be cut off or end, and nobody else waits for it."""
    connection = connect(server)
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
    connection.sendall(stream_request())
    settled(server, 20)
    connection.close()


def cases():
    yield Case(80, "gone before the headers are through", act=vanish(30))
    yield Case(80, "gone in the body", act=vanish(len(stream_request()) - 10))
    yield Case(80, "gone at once", act=vanish(0))
    yield Case(80, "gone after the first bytes", act=vanish(0, read_first=1))
    yield Case(80, "gone in mid-stream", act=vanish(0, read_first=2000))
    yield Case(81, "a reader that never reads", act=stop_reading, within_s=25)

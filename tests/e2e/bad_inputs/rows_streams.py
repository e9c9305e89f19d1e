"""Section I (cache, streams, tenants): clients that go away, stop reading, or vanish."""

import json
import socket
import struct
import time

from bad_inputs.case import Case
from bad_inputs.own_server import answers, serving
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


def ended_as(server, outcome):
    return sum(value for name, value in server.metrics().items()
               if name.startswith("modu_requests_ended_total") and f'outcome="{outcome}"' in name)


def gone_in_the_queue(_):
    """One sequence at a time: the second call waits, and its client goes.

    The first must outlast all of this on a busy machine: the tiny model says 3,000 tokens in 60 ms, so it gets 100,000.
    """
    with serving("--stream-buffer-bytes", str(1 << 29), max_seqs=1, context=1 << 17, kv_tokens=1 << 17) as server:
        running, waiting = connect(server), connect(server)
        running.sendall(stream_request(STREAM.replace(b"400", b"100000")))
        running.recv(1)
        waiting.sendall(stream_request())
        started = time.monotonic()
        while server.metric("modu_num_requests_waiting") == 0:
            assert time.monotonic() - started < 5, "the second call does not wait"
            time.sleep(0.01)
        waiting.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        waiting.close()
        while server.metric("modu_num_requests_waiting") > 0:
            assert time.monotonic() - started < 10, "it still waits"
            time.sleep(0.01)
        while ended_as(server, "cancelled") == 0:  # counted a moment after it left the queue
            assert time.monotonic() - started < 15, "not counted as cancelled"
            time.sleep(0.01)
        assert ended_as(server, "done") == 0 and ended_as(server, "cancelled") == 1, "the wrong one ended"
        running.close()


# Events of kilobytes, so that the kernel's buffers cannot swallow the whole answer.
LARGE = json.dumps({"prompt": "hello", "max_tokens": 400, "ignore_eos": True, "stream": True, "n": 4, "logprobs": 20}).encode()


def narrow(server, body):
    """A stream whose client has the smallest receive buffer there is."""
    connection = socket.socket()
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
    connection.settimeout(5)
    connection.connect(("127.0.0.1", server.port))
    connection.sendall(stream_request(body))
    return connection


def slow_reader(bytes_a_time):
    """Takes nothing, or next to nothing: the stream is cut off, and nobody waits for it."""

    def act(server):
        before = server.metric("modu_http_streams_cut_off_total")
        connection = narrow(server, LARGE)
        started = time.monotonic()
        while server.metric("modu_http_streams_cut_off_total") == before:
            assert time.monotonic() - started < 20, "the reader is not cut off"
            if bytes_a_time:
                connection.recv(bytes_a_time)
            time.sleep(0.05)
        connection.close()
        settled(server, 5)

    return act


def vanished(_):
    """Row 82: a peer that acknowledges nothing any more looks like this one, whose window stays shut."""
    with serving("--write-stall", "1", "--stream-buffer-bytes", str(1 << 29)) as server:
        connection = narrow(server, LARGE)
        started = time.monotonic()
        while server.metric("modu_http_writes_stalled_total") + server.metric("modu_http_streams_cut_off_total") == 0:
            assert time.monotonic() - started < 20, "a write that does not move is not given up"
            time.sleep(0.05)
        settled(server, 5)
        assert answers(server) == 200
        connection.close()


def cases():
    yield Case(80, "gone while it waits", act=gone_in_the_queue, within_s=20)
    yield Case(80, "gone before the headers are through", act=vanish(30))
    yield Case(80, "gone in the body", act=vanish(len(stream_request()) - 10))
    yield Case(80, "gone at once", act=vanish(0))
    yield Case(80, "gone after the first bytes", act=vanish(0, read_first=1))
    yield Case(80, "gone in mid-stream", act=vanish(0, read_first=2000))
    yield Case(81, "a reader that never reads", act=slow_reader(0), within_s=25)
    yield Case(81, "a reader of a byte at a time", act=slow_reader(1), within_s=25)
    yield Case(82, "a peer that takes nothing any more", act=vanished, within_s=40)

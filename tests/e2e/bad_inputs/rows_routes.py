"""Sections A (keys, routes, tenants) and B (HTTP/1.1 framing): raw bytes on a socket where a client could not say it."""

import socket
import time

from bad_inputs.case import CHAT, Case
from bad_inputs.own_server import answers, key_file, serving

BODY = b'{"messages":[{"role":"user","content":"hello"}],"max_tokens":2}'


def send_raw(server, data, wait_s=10.0):
    """Status of the first answer to raw bytes; 0: closed without one."""
    with socket.create_connection(("127.0.0.1", server.port), timeout=wait_s) as connection:
        try:
            connection.sendall(data)
            answer = b""
            while b"\r\n" not in answer:
                piece = connection.recv(4096)
                if not piece:
                    break
                answer += piece
        except (ConnectionResetError, BrokenPipeError, socket.timeout):
            pass
    return int(answer.split(b" ", 2)[1]) if answer.startswith(b"HTTP/") else 0


def framing(row, title, data, statuses):
    def act(server):
        status = send_raw(server, data)
        assert status in statuses, "status %d, not one of %s" % (status, statuses)

    return Case(row, title, act=act)


def post(*headers, body=BODY, line=b"POST /v1/chat/completions HTTP/1.1"):
    return b"\r\n".join([line, b"Host: x", b"Content-Type: application/json", *headers]) + b"\r\n\r\n" + body


def keys(_):
    """Rows 1 and 2: the same answer for no key, a wrong one, a part of a right one."""
    right = "right-key-0123456789"
    with key_file(right) as path, serving("--api-key-file", path) as server:
        seen = set()
        for sent in (None, "Bearer wrong", "Bearer " + right[:-1] + "X", "Bearer " + right[:8], "Bearer", right,
                     "Basic " + right, "Bearer " + right + "x"):
            status, headers, data = server.request("POST", CHAT, BODY, {"Authorization": sent} if sent else {})
            assert status == 401 and headers.get("WWW-Authenticate") == "Bearer", (sent, status, headers)
            seen.add(data)
        assert len(seen) == 1, seen
        assert answers(server, right) == 200
        for path in ("/livez", "/readyz", "/health"):
            assert server.get(path)[0] == 200, path


def read_all(connection):
    data = b""
    try:
        while True:
            piece = connection.recv(65536)
            if not piece:
                return data
            data += piece
    except (ConnectionResetError, socket.timeout):
        return data


def connect(server):
    return socket.create_connection(("127.0.0.1", server.port), timeout=8)


def slow_clients(_):
    """Rows 21, 25 and 29 at deadlines of a second, all at once, while others are served."""
    with serving("--header-deadline", "1", "--body-idle", "1", "--keepalive-idle", "1") as server:
        idle = [connect(server) for _ in range(200)]
        dripping, expecting, stalled = connect(server), connect(server), connect(server)
        expecting.sendall(post(b"Content-Length: 10", b"Expect: 100-continue", body=b""))
        stalled.sendall(post(b"Content-Length: 100", body=b"{"))
        started = time.monotonic()
        for byte in b"GET /livez HTTP/1.1\r\nHost: xxxxxxxxxxxxx":
            try:
                dripping.send(bytes([byte]))
            except OSError:
                break
            time.sleep(0.05)
            if time.monotonic() - started > 1.5:
                break
            assert answers(server) == 200 or byte % 4
        assert read_all(dripping).startswith(b"HTTP/1.1 408"), "a head that drips"
        answer = read_all(expecting)
        assert answer.startswith(b"HTTP/1.1 100") and b"HTTP/1.1 408" in answer, answer[:100]
        assert read_all(stalled).startswith(b"HTTP/1.1 408"), "a body that stalls"
        for connection in idle:
            assert read_all(connection) == b"", "an idle connection gets an answer"
        assert time.monotonic() - started < 6, "it took %.1f s" % (time.monotonic() - started)
        assert answers(server) == 200


def bytes_after_the_last_request(server):
    """Row 26: on a closing connection what follows is not a second request."""
    with connect(server) as connection:
        connection.sendall(b"GET /livez HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\nGET /v1/models HTTP/1.1\r\nHost: x\r\n\r\n")
        answer = read_all(connection)
    assert answer.count(b"HTTP/1.1 ") == 1 and b"alive" in answer, answer


def route_rows():
    yield Case(1, "no key, wrong ones, parts of a right one (2)", act=keys, within_s=20)
    for path in ("/invocations", "/pause", "/update_weights", "/collective_rpc", "/slots", "/props", "/debug"):
        yield Case(6, path, path, {}, (404,))
        yield Case(6, path, path, None, (404,), method="GET")
    yield framing(7, "TRACE", b"TRACE / HTTP/1.1\r\nHost: x\r\n\r\n", (400, 405))
    yield framing(7, "CONNECT", b"CONNECT x:1 HTTP/1.1\r\nHost: x\r\n\r\n", (400, 405))
    yield framing(3, "two Authorization headers",
                  post(b"Authorization: Bearer a", b"Authorization: Bearer b", b"Content-Length: %d" % len(BODY)), (400, 401))
    for value in ("", "garbage", "1.2.3.4, ,", "::1"):
        yield Case(10, "X-Forwarded-For %r" % value, CHAT, BODY, (200,), headers={"X-Forwarded-For": value})
    yield Case(11, "escapes in a model name", CHAT, {"model": "a\n\x1b[31m\"", "messages": []}, (400, 404))


def framing_rows():
    length = b"Content-Length: %d" % len(BODY)
    yield framing(12, "length and chunked", post(length, b"Transfer-Encoding: chunked"), (400,))
    yield framing(13, "two lengths", post(length, b"Content-Length: 5"), (400,))
    for value in (b"5, 5", b"+5", b"-1", b"0x10", b"1_0", b"99999999999999999999"):
        yield framing(13, "length %r" % value, post(b"Content-Length: " + value), (400, 413))
    for size in (b"0_2e", b"+1", b"-1", b"0x1", b"11111111111111111", b""):
        yield framing(14, "chunk size %r" % size, post(b"Transfer-Encoding: chunked", body=size + b"\r\nx\r\n0\r\n\r\n"),
                      (400, 413))
    yield framing(15, "bare LF", post(length).replace(b"\r\n", b"\n", 1), (400,))
    yield framing(16, "space before the colon", post(b"X-A : 1", length), (400,))
    yield framing(16, "folded header", post(b"X-A: 1\r\n 2", length), (400,))
    for version in (b"HTTP/1.32", b"HTTP/9.9"):
        yield framing(17, version.decode(), b"GET /livez " + version + b"\r\nHost: x\r\n\r\n", (400, 505))
    yield framing(17, "HTTP/0.9", b"GET /livez\r\n\r\n", (400, 505))
    yield framing(18, "no Host", b"GET /livez HTTP/1.1\r\n\r\n", (400,))
    yield framing(18, "two Hosts", b"GET /livez HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", (400,))
    yield framing(19, "long request line", b"GET /" + b"a" * 9000 + b" HTTP/1.1\r\nHost: x\r\n\r\n", (414,))
    yield framing(20, "long header", post(b"X-A: " + b"a" * 40_000, length), (431,))
    yield framing(20, "101 headers", post(*[b"X-%d: 1" % i for i in range(110)], length), (431,))
    yield framing(22, "body over the cap by its length", post(b"Content-Length: 99999999", body=b""), (413,))
    endless = b"".join(b"10000\r\n" + b"x" * 65536 + b"\r\n" for _ in range(80))
    yield framing(23, "body over the cap by chunks", post(b"Transfer-Encoding: chunked", body=endless), (413,))
    yield framing(24, "300,000 one-byte chunks", post(b"Transfer-Encoding: chunked", body=b"1\r\n \r\n" * 300_000 + b"0\r\n\r\n"),
                  (400, 413))
    yield Case(21, "slow heads and bodies, silence after 100 (25), idle connections (29)", act=slow_clients, within_s=30)
    yield Case(26, "bytes after the last request", act=bytes_after_the_last_request)
    yield framing(25, "unknown Expect", post(length, b"Expect: 200-maybe"), (417,))
    yield framing(27, "gzip", post(length, b"Content-Encoding: gzip"), (415,))
    for kind in ("text/plain", "application/json; charset=utf-16"):
        yield Case(28, kind, CHAT, BODY, (415,), headers={"Content-Type": kind})


def cases():
    yield from route_rows()
    yield from framing_rows()

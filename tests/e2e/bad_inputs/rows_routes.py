"""Sections A (keys, routes, tenants) and B (HTTP/1.1 framing): raw bytes on a socket where a client could not say it."""

import socket

from bad_inputs.case import CHAT, Case

BODY = b'{"messages":[{"role":"user","content":"hello"}],"max_tokens":2}'


def send_raw(server, data, wait_s=2.0):
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


def route_rows():
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
    yield framing(25, "unknown Expect", post(length, b"Expect: 200-maybe"), (417,))
    yield framing(27, "gzip", post(length, b"Content-Encoding: gzip"), (415,))
    for kind in ("text/plain", "application/json; charset=utf-16"):
        yield Case(28, kind, CHAT, BODY, (415,), headers={"Content-Type": kind})


def cases():
    yield from route_rows()
    yield from framing_rows()

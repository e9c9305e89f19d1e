"""Section K (gRPC and HTTP/2), the part that raw frames can say. The rest of it is tests/grpc, by a real client.

Frames: RFC 9113, section 4; a flood must end in GOAWAY, a reset or a closed connection, with memory flat.
"""

import socket
import struct

from bad_inputs.case import Case

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
DATA, HEADERS, RST_STREAM, SETTINGS, PING, GOAWAY, CONTINUATION = 0, 1, 3, 4, 6, 7, 9


def frame(kind, flags=0, stream=0, payload=b""):
    return struct.pack(">I", len(payload))[1:] + bytes([kind, flags]) + struct.pack(">I", stream) + payload


def literal(name, value):
    """A header field without indexing and without Huffman coding (RFC 7541, 6.2.2)."""
    def text(data):
        return (bytes([len(data)]) if len(data) < 127 else b"\x7f" + varint(len(data) - 127)) + data

    return b"\x00" + text(name) + text(value)


def varint(value):
    out = b""
    while value >= 128:
        out += bytes([value % 128 + 128])
        value //= 128
    return out + bytes([value])


def call_headers(path=b"/modu.v1.Modu/ListModels"):
    return b"".join(literal(name, value) for name, value in (
        (b":method", b"POST"), (b":scheme", b"http"), (b":path", path), (b":authority", b"x"),
        (b"content-type", b"application/grpc"), (b"te", b"trailers")))


def kinds_in(data):
    kinds, at = [], 0
    while at + 9 <= len(data):
        kinds.append(data[at + 3])
        at += 9 + int.from_bytes(data[at:at + 3], "big")
    return kinds


def serves(server):
    """A plain ListModels on a connection of its own: its trailers come."""
    with socket.create_connection(("127.0.0.1", server.grpc_port), timeout=5) as connection:
        connection.sendall(PREFACE + frame(SETTINGS) + frame(HEADERS, 4, 1, call_headers()) + frame(DATA, 1, 1, bytes(5)))
        answer = b""
        while kinds_in(answer).count(HEADERS) < 2:  # headers and trailers
            piece = connection.recv(1 << 16)
            if not piece:
                return False
            answer += piece
        return True


# What the library may hold for all connections (256 MiB) is the bound; what a flood of some megabytes takes is far below.
MOST_LIVE_BYTES = 288 << 20


def flood(title, bytes_of, must_end=True):
    def act(server):
        before = server.metric("modu_process_live_bytes")
        connection = socket.create_connection(("127.0.0.1", server.grpc_port), timeout=8)
        ended, answer = False, b""
        try:
            connection.sendall(PREFACE + frame(SETTINGS))
            for piece in bytes_of():
                connection.sendall(piece)
        except (ConnectionResetError, BrokenPipeError):
            ended = True
        except socket.timeout:
            ended = True  # it does not read on: what it holds is bounded
        grown = server.metric("modu_process_live_bytes") - before
        assert grown < MOST_LIVE_BYTES, "%s: memory grew by %d bytes" % (title, grown)
        assert serves(server), "%s: others are not served" % title
        try:
            connection.settimeout(10 if must_end else 1)
            while not ended:
                piece = connection.recv(1 << 16)
                answer += piece
                ended = not piece or GOAWAY in kinds_in(answer)
        except ConnectionResetError:
            ended = True
        except socket.timeout:
            pass
        connection.close()
        assert ended or not must_end, "%s: neither GOAWAY nor closed" % title

    return act


def continuations():
    yield frame(HEADERS, 0, 1, call_headers())
    for _ in range(4000):
        yield frame(CONTINUATION, 0, 1, literal(b"x-a", b"b" * 1000))


def large_headers():
    """The same, but it ends: that is a call with too much metadata."""
    yield from continuations()
    yield frame(CONTINUATION, 4, 1, literal(b"x-a", b"b"))


def hpack_bomb():
    """One indexed field of 4,000 bytes, then named over and over in one block."""
    large = b"\x40" + b"\x03x-b" + b"\x7f" + varint(3900 - 127) + b"c" * 3900
    yield frame(HEADERS, 0, 1, call_headers() + large)
    for _ in range(200):
        yield frame(CONTINUATION, 0, 1, b"\xbe" * 10_000)


def resets():
    for i in range(5_000):
        yield frame(HEADERS, 4 | 1, 2 * i + 1, call_headers()) + frame(RST_STREAM, 0, 2 * i + 1, struct.pack(">I", 8))


def warm_up(server):
    """The library's threads, of which it keeps what it once needed."""
    flood("warm-up", resets, must_end=False)(server)


def cases():
    pings = flood("100,000 PINGs", lambda: (frame(PING, 0, 0, b"12345678") * 1000 for _ in range(100)))
    # Acknowledged one by one, or refused one by one: memory stays flat, and the connection may live.
    settings = flood("100,000 SETTINGS", lambda: (frame(SETTINGS) * 1000 for _ in range(100)), must_end=False)
    short = flood("a long prefix", lambda: [frame(HEADERS, 4, 1, call_headers()),
                                            frame(DATA, 1, 1, b"\x00\x7f\xff\xff\xff" + b"x" * 100)], must_end=False)
    yield Case(100, "PINGs", act=pings, within_s=20)
    yield Case(100, "SETTINGS", act=settings, within_s=20)
    yield Case(100, "streams opened and reset", act=flood("rapid reset", resets, must_end=False), within_s=30)
    yield Case(100, "headers without end", act=flood("CONTINUATION", continuations), within_s=20)
    yield Case(100, "4 MiB of headers", act=flood("CONTINUATION", large_headers, must_end=False), within_s=20)
    yield Case(100, "an HPACK bomb", act=flood("HPACK", hpack_bomb), within_s=20)
    yield Case(98, "a message longer than its stream", act=short, within_s=20)

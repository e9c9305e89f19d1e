"""Section L (machine and process)."""

import os
import resource
import signal
import socket
import subprocess
import tempfile
import threading
import time

from bad_inputs.case import Case
from bad_inputs.own_server import answers, key_file, last_event, serving
from bad_inputs.rows_grpc import serves as grpc_answers
from modu_server import BINARY, free_ports

LONG = {"prompt": "hello", "max_tokens": 3000, "ignore_eos": True, "temperature": 0, "stream": True,
        "stream_options": {"include_usage": True}}
ENDLESS = {**LONG, "max_tokens": 100_000}  # is cut long before


def exits_with(arguments, says, within_s=5):
    done = subprocess.run([BINARY, "serve", *arguments], capture_output=True, text=True, timeout=within_s)
    text = done.stdout + done.stderr
    assert done.returncode > 0, "exit code %d: %s" % (done.returncode, text[:300])
    assert says in text, "%r is not in: %s" % (says, text[-300:])


def busy_port(server):
    ports = free_ports(2)
    exits_with([server.model, "--port", str(server.port), "--grpc-port", str(ports[0]), "--admin-port", str(ports[1])],
               str(server.port))


def out_of_descriptors(_):
    """More connections than descriptors: those that are there go on, and when they close the next ones are taken, at
    both doors."""
    def few():
        resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))

    with serving(preexec=few) as server:
        held = []
        for _ in range(100):
            connection = socket.socket()
            connection.settimeout(20)
            connection.connect(("127.0.0.1", server.port))
            held.append(connection)
        for _ in range(100):
            held.append(socket.create_connection(("127.0.0.1", server.grpc_port)))
        time.sleep(0.3)
        held[0].sendall(b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n")
        said = held[0].recv(100)
        assert said.startswith(b"HTTP/1.1 200"), "a connection that was there is not served: %r" % said
        assert server.metric("modu_http_connections") > 0, "the admin port does not answer"
        for connection in held:
            connection.close()
        deadline = time.monotonic() + 5
        while True:
            try:
                assert answers(server) == 200
                break
            except OSError:
                assert time.monotonic() < deadline, "it does not recover"
                time.sleep(0.05)
        assert grpc_answers(server), "gRPC does not recover"


def log_goes_nowhere(_):
    with open("/dev/full", "w") as full, serving(stderr=full) as server:
        for _ in range(5):
            assert answers(server) == 200
        deadline = time.monotonic() + 3
        while server.metric("modu_log_dropped_total") == 0:
            assert time.monotonic() < deadline, "lost log lines are not counted"
            time.sleep(0.05)
    reader, writer = os.pipe()
    with serving(stderr=writer) as server:
        os.close(reader)
        for _ in range(5):
            assert answers(server) == 200
        assert server.metric("modu_requests_in_flight") == 0
    os.close(writer)


def bad_config(server):
    for text, says in (("no_such_key: 1", "no_such_key"), ("port: x", "port"), ("max-seqs: 0", "max-seqs")):
        with tempfile.NamedTemporaryFile("w", suffix=".yaml", delete=False) as file:
            file.write(text)
        exits_with([server.model, "--config", file.name], says)
        os.unlink(file.name)
    exits_with([server.model, "--tls-cert", "/absent.pem", "--tls-key", "/absent.pem"], "tls-cert")


def readable_keys(_):
    with key_file("a-key", mode=0o644) as path, serving("--api-key-file", path) as server:
        assert "can be read by everyone" in server.log_text(), server.log_text()[-500:]
        assert "a-key" not in server.log_text()
    with key_file("a-key") as path, serving("--api-key-file", path) as server:
        assert "can be read by everyone" not in server.log_text()


class Stream(threading.Thread):
    """A long stream on a server that is about to get a signal; answer is all that came."""

    def __init__(self, server, headers=None, body=LONG):
        super().__init__(daemon=True)
        self.server, self.headers, self.body, self.answer = server, headers, body, b""
        self.start()
        deadline = time.monotonic() + 10
        while server.metric("modu_generation_tokens_total") < 5:
            assert time.monotonic() < deadline, "the stream does not start"
            time.sleep(0.01)

    def run(self):
        self.answer = self.server.post("/v1/completions", self.body, headers=self.headers)[2]

    def whole(self):
        self.join(60)
        event, done = last_event(self.answer)
        return done and event.get("usage", {}).get("completion_tokens") == LONG["max_tokens"]


def drains_on(signal_number):
    def act(_):
        with serving(context=4096) as server:
            stream = Stream(server)
            server.process.send_signal(signal_number)
            time.sleep(0.05)
            assert stream.whole(), stream.answer[-300:]
            assert server.process.wait(10) == 0

    return act


def second_signal_stops(_):
    with serving(context=131072, kv_tokens=131072, exit_codes=(3,)) as server:
        stream = Stream(server, body=ENDLESS)
        server.process.send_signal(signal.SIGTERM)
        deadline = time.monotonic() + 10
        while server.metric("modu_engine_draining") == 0:  # a signal that waits swallows the second
            assert time.monotonic() < deadline, "the first does not drain"
            time.sleep(0.01)
        started = time.monotonic()
        server.process.send_signal(signal.SIGTERM)
        assert server.process.wait(10) == 3
        assert time.monotonic() - started < 4, "it took %.1f s" % (time.monotonic() - started)
        stream.join(10)
        event, _ = last_event(stream.answer)
        assert event["error"]["code"] == "shutting_down", event


def hangup_reloads_keys(_):
    """A stream whose key was taken away meanwhile runs to its end, the next call with it is 401."""
    with key_file("first") as path, serving("--api-key-file", path, context=4096) as server:
        stream = Stream(server, {"Authorization": "Bearer first"})
        with open(path, "w") as out:
            out.write("second\n")
        server.process.send_signal(signal.SIGHUP)
        deadline = time.monotonic() + 5
        while answers(server, "second") != 200:
            assert time.monotonic() < deadline, "the new key is not taken"
            time.sleep(0.02)
        assert answers(server, "first") == 401
        assert stream.whole(), stream.answer[-300:]
        # A file that is no good leaves the keys that stand.
        with open(path, "w") as out:
            out.write("# none\n")
        server.process.send_signal(signal.SIGHUP)
        deadline = time.monotonic() + 5
        while "not reloaded" not in server.log_text():
            assert time.monotonic() < deadline, server.log_text()[-500:]
            time.sleep(0.02)
        assert answers(server, "second") == 200 and answers(server) == 401
    with serving() as server:  # without keys there is nothing to reload, and nothing stops
        server.process.send_signal(signal.SIGHUP)
        time.sleep(0.1)
        assert answers(server) == 200


def cases():
    yield Case(103, "port busy at start", act=busy_port, within_s=6)
    yield Case(104, "out of descriptors", act=out_of_descriptors, within_s=20)
    yield Case(106, "a full disk and a closed pipe behind the log", act=log_goes_nowhere, within_s=20)
    yield Case(107, "bad configuration", act=bad_config, within_s=20)
    yield Case(107, "a key file that everyone can read is a warning", act=readable_keys, within_s=20)
    yield Case(108, "SIGTERM drains", act=drains_on(signal.SIGTERM), within_s=60)
    yield Case(108, "SIGINT drains", act=drains_on(signal.SIGINT), within_s=60)
    yield Case(108, "SIGTERM twice stops at once", act=second_signal_stops, within_s=30)
    yield Case(4, "SIGHUP reloads the keys; one revoked in mid-stream (108)", act=hangup_reloads_keys, within_s=60)

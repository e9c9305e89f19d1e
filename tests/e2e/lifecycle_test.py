"""Keys and drain."""

import hashlib
import json
import os
import signal
import socket
import threading
import time
import unittest

import tiny_gguf
from modu_server import Server
from tiny_model import TinyModel

LONG = 8_000  # tokens


class Drain(TinyModel):
    def test_streams_finish_and_new_work_is_refused(self):
        # Four answers that last for seconds: on a quick machine all still run when the signal comes, on a slow one the
        # drain has time for them.
        model = os.path.join(self.folder.name, "long.gguf")
        with open(model, "wb") as out:
            out.write(tiny_gguf.tiny_gguf(context=1 << 15))
        with Server(model, "--kv-tokens", str(1 << 17), "--draft-tokens", "0", "--drain", "300") as server:
            answers = []

            def stream():
                body = {"prompt": "hello", "max_tokens": LONG, "ignore_eos": True, "stream": True,
                        "stream_options": {"include_usage": True}}
                answers.append(server.post("/v1/completions", body, timeout=300)[2].decode())

            threads = [threading.Thread(target=stream) for _ in range(4)]
            for thread in threads:
                thread.start()
            deadline = time.monotonic() + 20
            while sum(v for k, v in server.metrics().items() if k.startswith("modu_num_requests_running")) < 4:
                self.assertLess(time.monotonic(), deadline, "the streams do not start")
                time.sleep(0.01)
            self.assertEqual(server.metric("modu_engine_draining"), 0)
            server.process.send_signal(signal.SIGTERM)
            deadline = time.monotonic() + 20
            while server.metric("modu_engine_draining") == 0:
                self.assertLess(time.monotonic(), deadline, "the signal does not begin to drain")
                time.sleep(0.01)
            self.assertEqual(answers, [], "the streams are over already")
            self.assertEqual(server.get("/readyz")[0], 503)
            self.assertEqual(server.post("/v1/completions", {"prompt": "late"})[0], 503)
            self.assertEqual(server.metric("modu_requests_failed_total", 'reason="shutting_down"'), 1)
            for thread in threads:
                thread.join()
            self.assertEqual(server.stop(), 0)
        self.assertEqual(len(answers), 4)
        for answer in answers:
            events = [line[6:] for line in answer.split("\n") if line.startswith("data: ")]
            self.assertEqual(events[-1], "[DONE]")
            self.assertEqual(json.loads(events[-2])["usage"]["completion_tokens"], LONG)

    def slow_answer(self, server, seconds):
        """Asks for an answer of half a megabyte, drains while it is on its way, and reads it within `seconds`."""
        body = json.dumps({"prompt": ["word " * 150] * 10, "max_tokens": 0, "echo": True, "logprobs": 20}).encode()
        connection = socket.socket()
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        connection.connect(("127.0.0.1", server.port))
        with connection:
            connection.sendall(b"POST /v1/completions HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
                               b"Content-Length: %d\r\n\r\n" % len(body) + body)
            answer = connection.recv(4096)
            server.process.send_signal(signal.SIGTERM)
            began = time.monotonic()
            try:
                while piece := connection.recv(65536):
                    answer += piece
                    time.sleep(0 if time.monotonic() - began > seconds else 0.1)
            except ConnectionResetError:
                pass
        head, _, data = answer.partition(b"\r\n\r\n")
        return int(head.lower().split(b"content-length: ")[1].split(b"\r\n")[0]), len(data)

    def test_an_answer_has_the_whole_drain_to_reach_its_reader(self):
        server = Server(self.model, "--drain", "30")
        promised, came = self.slow_answer(server, seconds=5)
        self.assertGreater(promised, 300_000)
        self.assertEqual(came, promised)
        self.assertEqual(server.stop(), 0)

    def test_an_answer_cut_by_the_drain_is_told_by_the_exit(self):
        server = Server(self.model, "--drain", "1")
        promised, came = self.slow_answer(server, seconds=60)
        self.assertLess(came, promised)
        self.assertEqual(server.stop(), 3)

    def test_a_stream_past_the_deadline_ends_with_an_error(self):
        server = Server(self.model, "--drain", "1", "--ctx", "4096")
        body = json.dumps({"prompt": "hello", "max_tokens": 4000, "ignore_eos": True, "stream": True, "n": 8}).encode()
        with socket.create_connection(("127.0.0.1", server.port)) as connection:
            connection.sendall(b"POST /v1/completions HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
                               b"Content-Length: %d\r\n\r\n" % len(body) + body)
            connection.recv(100)
            server.process.send_signal(signal.SIGTERM)
            answer = b""
            while True:
                piece = connection.recv(65536)
                if not piece:
                    break
                answer += piece
        server.stop()
        self.assertTrue(b'"error"' in answer or b"[DONE]" in answer)


class Keys(TinyModel):
    def test_every_route_but_health_needs_one(self):
        key_file = os.path.join(self.folder.name, "keys")
        with open(key_file, "w") as out:
            out.write("# two keys\nplain-key\nsha256:%s\n" % hashlib.sha256(b"hashed-key").hexdigest())
        os.chmod(key_file, 0o600)
        with Server(self.model, "--api-key-file", key_file) as server:
            for path in ("/livez", "/readyz", "/health"):
                self.assertEqual(server.get(path)[0], 200, path)
            body = {"prompt": "hello", "max_tokens": 2}
            for method, path, sent in (("POST", "/v1/completions", body), ("GET", "/v1/models", None),
                                       ("POST", "/tokenize", {"prompt": "x"}), ("GET", "/version", None)):
                for headers in ({}, {"Authorization": "Bearer plain-keY"}, {"Authorization": "Bearer plain-ke"},
                                {"Authorization": "plain-key"}):
                    status, answer, _ = server.request(method, path, sent, headers)
                    self.assertEqual(status, 401, (path, headers))
                    self.assertEqual(answer.get("WWW-Authenticate"), "Bearer")
                for key in ("plain-key", "hashed-key"):
                    self.assertEqual(server.request(method, path, sent, {"Authorization": "Bearer " + key})[0], 200)
            self.assertNotIn("plain-key", server.log_text())
            # Of the refusals four were generations.
            self.assertEqual(server.metric("modu_requests_failed_total", 'reason="unauthorized"'), 4)


if __name__ == "__main__":
    unittest.main()

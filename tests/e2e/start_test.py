"""What comes before a server is ready: signals, ports that are taken, what it prints."""

import json
import os
import re
import signal
import socket
import subprocess
import tempfile
import time
import unittest
import urllib.request

from modu_server import BINARY, Server, free_ports
from tiny_model import TinyModel


class SilentHost:
    """Accepts connections on loopback and never answers: a model fetched from it stays in the fetching."""

    def __enter__(self):
        self.socket = socket.create_server(("127.0.0.1", 0))
        self.socket.settimeout(20)
        self.url = "http://127.0.0.1:%d/model.gguf" % self.socket.getsockname()[1]
        return self

    def __exit__(self, *_):
        self.socket.close()


def serve(*arguments, **options):
    return subprocess.Popen([BINARY, "serve", *arguments], stderr=subprocess.PIPE, text=True, **options)


class BeforeReady(TinyModel):
    def test_a_signal_ends_it_at_once(self):
        for number in (signal.SIGTERM, signal.SIGINT):
            with SilentHost() as host, tempfile.TemporaryDirectory() as home:
                process = serve(host.url, "--port", "0", "--grpc-port", "0", "--admin-port", "0",
                                env={**os.environ, "MODU_HOME": home})
                host.socket.accept()[0].recv(1)
                process.send_signal(number)
                process.communicate(timeout=20)
                self.assertEqual(process.returncode, 128 + number)

    def test_doors_that_cannot_open_are_named_before_anything_is_fetched(self):
        with socket.create_server(("127.0.0.1", 0)) as taken, SilentHost() as host:
            port = str(taken.getsockname()[1])
            free, other = map(str, free_ports(2))
            for flags, words in ((("--port", port), ("port: ", port)),
                                 (("--port", free, "--grpc-port", port), ("grpc-port: ", port)),
                                 (("--port", free, "--grpc-port", other, "--admin-port", port), ("admin-port: ", port)),
                                 (("--port", free, "--grpc-port", free), ("port and grpc-port: ", free)),
                                 (("--host", "nowhere"), ("host: ", '"nowhere"')),
                                 (("--port", "0", "--grpc-port", "0", "--admin-host", "x"), ("admin-host: ", '"x"'))):
                process = serve(host.url, *flags)
                said = process.communicate(timeout=20)[1]
                self.assertEqual(process.returncode, 1, said)
                for word in words:
                    self.assertIn(word, said.splitlines()[-1])
            host.socket.settimeout(0.1)
            with self.assertRaises(TimeoutError):
                host.socket.accept()

    def test_a_context_above_the_models_is_refused_before_the_weights_are_read(self):
        process = serve(self.model, "--ctx", "5000", "--port", "0", "--grpc-port", "0", "--admin-port", "0")
        said = process.communicate(timeout=20)[1]
        self.assertEqual(process.returncode, 1, said)
        self.assertIn("ctx", said.splitlines()[-1])
        self.assertIn("4096", said.splitlines()[-1])
        self.assertNotIn("loading", said)

    def test_a_model_that_cannot_be_read_is_named_by_its_path(self):
        with tempfile.TemporaryDirectory() as empty, tempfile.NamedTemporaryFile(suffix=".gguf") as broken:
            broken.write(b"no model")
            broken.flush()
            for path, words in ((empty, "config.json"), (broken.name, "GGUF")):
                process = serve(path, "--port", "0", "--grpc-port", "0", "--admin-port", "0")
                said = process.communicate(timeout=20)[1].splitlines()[-1]
                self.assertEqual(process.returncode, 1, said)
                self.assertIn(path + ": ", said)
                self.assertIn(words, said)


class Ready(TinyModel):
    def test_any_free_port_is_printed(self):
        process = serve(self.model, "--port", "0", "--grpc-port", "0", "--admin-port", "0")
        try:
            line = next(line for line in process.stderr if line.startswith("ready after"))
            rest, grpc, admin = map(int, re.search(r"REST http://127.0.0.1:(\d+), gRPC 127.0.0.1:(\d+), "
                                                   r"metrics http://127.0.0.1:(\d+)/metrics", line).groups())
            for port, path in ((rest, "/readyz"), (admin, "/metrics")):
                self.assertEqual(urllib.request.urlopen("http://127.0.0.1:%d%s" % (port, path)).status, 200)
            socket.create_connection(("127.0.0.1", grpc)).close()
        finally:
            process.send_signal(signal.SIGTERM)
            process.communicate(timeout=20)
        self.assertEqual(process.returncode, 0)

    def test_a_json_log_holds_nothing_but_json(self):
        server = Server(self.model, "--log-format", "json")
        server.post_json("/v1/completions", {"prompt": "hello", "max_tokens": 2})
        self.assertEqual(server.stop(), 0)
        events = [json.loads(line) for line in server.log_text().splitlines()]
        names = [event["event"] for event in events]
        for name in ("setting", "ready", "request", "draining"):
            self.assertIn(name, names)
        ready = next(event for event in events if event["event"] == "ready")
        self.assertEqual(ready["port"], server.port)

    def test_idle_uses_no_cpu(self):
        with Server(self.model) as server:

            def cpu():
                with open("/proc/%d/stat" % server.process.pid) as stat:
                    fields = stat.read().rsplit(")", 1)[1].split()
                return int(fields[11]) + int(fields[12])

            server.post_json("/v1/completions", {"prompt": "hello", "max_tokens": 4})
            time.sleep(0.5)
            before = cpu()
            time.sleep(2)
            self.assertLessEqual(cpu() - before, 4, "ticks of 10 ms while nothing is asked for")


if __name__ == "__main__":
    unittest.main()

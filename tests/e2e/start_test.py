"""What comes before a server is ready: signals, ports that are taken, what it prints."""

import json
import os
import re
import shlex
import shutil
import signal
import socket
import subprocess
import tempfile
import time
import unittest
import urllib.request

import default_model
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
                connection = host.socket.accept()[0]  # kept: one that closes would end the fetch first
                connection.recv(1)
                process.send_signal(number)
                process.communicate(timeout=20)
                connection.close()
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

    @unittest.skipIf(shutil.which("openssl") is None, "no openssl command to make a certificate with")
    def test_tls_and_key_files_are_looked_at_before_anything_is_fetched(self):
        with tempfile.TemporaryDirectory() as folder, SilentHost() as host:
            def made(name, *arguments):
                path = os.path.join(folder, name)
                subprocess.run(["openssl", *arguments, "-out", path], check=True, capture_output=True)
                return path

            def written(name, text):
                path = os.path.join(folder, name)
                with open(path, "w") as out:
                    out.write(text)
                return path

            key, other = (made(name, "ecparam", "-genkey", "-name", "prime256v1", "-noout") for name in ("key", "other"))
            cert = made("cert", "req", "-x509", "-key", key, "-days", "2", "-subj", "/CN=localhost")
            locked = made("locked", "pkcs8", "-topk8", "-in", key, "-passout", "pass:word")
            junk, keys = written("junk", "junk"), written("keys", "one\ntwo words\n")
            for setting, path, words, flags in (
                    ("tls-cert", "/absent.pem", "No such file", ("--tls-cert", "/absent.pem", "--tls-key", key)),
                    ("tls-key", "/absent.pem", "No such file", ("--tls-cert", cert, "--tls-key", "/absent.pem")),
                    ("tls-cert", junk, "PEM certificate", ("--tls-cert", junk, "--tls-key", key)),
                    ("tls-cert", folder, "PEM certificate", ("--tls-cert", folder, "--tls-key", key)),
                    ("tls-key", junk, "PEM private key", ("--tls-cert", cert, "--tls-key", junk)),
                    ("tls-key", locked, "PEM private key", ("--tls-cert", cert, "--tls-key", locked)),
                    ("tls-key", other, "is not the key of " + cert, ("--tls-cert", cert, "--tls-key", other)),
                    ("api-key-file", "/absent", "cannot be read", ("--api-key-file", "/absent")),
                    ("api-key-file", keys, "line 2", ("--api-key-file", keys))):
                process = serve(host.url, "--port", "0", "--grpc-port", "0", "--admin-port", "0", *flags,
                                stdin=subprocess.DEVNULL)
                said = process.communicate(timeout=20)[1].splitlines()[-1]
                self.assertEqual(process.returncode, 1, said)
                self.assertIn("%s: %s: " % (setting, path), said)
                self.assertIn(words, said)
            host.socket.settimeout(0.1)
            with self.assertRaises(TimeoutError):
                host.socket.accept()

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


def has_ipv6():
    try:
        with socket.create_server(("::1", 0), family=socket.AF_INET6):
            return True
    except OSError:
        return False


class Ready(TinyModel):
    def lines_at_start(self, *flags):
        """(process, its ready line, the URL of the line to try) of a server on any free port."""
        process = serve(self.model, "--port", "0", "--grpc-port", "0", "--admin-port", "0", *flags)
        ready = next(line for line in process.stderr if line.startswith("ready after"))
        curl = next(line for line in process.stderr if line.startswith("  curl "))
        return process, ready, shlex.split(curl)[1]

    def test_the_line_to_try_can_be_called_whatever_the_host(self):
        cases = [("127.0.0.1", "127.0.0.1", "127.0.0.1"), ("0.0.0.0", "0.0.0.0", "127.0.0.1"), ("*", "*", "127.0.0.1")]
        if has_ipv6():
            cases += [("::1", "[::1]", "[::1]"), ("::", "[::]", "[::1]"), ("0::0", "[0::0]", "[::1]")]
        for host, printed, called in cases:
            process, ready, url = self.lines_at_start("--host", host, "--admin-host", host)
            try:
                port = re.search(r"REST http://%s:(\d+), gRPC %s:\d+, metrics http://%s:\d+/metrics"
                                 % ((re.escape(printed),) * 3), ready).group(1)
                base = "http://%s:%s" % (called, port)
                self.assertTrue(url.startswith(base + "/v1/"), url)
                self.assertEqual(urllib.request.urlopen(base + "/readyz").status, 200)
                chat = subprocess.run([BINARY, "chat", "--url", base, "--max-tokens", "2"], input="hello\n",
                                      capture_output=True, text=True, timeout=20)
                self.assertEqual(chat.returncode, 0, chat.stdout + chat.stderr)
            finally:
                process.send_signal(signal.SIGTERM)
                process.communicate(timeout=20)

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

    def test_the_metrics_say_which_type_the_kv_really_has(self):
        for flags, dtype in (((), None), (("--numerics", "exact"), "f32"), (("--kv-dtype", "f32"), "f32"),
                             (("--kv-dtype", "bf16"), "bf16"), (("--kv-dtype", "int8"), "int8"),
                             (("--kv-dtype", "fp8"), "fp8")):
            with Server(self.model, *flags) as server:
                info = [sample for sample in server.metrics() if "cache_config_info{" in sample]
                status, answer = server.post_json("/v1/completions", {"prompt": "hello", "max_tokens": 2})
                self.assertEqual((status, answer["usage"]["completion_tokens"]), (200, 2))
                if dtype is None:
                    mode = re.search(r"cpu \w+, \d+ threads?, (\w+)", server.log_text()).group(1)
                    dtype = "int8" if mode in ("int8", "phased") else "bf16"
            self.assertTrue(info)
            for sample in info:
                self.assertIn('cache_dtype="%s"' % dtype, sample)

    def engine_config_of(self, model, *flags):
        with Server(model, *flags) as server:
            info = next(sample for sample in server.metrics() if sample.startswith("modu_engine_config_info{"))
            return dict(re.findall(r'(\w+)="([^"]*)"', info))

    def test_the_metrics_say_what_the_engine_was_given(self):
        phased = self.engine_config_of(default_model.path(), "--numerics", "phased")
        self.assertEqual(phased["max_decode_slowdown"], "200")
        config = self.engine_config_of(self.model, "--numerics", "exact", "--max-seqs", "5", "--draft-tokens", "3")
        self.assertEqual(config["max_decode_slowdown"], "230")
        self.assertEqual((config["max_seqs"], config["draft_tokens"], config["max_step_tokens"]), ("5", "3", "512"))
        for asked, given in (("0", "0"), ("150", "150")):
            config = self.engine_config_of(self.model, "--max-decode-slowdown", asked)
            self.assertEqual(config["max_decode_slowdown"], given)

    def numerics_of(self, model, *flags):
        """(level, mode) of the device that `model` is served on."""
        server = Server(model, *flags)
        status, _ = server.post_json("/v1/completions", {"prompt": "hello", "max_tokens": 3})
        self.assertEqual((status, server.stop()), (200, 0))
        return re.search(r"cpu (\w+), \d+ threads?, (\w+)", server.log_text()).groups()

    def test_auto_numerics_are_phased_on_tiles_where_weights_are_quantised(self):
        level, mode = self.numerics_of(default_model.path())
        self.assertEqual(mode, "phased" if level == "amx" else "int8")
        level, mode = self.numerics_of(self.model)  # in float32
        self.assertEqual(mode, "bf16" if level == "amx" else "int8")
        self.assertEqual(self.numerics_of(default_model.path(), "--numerics", "phased")[1], "phased")

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

"""Starts build/modu on free loopback ports and stops it; small HTTP helpers. Standard library only."""

import http.client
import json
import os
import signal
import socket
import subprocess
import tempfile
import time

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
BINARY = os.environ.get("MODU_BINARY", os.path.join(ROOT, "build", "modu"))


def free_ports(count):
    """Ports that were free a moment ago."""
    sockets = [socket.socket() for _ in range(count)]
    for each in sockets:
        each.bind(("127.0.0.1", 0))
    ports = [each.getsockname()[1] for each in sockets]
    for each in sockets:
        each.close()
    return ports


class Server:
    """A running `modu serve MODEL`; a context manager that checks the exit on leaving. `command` is what is run
    instead of `modu serve`."""

    def __init__(self, model, *flags, ready_s=60, env=None, command=(BINARY, "serve"), stderr=None, preexec=None,
                 exit_codes=(0,)):
        """stderr: a descriptor of the caller's in place of the log file. exit_codes: what stopping may give."""
        self.exit_codes = exit_codes
        self.port, self.grpc_port, self.admin_port = free_ports(3)
        self.log = tempfile.NamedTemporaryFile("w+", suffix=".log", delete=False)
        command = [*command, model, "--port", str(self.port), "--grpc-port", str(self.grpc_port),
                   "--admin-port", str(self.admin_port), *flags]
        self.started = time.monotonic()
        self.process = subprocess.Popen(command, stdout=self.log if stderr is None else stderr,
                                        stderr=subprocess.STDOUT, env={**os.environ, **(env or {})},
                                        preexec_fn=preexec)
        self.wait_ready(ready_s)
        self.ready_after_s = time.monotonic() - self.started

    def wait_ready(self, timeout_s):
        deadline = time.monotonic() + timeout_s
        while time.monotonic() < deadline:
            if self.process.poll() is not None:
                raise RuntimeError("modu exited with %s:\n%s" % (self.process.returncode, self.log_text()))
            try:
                if self.get("/readyz")[0] == 200:
                    return
            except OSError:
                pass
            time.sleep(0.01)
        self.process.kill()
        raise RuntimeError("modu was not ready in %s s:\n%s" % (timeout_s, self.log_text()))

    def log_text(self):
        with open(self.log.name, errors="replace") as log:
            return log.read()

    def request(self, method, path, body=None, headers=None, port=None, timeout=60):
        """(status, headers, body bytes) of one call on its own connection."""
        connection = http.client.HTTPConnection("127.0.0.1", port or self.port, timeout=timeout)
        try:
            if isinstance(body, (dict, list)):
                body = json.dumps(body).encode()
            sent = {"Content-Type": "application/json", **(headers or {})} if body is not None else (headers or {})
            connection.request(method, path, body=body, headers=sent)
            answer = connection.getresponse()
            return answer.status, dict(answer.getheaders()), answer.read()
        finally:
            connection.close()

    def get(self, path, **kwargs):
        return self.request("GET", path, **kwargs)

    def post(self, path, body, **kwargs):
        return self.request("POST", path, body=body, **kwargs)

    def post_json(self, path, body, **kwargs):
        status, _, data = self.post(path, body, **kwargs)
        return status, json.loads(data)

    def metrics(self):
        """{sample name with labels: value} of the admin port."""
        status, _, data = self.get("/metrics", port=self.admin_port)
        assert status == 200, status
        samples = {}
        for line in data.decode().splitlines():
            if line and not line.startswith("#"):
                name, value = line.rsplit(" ", 1)
                samples[name] = float(value)
        return samples

    def metric(self, name, label=""):
        """The sum of the samples of that name whose labels contain `label`."""
        return sum(value for sample, value in self.metrics().items()
                   if sample.split("{")[0] == name and label in sample)

    def stop(self, timeout_s=40):
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        try:
            return self.process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            raise RuntimeError("modu did not stop:\n" + self.log_text())

    def __enter__(self):
        return self

    def __exit__(self, kind, value, trace):
        code = self.stop()
        text = self.log_text()
        if kind is None:
            assert code in self.exit_codes, "exit code %s:\n%s" % (code, text)
            assert "Sanitizer" not in text and "runtime error" not in text, text
        elif "MODU_E2E_VERBOSE" in os.environ:
            print(text)
        os.unlink(self.log.name)

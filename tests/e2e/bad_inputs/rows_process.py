"""Section L (machine and process)."""

import os
import signal
import subprocess
import tempfile

from bad_inputs.case import Case
from modu_server import BINARY, free_ports


def exits_with(arguments, says, within_s=5):
    done = subprocess.run([BINARY, "serve", *arguments], capture_output=True, text=True, timeout=within_s)
    text = done.stdout + done.stderr
    assert done.returncode > 0, "exit code %d: %s" % (done.returncode, text[:300])
    assert says in text, "%r is not in: %s" % (says, text[-300:])


def busy_port(server):
    ports = free_ports(2)
    exits_with([server.model, "--port", str(server.port), "--grpc-port", str(ports[0]), "--admin-port", str(ports[1])],
               str(server.port))


def bad_config(server):
    for text, says in (("no_such_key: 1", "no_such_key"), ("port: x", "port"), ("max-seqs: 0", "max-seqs")):
        with tempfile.NamedTemporaryFile("w", suffix=".yaml", delete=False) as file:
            file.write(text)
        exits_with([server.model, "--config", file.name], says)
        os.unlink(file.name)
    exits_with([server.model, "--tls-cert", "/absent.pem", "--tls-key", "/absent.pem"], "tls-cert")


def cases():
    yield Case(103, "port busy at start", act=busy_port, within_s=6)
    yield Case(107, "bad configuration", act=bad_config, within_s=20)

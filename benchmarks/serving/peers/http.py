"""A server on a loopback port, measured with modu-loadgen."""

import collections
import json
import os
import signal
import socket
import subprocess
import tempfile
import time
import urllib.error
import urllib.request

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__)))))
FOLDER = os.path.join(ROOT, "build", "peers")

# requests 0: as many as modu-loadgen sends by default at that many streams.
Point = collections.namedtuple("Point", "streams prompt output requests")


def context_of(point):
    """Positions that a sequence of this point needs, with room to spare."""
    return max(512, 128 * ((point.prompt + point.output + 255) // 128))


class Running:
    """A server process, ready to answer."""

    def __init__(self, command, port, env=None, timeout_s=120):
        self.log = tempfile.TemporaryFile()
        started = time.monotonic()
        self.process = subprocess.Popen(command, stdout=self.log, stderr=subprocess.STDOUT, env={**os.environ, **(env or {})}, process_group=0)
        while True:
            try:
                if urllib.request.urlopen("http://127.0.0.1:%d/health" % port, timeout=2).status == 200:
                    break
            except (urllib.error.URLError, OSError):
                pass
            if self.process.poll() is not None or time.monotonic() - started > timeout_s:
                self.kill()
                self.log.seek(0)
                raise RuntimeError("%s did not start:\n%s" % (command[0], self.log.read().decode()[-2000:]))
            time.sleep(0.02)
        self.ready_s = time.monotonic() - started

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.terminate()
        try:
            self.process.wait(20)
        except subprocess.TimeoutExpired:
            pass
        self.kill()

    def kill(self):
        """The server and what it started: a child that outlives it would compute beside the next contender."""
        try:
            os.killpg(self.process.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
        self.process.wait()


class HttpContender:
    """Subclasses say `command(point, port)`."""

    env = {}
    start_timeout_s = 120

    def prepare(self):
        pass

    def measure(self, point, seed):
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        with tempfile.NamedTemporaryFile(suffix=".json") as out, \
                Running(self.command(point, port), port, self.env, self.start_timeout_s) as server:
            text = subprocess.run(
                [os.path.join(ROOT, "build", "modu-loadgen"), "--port", str(port), "--streams", str(point.streams),
                 "--prompt-tokens", str(point.prompt), "--output-tokens", str(point.output), "--seed", str(seed),
                 "--label", self.name, "--requests", str(point.requests), "--json", out.name],
                stdout=subprocess.PIPE, text=True, check=True).stdout
            print(text.splitlines()[-1], flush=True)
            figures = json.load(out)[0]
            figures["ready_s"] = server.ready_s
            return figures

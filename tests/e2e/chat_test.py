"""`modu chat` as a person has it: in a terminal (a pty), against a running server, its own, and over https."""

import os
import pty
import re
import select
import shutil
import signal
import socket
import subprocess
import termios
import time
import unittest

from modu_server import BINARY, Server
import tiny_gguf
from tiny_model import TinyModel


class Terminal:
    """A `modu chat` behind a pty."""

    def __init__(self, *arguments):
        self.pid, self.fd = pty.fork()
        if self.pid == 0:
            os.execv(BINARY, [BINARY, "chat", *arguments])
        # Ctrl-C makes the terminal drop output that is under way, "(stopped)" among it where the chat is quick.
        mode = termios.tcgetattr(self.fd)
        mode[3] |= termios.NOFLSH
        termios.tcsetattr(self.fd, termios.TCSANOW, mode)
        self.seen = ""

    def type(self, text):
        os.write(self.fd, text.encode())

    def until(self, mark, timeout_s=20):
        """All that came up to the mark (a regular expression); fails when the time is up."""
        deadline = time.monotonic() + timeout_s
        while True:
            found = re.search(mark, self.seen)
            if found:
                piece, self.seen = self.seen[:found.end()], self.seen[found.end():]
                return piece
            ready, _, _ = select.select([self.fd], [], [], max(0, deadline - time.monotonic()))
            assert ready, "%r did not come; there is %r" % (mark, self.seen[-500:])
            try:
                data = os.read(self.fd, 65536)
            except OSError:  # the other side is gone
                data = b""
            assert data, "ended before %r; there is %r" % (mark, self.seen[-500:])
            self.seen += data.decode(errors="replace")

    def exit_code(self, timeout_s=15):
        deadline = time.monotonic() + timeout_s
        while time.monotonic() < deadline:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                os.close(self.fd)
                return os.waitstatus_to_exitcode(status)
            ready, _, _ = select.select([self.fd], [], [], 0.05)
            if ready:
                try:
                    os.read(self.fd, 65536)
                except OSError:
                    pass
        os.kill(self.pid, signal.SIGKILL)
        os.waitpid(self.pid, 0)
        raise AssertionError("it does not end")


PROMPT = r"(^|\n)> $"
USAGE = r"\((\d+) \+ (\d+) tokens[^)]*\)"


class Chat(TinyModel):
    def ask(self, chat, text):
        """(prompt tokens, output tokens) of one question."""
        chat.until(PROMPT)
        chat.type(text + "\n")
        found = re.search(USAGE, chat.until(USAGE))
        return int(found.group(1)), int(found.group(2))

    def test_a_conversation_remembers_and_forgets(self):
        with Server(self.model) as server:
            chat = Terminal("--url", "http://127.0.0.1:%d" % server.port, "--max-tokens", "8", "--temperature", "0")
            first, output = self.ask(chat, "hello")
            self.assertLessEqual(output, 8)
            second, _ = self.ask(chat, "hello")
            self.assertGreater(second, first, "the second question does not carry the first")
            chat.until(PROMPT)
            chat.type("/reset\n")
            chat.until("forgotten")
            again, _ = self.ask(chat, "hello")
            self.assertEqual(again, first)
            long, _ = self.ask(chat, "two \\\nlines")
            self.assertGreater(long, again)
            chat.until(PROMPT)
            chat.type("/quit\n")
            self.assertEqual(chat.exit_code(), 0)

    def test_ctrl_c_stops_the_answer_and_not_the_chat(self):
        endless = os.path.join(self.folder.name, "endless.gguf")
        with open(endless, "wb") as out:
            out.write(tiny_gguf.tiny_gguf(context=131072, ends=False))
        with Server(endless, "--kv-tokens", "131072", "--threads", "1") as server:
            chat = Terminal("--url", "http://127.0.0.1:%d" % server.port, "--temperature", "0")
            chat.until(PROMPT)
            chat.type("hello\n")
            deadline = time.monotonic() + 10
            while server.metric("modu_generation_tokens_total") < 5:
                self.assertLess(time.monotonic(), deadline, "no answer begins")
                time.sleep(0.01)
            chat.type("\x03")
            chat.until(r"\(stopped\)")
            deadline = time.monotonic() + 5
            while sum(v for k, v in server.metrics().items() if k.startswith("modu_num_requests_running")) > 0:
                self.assertLess(time.monotonic(), deadline, "the server goes on with a stopped answer")
                time.sleep(0.02)
            chat.until(PROMPT)
            chat.type("\x03")  # at the prompt it only says how to leave
            chat.until("Ctrl-D leaves")
            chat.until(PROMPT)
            chat.type("\x04")
            self.assertEqual(chat.exit_code(), 0)

    def test_a_server_that_goes_away_is_an_error_and_the_chat_goes_on(self):
        server = Server(self.model)
        chat = Terminal("--url", "http://127.0.0.1:%d" % server.port, "--max-tokens", "4")
        self.ask(chat, "hello")
        server.stop()
        chat.until(PROMPT)
        chat.type("hello\n")
        chat.until("error: no answer")
        chat.until(PROMPT)
        chat.type("/quit\n")
        self.assertEqual(chat.exit_code(), 0)

    def test_no_server_at_a_url_is_an_error_at_once(self):
        done = subprocess.run([BINARY, "chat", "--url", "http://127.0.0.1:1"], capture_output=True, text=True, timeout=10)
        self.assertEqual(done.returncode, 1)
        self.assertIn("no server answers", done.stderr)

    def test_a_script_learns_that_there_was_no_answer(self):
        with Server(self.model) as server:
            url = "http://127.0.0.1:%d" % server.port
            for flags, code in ((("--max-tokens", "4"), 0), (("--model", "none"), 1)):
                done = subprocess.run([BINARY, "chat", "--url", url, *flags], input="hello\n", capture_output=True,
                                      text=True, timeout=20)
                self.assertEqual(done.returncode, code, done.stdout)

    def test_it_starts_a_server_and_takes_it_down(self):
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", 8000)) == 0:
                self.skipTest("something answers on the default port")
        chat = Terminal(self.model, "--max-tokens", "4")
        chat.until("starting one")
        chat.until(PROMPT, 60)
        with socket.create_connection(("127.0.0.1", 8000)):
            pass
        chat.type("hello\n")
        chat.until(USAGE)
        chat.until(PROMPT)
        chat.type("/quit\n")
        self.assertEqual(chat.exit_code(), 0)
        with socket.socket() as probe:
            self.assertNotEqual(probe.connect_ex(("127.0.0.1", 8000)), 0, "its server outlives it")

    def test_https_with_a_key(self):
        if shutil.which("openssl") is None:
            self.skipTest("no openssl command to make a certificate with")
        cert, key = os.path.join(self.folder.name, "cert.pem"), os.path.join(self.folder.name, "key.pem")
        subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days",
                        "2", "-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost", "-keyout", key, "-out",
                        cert], check=True, capture_output=True)
        keys = os.path.join(self.folder.name, "keys")
        with open(keys, "w") as out:
            out.write("a-key\n")
        os.chmod(keys, 0o600)
        process_flags = ("--tls-cert", cert, "--tls-key", key, "--api-key-file", keys)
        server = TlsServer(self.model, *process_flags)
        try:
            url = "https://localhost:%d" % server.port
            chat = Terminal("--url", url, "--ca-cert", cert, "--api-key", "a-key", "--max-tokens", "6")
            self.ask(chat, "hello")
            self.ask(chat, "and again")
            chat.until(PROMPT)
            chat.type("/quit\n")
            self.assertEqual(chat.exit_code(), 0)
            # Without its authority, or by a name that it is not for, the server is not believed.
            for arguments in (("--url", url), ("--url", "https://127.0.0.1:%d" % server.port, "--ca-cert", cert)):
                done = subprocess.run([BINARY, "chat", *arguments], capture_output=True, text=True, timeout=10)
                self.assertEqual(done.returncode, 1, arguments)
                self.assertIn("TLS: the certificate is not trusted", done.stderr)
            wrong = subprocess.run([BINARY, "chat", "--url", url, "--ca-cert", cert, "--api-key", "wrong"], input="hello\n",
                                   capture_output=True, text=True, timeout=10)
            self.assertIn("API key", wrong.stdout)
        finally:
            self.assertEqual(server.stop(), 0)


class TlsServer(Server):
    """Ready when its admin port, which speaks plain text, says so."""

    def get(self, path, **kwargs):
        return super().get(path, **{"port": self.admin_port, **kwargs})


if __name__ == "__main__":
    unittest.main()

"""What the commands say to a wrong command line: no server, no model."""

import subprocess
import unittest

from modu_server import BINARY


def run(*arguments):
    return subprocess.run([BINARY, *arguments], capture_output=True, text=True, stdin=subprocess.DEVNULL, timeout=20)


class WrongCommandLines(unittest.TestCase):
    def test_what_is_not_known_is_named(self):
        for arguments, said in ((("version", "x"), 'unexpected "x"'),
                                (("--version", "x"), 'unexpected "x"'),
                                (("pull", "--foo"), 'unexpected "--foo"'),
                                (("pull", "a", "b"), 'unexpected "b"'),
                                (("inspect", "--foo"), 'unexpected "--foo"'),
                                (("chat", "--foo"), "unknown flag --foo"),
                                (("chat", "--foo=1"), "unknown flag --foo"),
                                (("chat", "--url"), "--url needs a value"),
                                (("chat", "--url", "http://[::1"), "--url must be"),
                                (("tokenize", "m", "--foo"), "unknown flag --foo"),
                                (("detokenize", "m", "--foo"), "unknown flag --foo"),
                                (("render", "m", "--foo=1"), "unknown flag --foo"),
                                (("render", "m", "--now"), "--now needs a value")):
            done = run(*arguments)
            self.assertEqual(done.returncode, 2, done.stderr)
            self.assertIn(said, done.stderr.splitlines()[0])
            self.assertIn("usage: modu " + arguments[0].strip("-"), done.stderr)
            self.assertEqual(done.stdout, "")

    def test_help_is_no_mistake(self):
        for command in ("version", "pull", "inspect", "chat", "tokenize", "detokenize", "render"):
            done = run(command, "--help")
            self.assertEqual((done.returncode, done.stderr), (0, ""))
            self.assertIn("usage: modu " + command, done.stdout)
        self.assertRegex(run("version").stdout, r"^modu [0-9.]+\n$")


if __name__ == "__main__":
    unittest.main()

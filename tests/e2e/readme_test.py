"""Runs the README's own examples against a server on its default ports' stand-ins."""

import json
import os
import re
import subprocess
import sys
import unittest

import default_model
from modu_server import BINARY, ROOT, Server


def blocks(language):
    with open(os.path.join(ROOT, "README.md")) as readme:
        return re.findall(r"```%s\n(.*?)```" % language, readme.read(), re.S)


class Readme(unittest.TestCase):
    def test_examples(self):
        with Server(default_model.path()) as server:
            def here(text):
                for port, actual in ((8000, server.port), (8001, server.grpc_port), (8002, server.admin_port)):
                    text = text.replace("127.0.0.1:%d" % port, "127.0.0.1:%d" % actual)
                return text

            env = {**os.environ, "PYTHONPATH": os.path.join(ROOT, "clients", "python")}
            scripts = blocks("python")
            self.assertEqual(len(scripts), 2)
            for script in scripts:
                done = subprocess.run([sys.executable, "-c", here(script)], capture_output=True, text=True, env=env, timeout=60)
                self.assertEqual(done.returncode, 0, done.stderr)
                self.assertIn("Seoul", done.stdout)
            curls = [block for block in blocks("sh") if block.startswith("curl")]
            self.assertEqual(len(curls), 2)
            for command, word in zip(curls, ("Seoul", "modu_generation_tokens_total")):
                done = subprocess.run(["bash", "-c", here(command)], capture_output=True, text=True, timeout=60)
                self.assertEqual(done.returncode, 0, done.stderr)
                self.assertIn(word, done.stdout)

    def test_a_model_served_by_its_name_answers_to_it(self):
        with Server("smollm2-135m-instruct") as server:
            names = [model["id"] for model in json.loads(server.get("/v1/models")[2])["data"]]
            self.assertEqual(names, ["SmolLM2-135M-Instruct", "SmolLM2-135M-Instruct.Q4_1"])
            for name in names:
                status, answer = server.post_json("/v1/completions", {"model": name, "prompt": "x", "max_tokens": 1})
                self.assertEqual((status, answer["model"]), (200, names[0]))
            # The text of nothing is no token; no text to complete is an answer from the first one.
            status, empty = server.post_json("/tokenize", {"prompt": ""})
            self.assertEqual((status, empty["count"], empty["tokens"]), (200, 0, []))
            self.assertEqual(server.post_json("/v1/completions", {"prompt": "", "max_tokens": 1})[0], 200)

    def test_the_texts_commands(self):
        commands = [block for block in blocks("sh") if block.startswith("echo")]
        self.assertEqual(len(commands), 1)
        done = subprocess.run(["bash", "-ec", commands[0].replace("build/modu", BINARY)], capture_output=True, text=True, timeout=60)
        self.assertEqual(done.returncode, 0, done.stderr)
        texts, prompts = done.stdout.splitlines()
        self.assertEqual(json.loads(texts), ["모두의 모델"])
        self.assertIn("<|im_start|>user\n안녕?<|im_end|>", json.loads(prompts)[0])


if __name__ == "__main__":
    unittest.main()

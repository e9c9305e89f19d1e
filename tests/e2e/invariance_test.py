"""A request's tokens and logprobs are the same bits alone, in a crowd, with and without cache hits, in any chunking, with
one thread or two, preempted or not, streamed or not: the matrix, on the default model."""

import json
import threading
import unittest

import default_model
from modu_server import Server

# Lengths across the borders of a KV block (32), a step (32 or 256 tokens) and a softmax piece (256).
LENGTHS = (1, 31, 33, 64, 255, 257, 300)
OUTPUT = 100


def prompt(length):
    return [1000 + (length * 7919 + position * 104729) % 30000 for position in range(length)]


def body(length, **fields):
    return {"prompt": prompt(length), "max_tokens": OUTPUT, "temperature": 0.8, "seed": length, "ignore_eos": True,
            "logprobs": 3, "return_token_ids": True, **fields}


def whole(server, length):
    status, answer = server.post_json("/v1/completions", body(length))
    assert status == 200, answer
    choice = answer["choices"][0]
    return choice["token_ids"], choice["logprobs"]["token_logprobs"], choice["logprobs"]["top_logprobs"]


def streamed(server, length):
    _, _, data = server.post("/v1/completions", body(length, stream=True))
    ids, logprobs, top = [], [], []
    for line in data.decode().split("\n"):
        if line.startswith("data: {"):
            for choice in json.loads(line[6:])["choices"]:
                ids += choice.get("token_ids") or []
                if choice.get("logprobs"):
                    logprobs += choice["logprobs"]["token_logprobs"]
                    top += choice["logprobs"]["top_logprobs"]
    return ids, logprobs, top


def crowd(server, call):
    """All lengths at once, with strangers between them."""
    answers = {}

    def run(length):
        answers[length] = call(server, length)

    def stranger(number):
        server.post("/v1/completions", {"prompt": prompt(40 + number), "max_tokens": 40, "seed": number})

    threads = [threading.Thread(target=run, args=(length,)) for length in LENGTHS]
    threads += [threading.Thread(target=stranger, args=(number,)) for number in range(5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return answers


def preemptions(server):
    return sum(v for k, v in server.metrics().items() if k.startswith("modu_num_preemptions_total"))


class Invariance(unittest.TestCase):
    def test_the_matrix(self):
        with Server(default_model.path(), "--threads", "1", "--no-prefix-cache") as server:
            expected = {length: whole(server, length) for length in LENGTHS}
        self.assertGreater(len({tuple(ids) for ids, _, _ in expected.values()}), 5)
        for flags in (("--threads", "2"),
                      ("--threads", "1", "--max-step-tokens", "32", "--max-seqs", "16"),
                      ("--threads", "2", "--max-step-tokens", "48", "--max-seqs", "16", "--ctx", "512", "--kv-tokens", "512")):
            with Server(default_model.path(), *flags) as server:
                for name, answers in (
                        ("alone, streamed, first computed", {length: streamed(server, length) for length in LENGTHS}),
                        ("alone, from the cache", {length: whole(server, length) for length in LENGTHS}),
                        ("in a crowd", crowd(server, whole)), ("in a crowd, streamed", crowd(server, streamed))):
                    for length in LENGTHS:
                        self.assertEqual(answers[length], expected[length], "%s, prompt of %d, %s" % (name, length, flags))
                if "--kv-tokens" in flags:
                    self.assertGreater(preemptions(server), 0, "the small KV cache was to force preemptions")


if __name__ == "__main__":
    unittest.main()

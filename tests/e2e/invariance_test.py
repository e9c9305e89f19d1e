"""A request's tokens, text and logprobs are the same bits alone, in a crowd, with and without cache hits, in any
chunking, with guesses or not, with one thread or two, preempted or not, by REST or gRPC, streamed or not: the matrix, on the default model
(Q4_1, in the default mode, in int8 and phased where those are others, with KV in bf16, int8 and FP8) and on a random FP8
model (bf16 and float32 products).

  invariance_test.py                              the matrix, of $MODU_BINARY
  invariance_test.py --expect-difference SERVER   its inverse: SERVER is a modu_reordered_server, whose attention rounds
                                                  by batch, chunk or threads; the matrix must see each of them
"""

import json
import os
import re
import struct
import sys
import tempfile
import threading
import unittest

import default_model
import fp8_folder
import modu_server
from modu_server import ROOT, Server

sys.path.insert(0, os.path.join(ROOT, "clients", "python"))
from modu_client import Client  # noqa: E402

# Lengths across the borders of a KV block (32), a step (32, 48 or 256 tokens) and a piece of the softmax, by which
# attention is split over workers (256); the last one crosses its second piece while decoding.
LENGTHS = (1, 31, 33, 64, 255, 257, 450)
OUTPUT = 70
STRANGERS = 5
SEED = 7  # the same for all, as one request with all the prompts has one seed

# What is varied. The reference is one thread, steps of 256 tokens, no cache, no guesses, one request at a time, REST, not
# streamed.
SETUPS = {
    "two threads": ("--threads", "2"),
    "small steps": ("--threads", "1", "--max-step-tokens", "32", "--max-seqs", "16"),
    "small KV": ("--threads", "2", "--max-step-tokens", "48", "--max-seqs", "16", "--ctx", "640", "--kv-tokens", "640"),
}


class Model:
    """A model to serve, the ids to prompt it with, and flags."""

    def __init__(self, path, first_id, num_ids, *flags):
        self.path, self.first_id, self.num_ids, self.flags = path, first_id, num_ids, flags

    def prompt(self, length):
        return [self.first_id + (length * 7919 + position * 104729) % self.num_ids for position in range(length)]

    def fields(self, length):
        """What REST's body and gRPC's SamplingParams call the same."""
        return {"max_tokens": OUTPUT, "temperature": 0.8, "seed": SEED, "ignore_eos": True, "logprobs": 3}

    def body(self, length, **fields):
        return {"prompt": self.prompt(length), "return_token_ids": True, "return_tokens_as_token_ids": True,
                **self.fields(length), **fields}


class RepetitiveModel(Model):
    """Draws from three ids only, so that guesses at what comes next are often right."""

    def fields(self, length):
        return {**super().fields(length), "seed": length,
                "logit_bias": {str(self.first_id + number): 100 for number in (5, 6, 7)}}


def float32(value):
    """REST prints the shortest decimal that reads back as the same float32."""
    return struct.unpack("<f", struct.pack("<f", value))[0]


class Answer:
    """(text, token ids, their logprobs, the best ids with their logprobs at each place), as it comes."""

    def __init__(self):
        self.text, self.ids, self.logprobs, self.top = "", [], [], []

    def add_choice(self, choice):
        self.text += choice["text"]
        self.ids += choice.get("token_ids") or []
        if choice.get("logprobs"):
            self.logprobs += [float32(value) for value in choice["logprobs"]["token_logprobs"]]
            self.top += [{int(key.split(":")[1]): float32(value) for key, value in place.items()}
                         for place in choice["logprobs"]["top_logprobs"]]

    def add_delta(self, delta):
        self.text += delta.text
        self.ids += delta.token_ids
        self.logprobs += [entry.token.logprob for entry in delta.logprobs]
        # A completion's object holds the drawn token too; gRPC has it beside the best.
        self.top += [{one.token_id: one.logprob for one in [entry.token, *entry.top]} for entry in delta.logprobs]

    def done(self):
        assert len(self.ids) == len(self.logprobs) == len(self.top) == OUTPUT, (len(self.ids), len(self.logprobs))
        return self.text, tuple(self.ids), tuple(self.logprobs), self.top


def whole(server, model, length):
    status, body = server.post_json("/v1/completions", model.body(length), timeout=240)
    assert status == 200, body
    answer = Answer()
    answer.add_choice(body["choices"][0])
    return answer.done()


def streamed(server, model, length):
    _, _, data = server.post("/v1/completions", model.body(length, stream=True), timeout=240)
    answer = Answer()
    for line in data.decode().split("\n"):
        if line.startswith("data: {"):
            for choice in json.loads(line[6:])["choices"]:
                answer.add_choice(choice)
    return answer.done()


def by_grpc(server, model, length):
    answer = Answer()
    with Client("127.0.0.1:%d" % server.grpc_port) as client:
        for delta in client.generate(model.prompt(length), timeout_s=240, **model.fields(length)):
            answer.add_delta(delta)
    return answer.done()


def alone(server, model, doors):
    return {length: doors[0](server, model, length) for length in LENGTHS}


def crowd(server, model, doors):
    """All lengths at once, by the doors in turn, with strangers between them, who come again until the last length has
    its answer: on no machine is one alone, however late its thread begins."""
    answers, failures, over = {}, [], threading.Event()

    def run(length, door):
        try:
            answers[length] = door(server, model, length)
        except Exception as failure:  # no answer is not a different answer
            failures.append(failure)

    def stranger(number):
        while not over.is_set():
            server.post("/v1/completions", {"prompt": model.prompt(40 + number), "max_tokens": 40, "seed": number},
                        timeout=240)

    threads = [threading.Thread(target=run, args=(length, doors[i % len(doors)])) for i, length in enumerate(LENGTHS)]
    strangers = [threading.Thread(target=stranger, args=(number,), daemon=True) for number in range(STRANGERS)]
    for thread in strangers + threads:
        thread.start()
    for thread in threads:
        thread.join()
    over.set()
    for thread in strangers:
        thread.join()
    if failures:
        raise failures[0]
    return answers


def together(server, model, doors):
    """All lengths as the prompts of one request: they run at once on any machine, so a small KV must preempt some."""
    body = model.body(LENGTHS[0], prompt=[model.prompt(length) for length in LENGTHS])
    status, body = server.post_json("/v1/completions", body, timeout=240)
    assert status == 200, body
    answers = {}
    for choice in body["choices"]:
        answer = Answer()
        answer.add_choice(choice)
        answers[LENGTHS[choice["index"]]] = answer.done()
    return answers


# In this order on one server: the first one fills the prefix cache, the others hit it.
RUNS = {
    "alone, streamed, first computed": (alone, [streamed]),
    "alone, by gRPC, from the cache": (alone, [by_grpc]),
    "in a crowd of one request's prompts": (together, []),
    "in a crowd": (crowd, [whole, streamed, by_grpc]),
    "in a crowd, by other doors": (crowd, [by_grpc, whole, streamed]),
}


def preemptions(server):
    return sum(v for k, v in server.metrics().items() if k.startswith("modu_num_preemptions_total"))


def differences(model, command):
    """[(setup, run, length)] whose answer is not the reference's, of the whole matrix on one model."""
    with Server(model.path, *model.flags, "--threads", "1", "--no-prefix-cache", "--draft-tokens", "0", command=command) as server:
        expected = alone(server, model, [whole])
    assert len({ids for _, ids, _, _ in expected.values()}) == len(LENGTHS), "the prompts were to be answered differently"
    found = []
    for setup, flags in SETUPS.items():
        with Server(model.path, *model.flags, *flags, command=command) as server:
            for run, (how, doors) in RUNS.items():
                answers = how(server, model, doors)
                found += [(setup, run, length) for length in LENGTHS if answers[length] != expected[length]]
            if setup == "small KV":
                assert preemptions(server) > 0, "the small KV cache was to force preemptions"
    return found


class TheMatrix(unittest.TestCase):
    command = (modu_server.BINARY, "serve")

    def setUp(self):
        self.folder = tempfile.TemporaryDirectory()
        self.addCleanup(self.folder.cleanup)
        fp8_folder.write(self.folder.name)

    def fp8(self, *flags):
        return Model(self.folder.name, 3, 265, *flags)

    def test_q4_1(self):
        self.assertEqual(differences(Model(default_model.path(), 1000, 30000), self.command), [])

    def test_q4_1_int8(self):
        with Server(default_model.path()) as server:
            if ", int8;" in server.log_text():
                self.skipTest("is the default here")
        self.assertEqual(differences(Model(default_model.path(), 1000, 30000, "--numerics", "int8"), self.command), [])

    def test_q4_1_phased(self):
        with Server(default_model.path()) as server:
            if ", phased;" in server.log_text():
                self.skipTest("is the default here")
        self.assertEqual(differences(Model(default_model.path(), 1000, 30000, "--numerics", "phased"), self.command), [])

    def test_fp8(self):
        self.assertEqual(differences(self.fp8(), self.command), [])

    def test_other_types_of_kv(self):
        with Server(default_model.path()) as server:
            served = re.search(r"KV in (\w+) ", server.log_text()).group(1)
        for dtype in {"bf16", "int8", "fp8"} - {served}:
            model = Model(default_model.path(), 1000, 30000, "--kv-dtype", dtype)
            with self.subTest(dtype):
                self.assertEqual(differences(model, self.command), [])

    def test_greedy(self):
        """Without logprobs the largest logit may be found without computing all of them."""
        model = Model(default_model.path(), 1000, 30000)
        with Server(model.path, "--draft-tokens", "0") as server:
            def ids(length, **fields):
                body = {**model.body(length, temperature=0), **fields}
                status, answer = server.post_json("/v1/completions", body, timeout=240)
                assert status == 200, answer
                return [choice["token_ids"] for choice in answer["choices"]]

            for length in LENGTHS:
                self.assertEqual(ids(length, logprobs=None), ids(length))
            several = [model.prompt(length) for length in LENGTHS]  # more rows than it is done for
            self.assertEqual(ids(1, logprobs=None, prompt=several), ids(1, prompt=several))

    def test_right_guesses(self):
        for path in (default_model.path(), self.folder.name):
            model = RepetitiveModel(path, 100, 100, "--no-prefix-cache")
            with Server(model.path, *model.flags, "--draft-tokens", "0") as server:
                expected = alone(server, model, [whole])
                self.assertEqual(server.metric("modu_spec_decode_num_drafts_total"), 0)
            with Server(model.path, *model.flags, "--draft-tokens", "7") as server:
                for how, doors in ((alone, [whole]), (alone, [streamed]), (crowd, [whole, streamed])):
                    self.assertEqual(how(server, model, doors), expected)
                    accepted = server.metric("modu_spec_decode_num_accepted_tokens_total")
                    self.assertGreater(accepted, 50)
                    self.assertGreater(server.metric("modu_spec_decode_num_draft_tokens_total"), accepted)

    def test_fp8_exact(self):
        self.assertEqual(differences(self.fp8("--numerics", "exact"), self.command), [])


class Inverse(TheMatrix):
    """The same matrix on servers that are wrong in one way each: it must be seen where it acts, and only there."""

    binary = ""
    test_q4_1 = test_q4_1_int8 = test_q4_1_phased = test_other_types_of_kv = test_fp8 = test_fp8_exact = test_greedy = test_right_guesses = None

    def seen(self, by, model):
        return {(setup, run) for setup, run, _ in differences(model, (self.binary, by))}

    def test_order_by_batch(self):
        seen = self.seen("batch", self.fp8())
        self.assertLessEqual({(setup, run) for setup in SETUPS for run in RUNS if "crowd" in run}, seen)
        self.assertFalse([at for at in seen if "alone" in at[1]])

    def test_order_by_chunk(self):
        self.assertLessEqual({(setup, run) for setup in ("small steps", "small KV") for run in RUNS},
                             self.seen("chunk", self.fp8()))

    def test_order_by_threads(self):
        seen = self.seen("threads", self.fp8())
        self.assertEqual({(setup, run) for setup in ("two threads", "small KV") for run in RUNS}, seen)


if __name__ == "__main__":
    if "--expect-difference" in sys.argv:
        at = sys.argv.index("--expect-difference")
        Inverse.binary = sys.argv[at + 1]
        del sys.argv[at:at + 2], TheMatrix
    else:
        del Inverse
    unittest.main()

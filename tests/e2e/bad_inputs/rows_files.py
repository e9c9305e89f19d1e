"""Section J (model files): `modu inspect FILE` must end with an error that names what is wrong, never by a signal."""

import json
import os
import struct
import subprocess
import tempfile
import threading
import time

import tiny_folder
import tiny_gguf
from bad_inputs.case import Case
from bad_inputs.own_server import serving
from modu_server import BINARY

GOOD = tiny_gguf.tiny_gguf()


def load(data, suffix=".gguf"):
    """Exit code and text of loading these bytes as a model."""
    with tempfile.NamedTemporaryFile(suffix=suffix, delete=False) as file:
        file.write(data)
    try:
        done = subprocess.run([BINARY, "inspect", file.name], capture_output=True, text=True, timeout=20)
        return done.returncode, done.stdout + done.stderr
    finally:
        os.unlink(file.name)


def refuse(data, suffix=".gguf", says=()):
    code, text = load(data, suffix)
    assert code > 0, "exit code %d (negative: a signal): %s" % (code, text[:300])
    assert "terminate" not in text and "CHECK" not in text, text[:300]
    for word in says:
        assert word in text, "%r is not in: %s" % (word, text[:300])


def patched(find, replacement):
    at = GOOD.index(find)
    return GOOD[:at] + replacement + GOOD[at + len(find):]


def with_u32(key, value):
    """The good file with another value of a u32 key."""
    name = tiny_gguf.string(key)
    at = GOOD.index(name) + len(name) + 4
    return GOOD[:at] + struct.pack("<I", value) + GOOD[at + 4:]


def header(num_tensors, num_entries, rest=b"", version=3):
    return b"GGUF" + struct.pack("<IQQ", version, num_tensors, num_entries) + rest


def truncations(_):
    head = GOOD.index(b"token_embd.weight")
    for length in list(range(0, 200)) + list(range(200, head, 997)) + [len(GOOD) - 1]:
        refuse(GOOD[:length])


def safetensors(head, data=b""):
    if isinstance(head, dict):
        head = json.dumps(head).encode()
    return struct.pack("<Q", len(head)) + head + data


def refuse_folder(name_to_data, says=()):
    with tempfile.TemporaryDirectory() as folder:
        for name, data in name_to_data.items():
            with open(os.path.join(folder, name), "wb") as out:
                out.write(data)
        done = subprocess.run([BINARY, "inspect", folder], capture_output=True, text=True, timeout=20)
        assert done.returncode > 0, "exit code %d: %s" % (done.returncode, done.stderr[:300])
        for word in says:
            assert word in done.stdout + done.stderr, done.stderr[:300]


CONFIG = json.dumps({"model_type": "llama", "hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 1,
                     "num_attention_heads": 4, "num_key_value_heads": 2, "vocab_size": 32, "rms_norm_eps": 1e-5,
                     "max_position_embeddings": 128}).encode()


def bad_safetensors(_):
    one = {"dtype": "F32", "shape": [32, 64], "data_offsets": [0, 8192]}
    name = "model.embed_tokens.weight"
    for title, file in {
        "header length 0": struct.pack("<Q", 0),
        "header length 2^63": struct.pack("<Q", 2**63) + b"{}",
        "header past the end": struct.pack("<Q", 1000) + b"{}",
        "negative offsets": safetensors({name: {**one, "data_offsets": [-4, 8192]}}, bytes(8192)),
        "reversed": safetensors({name: {**one, "data_offsets": [8192, 0]}}, bytes(8192)),
        "past the end": safetensors({name: {**one, "data_offsets": [0, 8192]}}, bytes(100)),
        "shorter than the shape": safetensors({name: {**one, "shape": [1000000], "data_offsets": [0, 4]}}, bytes(4)),
        "shape that wraps": safetensors({name: {**one, "shape": [2**62, 4], "data_offsets": [0, 0]}}, b""),
        "overlapping": safetensors({name: one, "lm_head.weight": one}, bytes(8192)),
        "not JSON": safetensors(b"{x", b""),
    }.items():
        try:
            refuse_folder({"config.json": CONFIG, "model.safetensors": file})
        except AssertionError as error:
            raise AssertionError("%s: %s" % (title, error))


def special_paths(_):
    with tempfile.TemporaryDirectory() as folder:
        fifo = os.path.join(folder, "model.gguf")
        os.mkfifo(fifo)
        for path in (fifo, folder, "/dev/zero", os.path.join(folder, "absent.gguf")):
            done = subprocess.run([BINARY, "inspect", path], capture_output=True, text=True, timeout=20)
            assert done.returncode > 0, "%s: exit code %d" % (path, done.returncode)


def tokenize(tokenizer, texts, timeout_s=20):
    """Exit code and ids of `modu tokenize` on a tokenizer.json of this content."""
    with tempfile.NamedTemporaryFile("w", suffix=".json") as file:
        json.dump(tokenizer, file)
        file.flush()
        done = subprocess.run([BINARY, "tokenize", file.name], input=json.dumps(texts), capture_output=True, text=True,
                              timeout=timeout_s)
    assert done.returncode >= 0, "died of signal %d" % -done.returncode
    assert "terminate" not in done.stderr and "CHECK" not in done.stderr, done.stderr[:300]
    return done.returncode, json.loads(done.stdout) if done.returncode == 0 else None


def bad_tokenizers(_):
    good = tiny_folder.tokenizer()
    assert tokenize(good, ["hello"])[0] == 0
    # Exponential in a backtracking engine: an error or linear time, which is the timeout's to say.
    for pattern in ("(a+)+$", "(a|a)*$", "(a*)*b"):
        split = {"type": "Split", "pattern": {"Regex": pattern}, "behavior": "Isolated", "invert": False}
        tokenize({**good, "pre_tokenizer": {"type": "Sequence", "pretokenizers": [split, good["pre_tokenizer"]]}},
                 ["a" * 30_000 + "c"])
    # A chain of 200,000 merges, each on top of the last one.
    vocab = dict(good["model"]["vocab"])
    merges, piece = [], "a"
    for i in range(2_000):
        merges.append("%s a" % piece)
        piece += "a"
        vocab[piece] = len(vocab)
    for i in range(198_000):
        vocab["z%d" % i] = len(vocab)
        merges.append("z z%d" % i if i % 2 else "a z%d" % i)
    tokenize({**good, "model": {**good["model"], "vocab": vocab, "merges": merges}}, ["a" * 50_000], timeout_s=40)
    # An added token made of added tokens, two with one id, one far beyond the rest.
    extra = dict(good["added_tokens"][0])
    for added in ([{**extra, "id": 400, "content": "<|endoftext|><|im_start|>"}], [{**extra, "id": 0, "content": "<x>"}],
                  [{**extra, "id": 2**31 - 2, "content": "<far>"}], [{**extra, "id": -1, "content": "<below>"}],
                  [{**extra, "id": 2**40, "content": "<beyond>"}], [{**extra, "content": ""}]):
        tokenize({**good, "added_tokens": good["added_tokens"] + added}, ["hello <far> <x> <|endoftext|><|im_start|>"])
    # Holes between the ids, and ids that are no ids.
    holes = {token: 3 * i for token, i in good["model"]["vocab"].items()}
    tokenize({**good, "model": {**good["model"], "vocab": holes}}, ["hello"])
    for wrong in (-1, 2**40, 1.5, "x", None):
        code, _ = tokenize({**good, "model": {**good["model"], "vocab": {**good["model"]["vocab"], "q": wrong}}}, ["q"])
        assert code > 0, "an id %r is taken" % (wrong,)


def padded_head(_):
    """Rows of the head beyond the tokenizer's vocabulary would win every draw, were they not masked."""
    with tempfile.TemporaryDirectory() as folder:
        known = tiny_folder.write(folder)
        with serving("--ctx", "512", model=folder) as server:
            for fields in ({"temperature": 0}, {"temperature": 1, "seed": 1}, {"temperature": 2, "seed": 2, "top_k": 500}):
                body = {"prompt": "hello", "max_tokens": 60, "ignore_eos": True, "return_token_ids": True, **fields}
                status, answer = server.post_json("/v1/completions", body)
                assert status == 200, answer
                ids = answer["choices"][0]["token_ids"]
                assert len(ids) == 60 and max(ids) < known, ids


def not_finite(_):
    """Row 57, and 97 without --check: the request that meets NaN fails, its batch mate goes on."""
    with tempfile.TemporaryDirectory() as folder:
        tiny_folder.write(folder, nan_token=100)
        for numerics in ("int8", "bf16", "exact"):
            with serving("--ctx", "512", "--numerics", numerics, model=folder) as server:
                alone = server.post_json("/v1/completions", MATE)[1]["choices"][0]["token_ids"]
                mate = []
                beside = threading.Thread(target=lambda: mate.append(server.post_json("/v1/completions", MATE)))
                beside.start()
                for _ in range(5):
                    status, answer = server.post_json("/v1/completions", {"prompt": [5, 100, 6], "max_tokens": 20})
                    assert status == 500 and answer["error"]["code"] == "numeric_error", (numerics, status, answer)
                beside.join()
                assert mate[0][1]["choices"][0]["token_ids"] == alone, numerics
                deadline = time.monotonic() + 5
                while server.metric("modu_kv_blocks_held") > 0:
                    assert time.monotonic() < deadline, "a block is not given back"
                    time.sleep(0.02)
        done = subprocess.run([BINARY, "serve", folder, "--check", "--port", "0", "--grpc-port", "-1", "--admin-port", "-1"],
                              capture_output=True, text=True, timeout=20)
        assert done.returncode > 0, "--check does not mind"
        assert "embed_tokens" in done.stderr and "row 100" in done.stderr, done.stderr[-300:]
        tiny_folder.write(folder)
        with serving("--ctx", "512", "--check", model=folder) as server:
            assert server.post_json("/v1/completions", MATE)[0] == 200


MATE = {"prompt": [7, 8, 9], "max_tokens": 300, "ignore_eos": True, "temperature": 0, "return_token_ids": True}


def file_cut_while_serving(_):
    """Nothing is mapped: a file that is cut under the server changes nothing that it says."""
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "tiny.gguf")
        with open(path, "wb") as out:
            out.write(GOOD)
        with serving(model=path) as server:
            before = server.post_json("/v1/completions", MATE)[1]["choices"][0]["token_ids"]
            with open(path, "r+b") as out:
                out.truncate(10)
            os.replace(os.path.join(path), path + ".old")
            assert server.post_json("/v1/completions", {**MATE, "prompt": [7, 8, 9, 10]})[0] == 200
            after = server.post_json("/v1/completions", MATE)[1]["choices"][0]["token_ids"]
            assert before == after


def cases():
    def file_case(row, title, data, says=()):
        return Case(row, title, act=lambda server: refuse(data, says=says), within_s=20)

    yield Case(84, "every truncation", act=truncations, within_s=120)
    yield file_case(85, "magic", b"GGUX" + GOOD[4:])
    yield file_case(85, "version 0", header(0, 0, version=0), ["version"])
    yield file_case(85, "version 99", header(0, 0, version=99), ["version"])
    yield file_case(85, "big-endian", b"GGUF" + struct.pack(">IQQ", 3, 0, 0))
    yield file_case(86, "2^63 tensors", header(2**63, 0))
    yield file_case(86, "2^63 keys", header(0, 2**63))
    yield file_case(86, "string of 2^60", header(0, 1, struct.pack("<Q", 2**60)))
    yield file_case(86, "array of 2^60", header(0, 1, tiny_gguf.string("a") + struct.pack("<IIQ", 9, 4, 2**60)))
    nested = tiny_gguf.string("a") + struct.pack("<I", 9) + struct.pack("<IQ", 9, 1) * 10_000
    yield file_case(86, "nested arrays", header(0, 1, nested))
    tensor = tiny_gguf.string("token_embd.weight") + struct.pack("<I", 2) + struct.pack("<QQ", 64, len(tiny_gguf.vocabulary()[0]))
    wraps = tiny_gguf.string("token_embd.weight") + struct.pack("<I", 2) + struct.pack("<QQ", 2**33, 2**33)
    yield file_case(87, "dims that wrap", patched(tensor, wraps))
    yield file_case(87, "dims 0", patched(tensor, tensor[:-16] + struct.pack("<QQ", 0, 0)))
    yield file_case(87, "type 999", patched(tensor + struct.pack("<I", 0), tensor + struct.pack("<I", 999)))
    for alignment in (0, 3, 2**31):
        extra = tiny_gguf.entry("general.alignment", tiny_gguf.TYPE_U32, alignment)
        count = struct.pack("<Q", len(tiny_gguf.metadata(dict(context=1, width=64, layers=1, ffn=1, heads=4, kv_heads=2))))
        data = GOOD[:16] + struct.pack("<Q", struct.unpack("<Q", count)[0] + 1) + extra + GOOD[24:]
        yield file_case(88, "alignment %d" % alignment, data, ["alignment"])
    for key, value in (("llama.attention.head_count", 0), ("llama.attention.head_count_kv", 8), ("llama.context_length", 0),
                       ("llama.block_count", 2**31)):
        yield file_case(89, "%s %d" % (key, value), with_u32(key, value))
    block_count = tiny_gguf.string("llama.block_count") + struct.pack("<I", tiny_gguf.TYPE_U32)
    yield file_case(89, "block_count is a float", patched(block_count, block_count[:-4] + struct.pack("<I", tiny_gguf.TYPE_F32)))
    yield file_case(90, "missing key", patched(b"llama.feed_forward_length", b"llama.feed_forward_lengtX"))
    yield file_case(90, "missing tensor", patched(b"blk.1.ffn_down.weight", b"blk.1.ffn_dowX.weight"))
    yield file_case(90, "tensor twice", patched(b"blk.1.attn_v.weight", b"blk.1.attn_q.weight"))
    yield file_case(91, "eos outside the vocabulary", with_u32("tokenizer.ggml.eos_token_id", 100_000), ["eos"])
    yield Case(92, "safetensors headers and offsets (93)", act=bad_safetensors, within_s=60)
    yield Case(94, "tokenizers", act=bad_tokenizers, within_s=120)
    yield Case(95, "the file is cut while it is served", act=file_cut_while_serving, within_s=30)
    yield Case(96, "FIFO, folder, device, absent", act=special_paths, within_s=60)
    yield Case(56, "a padded head", act=padded_head, within_s=30)
    yield Case(57, "NaN in a weight; --check (97)", act=not_finite, within_s=90)

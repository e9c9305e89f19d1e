"""Section J (model files): `modu inspect FILE` must end with an error that names what is wrong, never by a signal."""

import json
import os
import struct
import subprocess
import tempfile

import tiny_gguf
from bad_inputs.case import Case
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
    yield Case(92, "safetensors headers and offsets (92, 93)", act=bad_safetensors, within_s=60)
    yield Case(96, "FIFO, folder, device, absent", act=special_paths, within_s=60)

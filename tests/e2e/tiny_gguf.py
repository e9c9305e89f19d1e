"""Writes a tiny random llama-architecture GGUF with a byte-level BPE tokenizer and a chat template.

Standard library only, so that a server test needs neither network nor weights. The same seed gives the same bytes.
Format: GGUF version 3 (ggml's docs/gguf.md).
"""

import random
import struct
import sys

ALIGNMENT = 32
END = 2  # the end-of-sequence token
TYPE_U32, TYPE_I32, TYPE_F32, TYPE_BOOL, TYPE_STRING, TYPE_ARRAY = 4, 5, 6, 7, 8, 9

CHAT_TEMPLATE = (
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>\\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
)


def byte_alphabet():
    """GPT-2's printable spelling of each byte."""
    kept = list(range(33, 127)) + list(range(161, 173)) + list(range(174, 256))
    spelling, extra = {}, 0
    for byte in range(256):
        if byte in kept:
            spelling[byte] = chr(byte)
        else:
            spelling[byte] = chr(256 + extra)
            extra += 1
    return [spelling[byte] for byte in range(256)]


def vocabulary():
    alphabet = byte_alphabet()
    control = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
    merges = ["h e", "l l", "he ll", "hell o", "Ġ w", "Ġw o", "i n", "e r", "a n"]
    tokens = control + alphabet + [merge.replace(" ", "") for merge in merges]
    types = [3] * len(control) + [1] * (len(tokens) - len(control))
    return tokens, types, merges


def string(text):
    data = text.encode("utf-8")
    return struct.pack("<Q", len(data)) + data


def entry(key, kind, value):
    packed = {
        TYPE_U32: lambda: struct.pack("<I", value),
        TYPE_F32: lambda: struct.pack("<f", value),
        TYPE_BOOL: lambda: struct.pack("<B", value),
        TYPE_STRING: lambda: string(value),
    }[kind]()
    return string(key) + struct.pack("<I", kind) + packed


def array(key, kind, values):
    head = string(key) + struct.pack("<IIQ", TYPE_ARRAY, kind, len(values))
    if kind == TYPE_STRING:
        return head + b"".join(string(value) for value in values)
    return head + struct.pack("<%di" % len(values), *values)


def metadata(shape):
    tokens, types, merges = vocabulary()
    return [
        entry("general.architecture", TYPE_STRING, "llama"),
        entry("general.name", TYPE_STRING, "tiny"),
        entry("llama.context_length", TYPE_U32, shape["context"]),
        entry("llama.embedding_length", TYPE_U32, shape["width"]),
        entry("llama.block_count", TYPE_U32, shape["layers"]),
        entry("llama.feed_forward_length", TYPE_U32, shape["ffn"]),
        entry("llama.attention.head_count", TYPE_U32, shape["heads"]),
        entry("llama.attention.head_count_kv", TYPE_U32, shape["kv_heads"]),
        entry("llama.attention.layer_norm_rms_epsilon", TYPE_F32, 1e-5),
        entry("llama.rope.dimension_count", TYPE_U32, shape["width"] // shape["heads"]),
        entry("llama.rope.freq_base", TYPE_F32, 10000.0),
        entry("llama.vocab_size", TYPE_U32, len(tokens)),
        entry("tokenizer.ggml.model", TYPE_STRING, "gpt2"),
        entry("tokenizer.ggml.pre", TYPE_STRING, "default"),
        array("tokenizer.ggml.tokens", TYPE_STRING, tokens),
        array("tokenizer.ggml.token_type", TYPE_I32, types),
        array("tokenizer.ggml.merges", TYPE_STRING, merges),
        entry("tokenizer.ggml.bos_token_id", TYPE_U32, 0),
        entry("tokenizer.ggml.eos_token_id", TYPE_U32, END),
        entry("tokenizer.ggml.add_bos_token", TYPE_BOOL, False),
        entry("tokenizer.chat_template", TYPE_STRING, shape.get("chat_template") or CHAT_TEMPLATE),
    ]


def tensors(shape):
    """(name, dims innermost first, standard deviation; 0 means all ones)."""
    width, ffn, vocab = shape["width"], shape["ffn"], len(vocabulary()[0])
    kv_width = width // shape["heads"] * shape["kv_heads"]
    rows = [("token_embd.weight", [width, vocab], 1.0)]
    for layer in range(shape["layers"]):
        prefix = "blk.%d." % layer
        rows += [
            (prefix + "attn_norm.weight", [width], 0),
            (prefix + "attn_q.weight", [width, width], width**-0.5),
            (prefix + "attn_k.weight", [width, kv_width], width**-0.5),
            (prefix + "attn_v.weight", [width, kv_width], width**-0.5),
            (prefix + "attn_output.weight", [width, width], width**-0.5),
            (prefix + "ffn_norm.weight", [width], 0),
            (prefix + "ffn_gate.weight", [width, ffn], width**-0.5),
            (prefix + "ffn_up.weight", [width, ffn], width**-0.5),
            (prefix + "ffn_down.weight", [ffn, width], ffn**-0.5),
        ]
    return rows + [("output_norm.weight", [width], 0)]


def tiny_gguf(seed=7, context=512, width=64, layers=2, ffn=128, heads=4, kv_heads=2, chat_template=None, ends=True):
    """The file's bytes. ends: whether a greedy answer may end; else the end's row of the tied head is zero."""
    shape = dict(context=context, width=width, layers=layers, ffn=ffn, heads=heads, kv_heads=kv_heads,
                 chat_template=chat_template)
    rng = random.Random(seed)
    infos, blobs, offset = [], [], 0
    for name, dims, deviation in tensors(shape):
        count = 1
        for dim in dims:
            count *= dim
        values = [rng.gauss(0, deviation) if deviation else 1.0 for _ in range(count)]
        if name == "token_embd.weight" and not ends:
            values[END * width:(END + 1) * width] = [0.0] * width
        blob = struct.pack("<%df" % count, *values)
        blob += b"\0" * (-len(blob) % ALIGNMENT)
        infos.append(string(name) + struct.pack("<I%dQIQ" % len(dims), len(dims), *dims, 0, offset))
        blobs.append(blob)
        offset += len(blob)
    entries = metadata(shape)
    head = b"GGUF" + struct.pack("<IQQ", 3, len(infos), len(entries)) + b"".join(entries) + b"".join(infos)
    head += b"\0" * (-len(head) % ALIGNMENT)
    return head + b"".join(blobs)


if __name__ == "__main__":
    with open(sys.argv[1], "wb") as out:
        out.write(tiny_gguf())

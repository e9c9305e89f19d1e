"""Writes a small random llama-architecture folder with FP8 weights (F8_E4M3, channel scales in attention, tensor scales
in the feed-forward layers, as compressed-tensors does it) and a byte-level BPE tokenizer.

Standard library only. The same seed gives the same bytes. Widths are no multiples of 16 or 32, so that every kernel
meets its ragged ends. Weights are drawn from a normal distribution: the outputs mean nothing, their bits do.
Formats: safetensors (8 bytes header length, JSON header, data), OCP 8-bit floating point specification for E4M3.
"""

import json
import os
import random
import statistics
import struct

import tiny_gguf

FP8_DEVIATION = 32.0  # of the stored values; the scales take it back


def fp8_value(code):
    """The value of an E4M3 byte: 4 bits of exponent (bias 7), 3 of mantissa, no infinities."""
    exponent, mantissa = code >> 3 & 15, code & 7
    magnitude = mantissa * 2.0**-9 if exponent == 0 else (8 + mantissa) * 2.0 ** (exponent - 10)
    return -magnitude if code & 128 else magnitude


def normal_codes():
    """256 E4M3 bytes at the quantiles of a normal distribution: random bytes translated by them are random weights."""
    codes = [code for code in range(256) if code & 127 != 127]  # the rest is NaN
    normal = statistics.NormalDist(0, FP8_DEVIATION)
    quantiles = [normal.inv_cdf((i + 0.5) / 256) for i in range(256)]
    return bytes(min(codes, key=lambda code: abs(fp8_value(code) - value)) for value in quantiles)


def bf16(values):
    """Cut to bf16 (toward zero, which is near enough for weights that mean nothing)."""
    floats = struct.pack("<%df" % len(values), *values)
    return b"".join(floats[i + 2:i + 4] for i in range(0, len(floats), 4))


class Tensors:
    def __init__(self, rng):
        self.rng, self.header, self.blobs, self.offset = rng, {}, [], 0
        self.codes = normal_codes()

    def add(self, name, dtype, shape, blob):
        self.header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [self.offset, self.offset + len(blob)]}
        self.blobs.append(blob)
        self.offset += len(blob)

    def plain(self, name, rows, cols, deviation):
        self.add(name, "BF16", [rows, cols], bf16([self.rng.gauss(0, deviation) for _ in range(rows * cols)]))

    def norm(self, name, width):
        self.add(name, "BF16", [width], bf16([1 + self.rng.gauss(0, 0.1) for _ in range(width)]))

    def fp8(self, name, rows, cols, per_channel):
        self.add(name, "F8_E4M3", [rows, cols], self.rng.randbytes(rows * cols).translate(self.codes))
        scale = cols**-0.5 / FP8_DEVIATION
        factors = [scale * self.rng.uniform(0.5, 1.5) for _ in range(rows if per_channel else 1)]
        self.add(name + "_scale", "F32", [rows, 1] if per_channel else [1], struct.pack("<%df" % len(factors), *factors))

    def file(self):
        header = json.dumps(self.header).encode()
        header += b" " * (-len(header) % 8)
        return struct.pack("<Q", len(header)) + header + b"".join(self.blobs)


def tokenizer():
    tokens, types, merges = tiny_gguf.vocabulary()
    return {
        "version": "1.0",
        "added_tokens": [{"id": i, "content": token, "single_word": False, "lstrip": False, "rstrip": False,
                          "normalized": False, "special": True} for i, token in enumerate(tokens) if types[i] == 3],
        "normalizer": None,
        "pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True},
        "post_processor": None,
        "decoder": {"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": True, "use_regex": True},
        "model": {"type": "BPE", "unk_token": None, "byte_fallback": False, "ignore_merges": False,
                  "vocab": {token: i for i, token in enumerate(tokens)}, "merges": merges},
    }


def config(shape):
    def group(target, strategy):
        return {"targets": [target], "weights": {"type": "float", "num_bits": 8, "strategy": strategy, "symmetric": True}}

    return {
        "architectures": ["LlamaForCausalLM"], "model_type": "llama", "torch_dtype": "bfloat16",
        "vocab_size": len(tiny_gguf.vocabulary()[0]), "hidden_size": shape["width"],
        "intermediate_size": shape["ffn"], "num_hidden_layers": shape["layers"],
        "num_attention_heads": shape["heads"], "num_key_value_heads": shape["kv_heads"], "head_dim": shape["head_dim"],
        "max_position_embeddings": shape["context"], "rms_norm_eps": 1e-5, "rope_theta": 10000.0,
        "hidden_act": "silu", "tie_word_embeddings": False, "bos_token_id": 0, "eos_token_id": 2,
        "quantization_config": {
            "quant_method": "compressed-tensors", "format": "float-quantized", "ignore": ["lm_head"],
            "config_groups": {"group_0": group("re:.*self_attn.*", "channel"), "group_1": group("re:.*mlp.*", "tensor")}},
    }


def write(folder, seed=11, context=2048, width=200, layers=3, ffn=360, heads=5, kv_heads=1, head_dim=40):
    shape = dict(context=context, width=width, layers=layers, ffn=ffn, heads=heads, kv_heads=kv_heads, head_dim=head_dim)
    tensors, vocab = Tensors(random.Random(seed)), len(tiny_gguf.vocabulary()[0])
    tensors.plain("model.embed_tokens.weight", vocab, width, 1.0)
    for layer in range(layers):
        prefix = "model.layers.%d." % layer
        tensors.norm(prefix + "input_layernorm.weight", width)
        for name, rows, cols in (("q", heads * head_dim, width), ("k", kv_heads * head_dim, width),
                                 ("v", kv_heads * head_dim, width), ("o", width, heads * head_dim)):
            tensors.fp8(prefix + "self_attn.%s_proj.weight" % name, rows, cols, per_channel=True)
        tensors.norm(prefix + "post_attention_layernorm.weight", width)
        for name, rows, cols in (("gate", ffn, width), ("up", ffn, width), ("down", width, ffn)):
            tensors.fp8(prefix + "mlp.%s_proj.weight" % name, rows, cols, per_channel=False)
    tensors.norm("model.norm.weight", width)
    tensors.plain("lm_head.weight", vocab, width, 2 * width**-0.5)
    with open(os.path.join(folder, "model.safetensors"), "wb") as out:
        out.write(tensors.file())
    for name, content in (("config.json", config(shape)), ("tokenizer.json", tokenizer()),
                          ("tokenizer_config.json", {"tokenizer_class": "PreTrainedTokenizerFast"})):
        with open(os.path.join(folder, name), "w", encoding="utf-8") as out:
            json.dump(content, out, ensure_ascii=False)

"""The tiny model of tiny_gguf.py as a folder of safetensors, with a head and an embedding of its own.

Two things can be wrong with it on purpose: rows of the head beyond the tokenizer's vocabulary, loud enough to win every
draw, and one token whose embedding is NaN. Standard library only.
"""

import json
import os
import random
import struct

import tiny_gguf

PADDED_ROWS = 55
LOUD = 40.0


def names(layers):
    """(name, dims outermost first as a function of the shape, standard deviation; 0 means all ones)"""
    rows = [("model.embed_tokens.weight", "vw", 1.0), ("lm_head.weight", "vw", 0.125), ("model.norm.weight", "w", 0)]
    for layer in range(layers):
        prefix = "model.layers.%d." % layer
        rows += [(prefix + "input_layernorm.weight", "w", 0), (prefix + "post_attention_layernorm.weight", "w", 0)]
        rows += [(prefix + "self_attn.%s_proj.weight" % which, dims, 0.125)
                 for which, dims in (("q", "ww"), ("k", "kw"), ("v", "kw"), ("o", "ww"))]
        rows += [(prefix + "mlp.%s_proj.weight" % which, dims, 0.1)
                 for which, dims in (("gate", "fw"), ("up", "fw"), ("down", "wf"))]
    return rows


def tokenizer():
    tokens, types, merges = tiny_gguf.vocabulary()
    control = [token for token, kind in zip(tokens, types) if kind == 3]
    return {
        "version": "1.0",
        "added_tokens": [{"id": i, "content": token, "single_word": False, "lstrip": False, "rstrip": False,
                          "normalized": False, "special": True} for i, token in enumerate(control)],
        "normalizer": None,
        "pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True},
        "post_processor": None,
        "decoder": {"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": True, "use_regex": True},
        "model": {"type": "BPE", "dropout": None, "unk_token": None, "continuing_subword_prefix": None,
                  "end_of_word_suffix": None, "fuse_unk": False, "byte_fallback": False,
                  "vocab": {token: i for i, token in enumerate(tokens)}, "merges": merges},
    }


def write(folder, nan_token=None, seed=11, layers=1):
    """Writes the folder; the vocabulary of the tokenizer is smaller than the head's by PADDED_ROWS."""
    known = len(tiny_gguf.vocabulary()[0])
    size = {"v": known + PADDED_ROWS, "w": 64, "k": 32, "f": 128}
    rng = random.Random(seed)
    header, blobs, offset = {}, [], 0
    for name, dims, deviation in names(layers):
        shape = [size[dim] for dim in dims]
        count = shape[0] * (shape[1] if len(shape) == 2 else 1)
        values = [rng.gauss(0, deviation) if deviation else 1.0 for _ in range(count)]
        width = size["w"]
        if name == "lm_head.weight":
            values[known * width:] = [LOUD * value for value in values[known * width:]]
        if name == "model.embed_tokens.weight" and nan_token is not None:
            values[nan_token * width:(nan_token + 1) * width] = [float("nan")] * width
        blob = struct.pack("<%df" % count, *values)
        header[name] = {"dtype": "F32", "shape": shape, "data_offsets": [offset, offset + len(blob)]}
        blobs.append(blob)
        offset += len(blob)
    head = json.dumps(header).encode()
    head += b" " * (-len(head) % 8)
    with open(os.path.join(folder, "model.safetensors"), "wb") as out:
        out.write(struct.pack("<Q", len(head)) + head + b"".join(blobs))
    config = {"model_type": "llama", "architectures": ["LlamaForCausalLM"], "hidden_size": 64, "intermediate_size": 128,
              "num_hidden_layers": layers, "num_attention_heads": 4, "num_key_value_heads": 2, "vocab_size": size["v"],
              "rms_norm_eps": 1e-5, "max_position_embeddings": 512, "rope_theta": 10000.0, "tie_word_embeddings": False,
              "bos_token_id": 0, "eos_token_id": 2, "hidden_act": "silu", "torch_dtype": "float32"}
    with open(os.path.join(folder, "config.json"), "w") as out:
        json.dump(config, out)
    with open(os.path.join(folder, "tokenizer.json"), "w") as out:
        json.dump(tokenizer(), out)
    with open(os.path.join(folder, "tokenizer_config.json"), "w") as out:
        json.dump({"bos_token": "<|endoftext|>", "eos_token": "<|im_end|>",
                   "chat_template": tiny_gguf.CHAT_TEMPLATE}, out)
    return known

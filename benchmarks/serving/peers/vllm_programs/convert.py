"""GGUF to a folder of BF16 safetensors with its tokenizer: convert.py IN.gguf OUT_FOLDER. Runs in vLLM's own environment."""

import os
import shutil
import sys

import torch
import transformers


def main(source, folder):
    where, name = os.path.split(os.path.abspath(source))
    # Without `dequantize` the weights stay in GGUF's blocks, which cannot be saved.
    model = transformers.AutoModelForCausalLM.from_pretrained(
        where, gguf_file=name, quantization_config=transformers.GgufConfig(dequantize=True), dtype=torch.bfloat16)
    tokenizer = transformers.AutoTokenizer.from_pretrained(where, gguf_file=name)
    part = folder + ".part"
    shutil.rmtree(part, ignore_errors=True)
    model.save_pretrained(part)
    tokenizer.save_pretrained(part)
    os.rename(part, folder)


if __name__ == "__main__":
    main(*sys.argv[1:])

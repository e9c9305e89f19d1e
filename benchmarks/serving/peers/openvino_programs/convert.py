"""GGUF (F16) to an OpenVINO model with 8-bit weights a channel: convert.py IN.gguf OUT_FOLDER. Runs in OpenVINO's own
environment."""

import os
import shutil
import sys

import nncf
import openvino
import openvino_genai


def main(source, folder):
    # The pipeline's own reader of GGUF writes the model down beside the file.
    read = os.path.join(os.path.dirname(source), "openvino-f16")
    os.makedirs(read, exist_ok=True)
    link = os.path.join(read, os.path.basename(source))
    if not os.path.exists(link):
        os.symlink(source, link)
    openvino_genai.LLMPipeline(link, "CPU", enable_save_ov_model=True)
    part = folder + ".part"
    shutil.rmtree(part, ignore_errors=True)
    os.makedirs(part)
    for name in os.listdir(read):
        if "tokenizer" in name or name.endswith(".json"):
            shutil.copy(os.path.join(read, name), part)
    model = openvino.Core().read_model(os.path.join(read, "openvino_model.xml"))
    openvino.save_model(nncf.compress_weights(model, mode=nncf.CompressWeightsMode.INT8_ASYM), os.path.join(part, "openvino_model.xml"))
    os.rename(part, folder)


if __name__ == "__main__":
    main(*sys.argv[1:])

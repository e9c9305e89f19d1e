"""OpenVINO GenAI's continuous batching without a server: one process that calls step(), so it pays for no HTTP.

The weights are those of the GGUF file, dequantised and quantised again to what the engine is fastest with: 8 bits a channel.
"""

import json
import os
import subprocess
import venv

from peers.http import FOLDER
from peers.llama import requantized

PACKAGES = ["openvino-genai==2026.4.1.0", "nncf==3.4.0"]
PROGRAMS = os.path.join(os.path.dirname(os.path.abspath(__file__)), "openvino_programs")


class OpenVino:
    name = "OpenVINO INT8, offline"

    def __init__(self, model, threads):
        self.source, self.threads = model, threads
        self.python = os.path.join(FOLDER, "openvino", "bin", "python")
        self.model = os.path.join(FOLDER, "openvino-int8-from-" + os.path.splitext(os.path.basename(model))[0])
        self.about = ("%s, ContinuousBatchingPipeline in a Python loop, no HTTP; weights dequantised, then INT8 a channel (nncf); "
                      "%d threads, no prefix cache, 2 GB of KV, max_num_seqs STREAMS (64 or more), else defaults" % (PACKAGES[0], threads))

    def prepare(self):
        if not os.path.exists(self.python):
            venv.create(os.path.join(FOLDER, "openvino"), with_pip=True)
        subprocess.run([self.python, "-m", "pip", "install", "-q", *PACKAGES], check=True)
        if not os.path.exists(self.model):
            subprocess.run([self.python, os.path.join(PROGRAMS, "convert.py"), requantized(self.source, "F16"), self.model], check=True)

    def measure(self, point, seed):
        out = subprocess.run([self.python, os.path.join(PROGRAMS, "closed_loop.py"), self.model, *map(str, point), str(seed), str(self.threads)],
                             stdout=subprocess.PIPE, text=True, check=True).stdout
        figures = json.loads(out.splitlines()[-1])
        print("%s: %d streams, %.1f tok/s" % (self.name, point.streams, figures["output_tokens_per_s"]), flush=True)
        return figures

"""ik_llama.cpp's server on the same file. No package carries its source: it is built from a folder that holds it, with the default
compiler (GCC brings OpenMP, without which it starts its threads anew for each step; it has no AMX code that GCC could break)."""

import os

from peers.http import FOLDER, HttpContender, context_of
from peers.llama import compile_program

CMAKE_OPTIONS = ["-DCMAKE_BUILD_TYPE=Release", "-DGGML_NATIVE=ON", "-DLLAMA_CURL=OFF", "-DLLAMA_BUILD_TESTS=OFF",
                 "-DGGML_IQK_FA_ALL_QUANTS=OFF", "-DGGML_NCCL=OFF"]
# What it was fastest with: weights repacked at the start, Q, K and V joined, KV in 8 bits.
FASTEST = ["-rtr", "-mqkv", "-ctk", "q8_0", "-ctv", "q8_0"]


class IkLlamaServer(HttpContender):
    name = "ik_llama.cpp"

    def __init__(self, model, threads, source):
        self.model, self.threads, self.source = model, threads, source
        self.binary = os.path.join(FOLDER, "ik", "bin", "llama-server")
        self.about = "its llama-server on the same file, `-np STREAMS -fa on -t %d %s`, one slot a stream" % (threads, " ".join(FASTEST))

    def prepare(self):
        if self.source:
            compile_program(self.source, os.path.join(FOLDER, "ik"), CMAKE_OPTIONS, "llama-server")
        elif not os.path.exists(self.binary):
            raise RuntimeError("its source is not at hand (--ik-source)")

    def command(self, point, port):
        return [self.binary, "-m", self.model, "--host", "127.0.0.1", "--port", str(port), "-np", str(point.streams),
                "-c", str(context_of(point) * point.streams), "-fa", "on", "-t", str(self.threads), "-tb", str(self.threads),
                "--cache-ram", "0", "--log-disable", *FASTEST]

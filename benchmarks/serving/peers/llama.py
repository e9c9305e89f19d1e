"""llama.cpp's server on the same file, or on the same weights quantised again to the formats that it is fastest with."""

import glob
import os
import shutil
import subprocess
import sys
import tarfile

from peers.http import FOLDER, HttpContender, context_of

SDIST = "llama-cpp-python==0.3.36"  # carries llama.cpp's source
CMAKE_OPTIONS = ["-DCMAKE_BUILD_TYPE=Release", "-DGGML_NATIVE=ON", "-DLLAMA_CURL=OFF", "-DLLAMA_OPENSSL=OFF",
                 "-DLLAMA_BUILD_TESTS=OFF", "-DLLAMA_BUILD_UI=OFF", "-DLLAMA_BUILD_EXAMPLES=OFF"]


def compiler():
    """clang where there is one: with AMX, GCC 12 drops the stores to tile configurations, and the server dies at its first product."""
    for version in ("-19", ""):
        if shutil.which("clang++" + version):
            return ["-DCMAKE_C_COMPILER=clang" + version, "-DCMAKE_CXX_COMPILER=clang++" + version]
    return []


def compile_program(source, folder, options, target):
    """The path of a program of llama.cpp's or a fork's CMake project, built in `folder`."""
    subprocess.run(["cmake", "-G", "Ninja", "-S", source, "-B", folder, *options], check=True, stdout=subprocess.DEVNULL)
    subprocess.run(["cmake", "--build", folder, "--target", target], check=True, stdout=subprocess.DEVNULL)
    return os.path.join(folder, "bin", target)


def build(target):
    """The path of one of llama.cpp's programs, built once in build/peers/llama."""
    folder = os.path.join(FOLDER, "llama")
    binary = os.path.join(folder, "bin", target)
    if os.path.exists(binary):
        return binary
    os.makedirs(FOLDER, exist_ok=True)
    pattern = os.path.join(FOLDER, "llama_cpp_python-*")
    if not glob.glob(pattern + ".tar.gz"):
        subprocess.run([sys.executable, "-m", "pip", "download", "-q", "--no-deps", "--no-binary", SDIST.split("==")[0],
                        "-d", FOLDER, SDIST], check=True)
    with tarfile.open(glob.glob(pattern + ".tar.gz")[0]) as archive:
        archive.extractall(FOLDER)
    source = glob.glob(os.path.join(pattern, "vendor", "llama.cpp"))[0]
    return compile_program(source, folder, [*CMAKE_OPTIONS, *compiler()], target)


def requantized(model, kind):
    """The file's weights in another format, every matrix of it. For speed only: quantising twice loses quality."""
    out = os.path.join(FOLDER, "%s-from-%s" % (kind, os.path.basename(model)))
    if not os.path.exists(out):
        done = subprocess.run([build("llama-quantize"), "--allow-requantize", "--pure", model, out + ".part", kind],
                              stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        if done.returncode != 0:
            raise RuntimeError("llama-quantize: " + done.stdout[-500:])
        os.rename(out + ".part", out)
    return out


class LlamaServer(HttpContender):
    def __init__(self, model, threads, binary="", kind=""):
        self.model, self.threads, self.binary, self.kind = model, threads, binary, kind
        self.name = "llama-server" + (" " + kind if kind else "")
        self.about = "%s on %s, `-np STREAMS -fa on -t %d`, one slot a stream, no prompt cache" % (
            os.path.basename(binary) or "llama-server of the sdist " + SDIST, "the same weights quantised again to " + kind if kind else "the same file", threads)

    def prepare(self):
        self.binary = self.binary or build("llama-server")
        if self.kind:
            self.model = requantized(self.model, self.kind)

    def command(self, point, port):
        return [self.binary, "-m", self.model, "--host", "127.0.0.1", "--port", str(port), "-np", str(point.streams),
                "-c", str(context_of(point) * point.streams), "-fa", "on", "-t", str(self.threads), "-tb", str(self.threads),
                "--no-cache-prompt", "--cache-ram", "0"]

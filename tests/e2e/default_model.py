"""Where `modu pull` has put the default model."""

import os


def path():
    home = os.environ.get("MODU_HOME", os.path.join(os.path.expanduser("~"), ".cache", "modu"))
    return os.path.join(home, "models", "SmolLM2-135M-Instruct.Q4_1.gguf")

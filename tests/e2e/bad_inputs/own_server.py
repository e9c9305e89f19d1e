"""A server of a row's own, where flags, files or signals are what the row is about."""

import contextlib
import json
import os
import tempfile

import tiny_gguf
from modu_server import Server


@contextlib.contextmanager
def serving(*flags, model=None, context=512, max_seqs=8, kv_tokens=8192, **kwargs):
    """A running server on the harness's model, or on another; stopped, and its exit checked, on leaving."""
    with tempfile.TemporaryDirectory() as folder:
        path = model or os.path.join(folder, "tiny.gguf")
        if model is None:
            with open(path, "wb") as out:
                out.write(tiny_gguf.tiny_gguf(context=context))
        with Server(path, "--max-seqs", str(max_seqs), "--kv-tokens", str(kv_tokens), "--threads", "1", *flags,
                    **kwargs) as server:
            yield server


@contextlib.contextmanager
def key_file(*keys, mode=0o600):
    with tempfile.NamedTemporaryFile("w", suffix=".keys") as file:
        file.write("".join(key + "\n" for key in keys))
        file.flush()
        os.chmod(file.name, mode)
        yield file.name


def answers(server, key=None, prompt="hello"):
    """Status of a normal call."""
    headers = {"Authorization": "Bearer " + key} if key else {}
    return server.post("/v1/completions", {"prompt": prompt, "max_tokens": 2}, headers=headers)[0]


def last_event(data):
    """The last event of a stream that is not [DONE], and whether [DONE] came."""
    events = [line[6:] for line in data.decode().split("\n") if line.startswith("data: ")]
    done = bool(events) and events[-1] == "[DONE]"
    rest = events[:-1] if done else events
    return (json.loads(rest[-1]) if rest else None), done

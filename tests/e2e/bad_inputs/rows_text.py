"""Sections F (prompt and tokenizer) and H (chat template)."""

import json
import os
import resource
import subprocess
import tempfile

import tiny_gguf
from bad_inputs.case import HELLO, Case, chat, completion
from bad_inputs.own_server import answers, serving
from modu_server import BINARY

BOMBS = {
    "a long range": "{% for i in range(10**9) %}{% endfor %}",
    "nested loops": "{% for i in range(10000) %}{% for j in range(10000) %}{% for k in range(10000) %}x{% endfor %}{% endfor %}{% endfor %}",
    "a long string": "{{ '-' * 10**10 }}",
    "a string that doubles": "{% set ns = namespace(s='x') %}{% for i in range(64) %}{% set ns.s = ns.s + ns.s %}{% endfor %}{{ ns.s }}",
    "a list that doubles": "{% set ns = namespace(s=[1]) %}{% for i in range(64) %}{% set ns.s = ns.s + ns.s %}{% endfor %}{{ ns.s|length }}",
    "a huge indent": "{{ ('a\\nb')|indent(10**10) }}",
    "a macro that calls itself": "{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}",
    "10,000 brackets": "{{ " + "(" * 10_000 + "1" + ")" * 10_000 + " }}",
    "10,000 unary operators": "{{ " + "-" * 10_000 + "1 }}",
    "10,000 lists": "{{ " + "[" * 10_000 + "]" * 10_000 + " }}",
    "10,000 ifs": "{% if true %}" * 10_000 + "{% endif %}" * 10_000,
    "a filter for ever": "{{ 'a'" + "|upper" * 500_000 + "|join('-' * 10**9) }}",
}

# What it must not reach; where it is undefined and prints nothing, nothing has been reached.
REACHING = ["{{ ''.__class__.__mro__ }}", "{{ messages.__class__ }}", "{{ messages.append.__self__ }}", "{{ self.__init__ }}",
            "{{ lipsum.__globals__ }}", "{{ cycler.__init__.__globals__.os }}", "{% include '/etc/passwd' %}",
            "{% import '/etc/passwd' as p %}{{ p }}", "{% from 'os' import environ %}{{ environ }}",
            "{% extends '/etc/passwd' %}", "{{ open('/etc/passwd').read() }}", "{{ environ }}", "{{ config }}",
            "{{ ''|attr('__class__') }}", "{{ messages|map(attribute='__class__')|list }}", "{{ '{0.__class__}'.format('') }}"]


def render(template, timeout_s=10):
    """Exit code and output of `modu render` with a gigabyte of memory."""
    def little_memory():
        resource.setrlimit(resource.RLIMIT_AS, (1 << 30, 1 << 30))

    with tempfile.NamedTemporaryFile("w", suffix=".jinja") as file:
        file.write(template)
        file.flush()
        done = subprocess.run([BINARY, "render", file.name], input=json.dumps([{"messages": HELLO}]), capture_output=True,
                              text=True, timeout=timeout_s, preexec_fn=little_memory)
    assert done.returncode >= 0, "died of signal %d" % -done.returncode
    assert "terminate" not in done.stderr and "bad_alloc" not in done.stderr, done.stderr[:300]
    return done.returncode, done.stdout


def bombs(_):
    for title, template in BOMBS.items():
        code, out = render(template)
        assert code > 0, "%s: rendered %d bytes" % (title, len(out))


def reaching_out(_):
    for template in REACHING:
        code, out = render(template)
        said = json.loads(out)[0] if code == 0 else ""
        for word in ("class", "root:", "PATH", "module", "builtin", "0x"):
            assert word not in said, "%s: %s" % (template, said[:200])


def bombs_served(_):
    """The operator's own template is the bomb: 400 for a chat, and the rest of the server does not notice."""
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "bomb.gguf")
        with open(path, "wb") as out:
            out.write(tiny_gguf.tiny_gguf(chat_template=BOMBS["nested loops"]))
        with serving(model=path) as server:
            for _ in range(3):
                status, answer = server.post_json("/v1/chat/completions", {"messages": HELLO, "max_tokens": 2})
                assert status == 400 and "template" in answer["error"]["message"], (status, answer)
            assert answers(server) == 200


def prompt_rows():
    yield completion(58, "empty prompt: answered from BOS, as documented", status=200, prompt="")
    yield completion(58, "no prompt", prompt=..., param="prompt")
    context = 512  # of the harness's model
    yield completion(59, "one token over the context", prompt=[5] * context, max_tokens=1, code="context_length_exceeded",
                     says=[str(context)])
    yield completion(59, "ten times over", prompt=[5] * (10 * context), code="context_length_exceeded", says=[str(context)])
    yield completion(59, "a long text", prompt="z" * 100_000, code="context_length_exceeded", says=[str(context)])
    for title, text in {
        "combining marks": "a" + "\u0301" * 100_000,
        "joiner chain": "\u200d" * 100_000,
        "right-to-left marks": "\u202e" * 100_000,
        "private use": "\ue000" * 100_000,
    }.items():
        yield chat(60, title, status=(200, 400), messages=[{"role": "user", "content": text}])
    control = "".join(chr(i) for i in range(32))
    yield chat(61, "control bytes", status=200, messages=[{"role": "user", "content": control}])
    for title, messages in {
        "no messages": [],
        "unknown role": [{"role": "nobody", "content": "x"}],
        "content is a number": [{"role": "user", "content": 5}],
        "content is null": [{"role": "user", "content": None}],
        "unknown part": [{"role": "user", "content": [{"type": "smell", "smell": "x"}]}],
        "a message that is no object": ["x"],
        "no role": [{"content": "x"}],
        "messages is a string": "x",
    }.items():
        yield chat(62, title, messages=messages)
    for url in ("http://127.0.0.1:9/x.png", "file:///etc/passwd", "http://169.254.169.254/latest",
                "data:image/png;base64," + "A" * 1000):
        image = [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": url}}]}]
        yield chat(63, "image %.20s" % url, messages=image, says=["not supported"])
    yield chat(64, "a Markdown image is text", status=200,
               messages=[{"role": "user", "content": "![x](http://127.0.0.1:9/x.png)"}])


def template_rows():
    yield chat(76, "client's template", chat_template="{{ 1 }}", param="chat_template")
    yield chat(76, "internal argument by template kwargs", status=(200, 400),
               chat_template_kwargs={"messages": [], "tokenize": True})
    yield Case(77, "templates without end", act=bombs, within_s=60)
    yield Case(77, "a served template without end", act=bombs_served, within_s=30)
    yield Case(78, "templates that reach out", act=reaching_out, within_s=60)


def cases():
    yield from prompt_rows()
    yield from template_rows()

"""Sections F (prompt and tokenizer) and H (chat template)."""

from bad_inputs.case import HELLO, Case, chat, completion


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


def cases():
    yield from prompt_rows()
    yield from template_rows()

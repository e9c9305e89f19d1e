"""Sections C (JSON body), D (sampling and counts) and E (token ids and logit bias)."""

from bad_inputs.case import COMPLETION, HELLO, chat, completion, raw

BIG = 10**20


def body_rows():
    for text in (b"", b"null", b"[]", b'"x"', b"123"):
        yield raw(30, "body %r" % text, text, says=["object"])
    good = b'{"messages":[{"role":"user","content":"hello"}],"max_tokens":4'
    for title, text in {
        "truncated": good,
        "trailing bytes": good + b"} x",
        "byte order mark": b"\xef\xbb\xbf" + good + b"}",
        "comment": b"/* c */" + good + b"}",
        "single quotes": b"{'messages': []}",
    }.items():
        yield raw(31, title, text, says=["byte"])
    for bracket, close in ((b"[", b"]"), (b'{"a":', b"}")):
        deep = bracket * 100_000
        yield raw(32, "nesting at top level", deep, says=["nesting deeper than 64"])
        yield raw(32, "nesting in an ignored field", good + b',"ignored":' + deep, says=["nesting deeper than 64"])
    yield raw(32, "an array of 100,000 numbers is no object", b"[" + b"1," * 99_999 + b"1]", says=["object"])
    for value in (10**30, 1.0, "1", True):
        yield chat(33, "max_tokens %r" % (value,), max_tokens=value, param="max_tokens")
    yield raw(33, "a double that is too large", good + b',"temperature":1e999}', says=["temperature"])
    yield raw(34, "duplicate keys", good + b',"n":1,"n":9999}', says=["n"])
    yield raw(34, "duplicate keys deeper", b'{"messages":[{"role":"user","role":"system","content":"x"}]}')
    for title, content in {
        "invalid UTF-8": b"\xff",
        "overlong form": b"\xc0\xaf",
        "lone surrogate": b"\\ud800",
        "lone low surrogate": b"\\udc00",
    }.items():
        yield raw(35, title, b'{"messages":[{"role":"user","content":"' + content + b'"}],"max_tokens":2}')
    yield raw(35, "NUL is text", b'{"messages":[{"role":"user","content":"a\\u0000b"}],"max_tokens":2}', status=200)
    yield chat(36, "unknown field is ignored", status=200, no_such_field={"a": [1]})
    yield raw(37, "16 MiB in one field", good + b',"user":"' + b"x" * (16 << 20) + b'"}', status=(400, 413))
    message = {"role": "user", "content": "a"}
    yield chat(38, "2,049 messages", messages=[message] * 2049, param="messages", says=["2048"])
    yield chat(38, "10,000 messages", messages=[message] * 10_000, param="messages", says=["2048"])
    yield raw(38, "1,000,000 messages", b'{"messages":[' + b"1," * 999_999 + b"1]}", param="messages", says=["2048"])
    tool = {"type": "function", "function": {"name": "f", "parameters": {}}}
    yield chat(38, "10,000 tools", tools=[tool] * 10_000, param="tools", says=["128"])
    yield chat(38, "10,000 stop strings", stop=["x%d" % i for i in range(10_000)], param="stop", says=["16"])


def sampling_rows():
    for n in (0, -1, 129, 2**31, 2**63):
        yield chat(39, "n %d" % n, n=n, param="n")
    for value in (-0.1, 2.1, 1e308, "1"):
        yield chat(40, "temperature %r" % (value,), temperature=value, param="temperature")
    yield raw(40, "temperature NaN", b'{"messages":[{"role":"user","content":"x"}],"temperature":NaN}')
    yield chat(41, "temperature 1e-30 is greedy", status=200, temperature=1e-30)
    for value in (0, -1, 1.5):
        yield chat(42, "top_p %r" % value, top_p=value, param="top_p")
    for value in (-0.1, 1.5):
        yield chat(42, "min_p %r" % value, min_p=value, param="min_p")
    for name in ("presence_penalty", "frequency_penalty"):
        for value in (2.1, -2.1, 1e300):
            yield chat(43, "%s %r" % (name, value), param=name, **{name: value})
    for value in (0, -1.0, 1e30):
        yield chat(44, "repetition_penalty %r" % value, repetition_penalty=value, param="repetition_penalty")
    for value in (BIG, -BIG, 1.5, "100"):
        yield chat(45, "seed %r" % (value,), seed=value, param="seed")
    for value in (-1, 2**31, 100_000):
        yield chat(46, "max_tokens %d" % value, max_tokens=value, param="max_tokens")
    yield completion(46, "max_tokens 0 scores or is empty", status=200, max_tokens=0, echo=True, logprobs=1)
    yield chat(47, "min_tokens above max_tokens", min_tokens=5, max_tokens=4, param="min_tokens")
    for value in (21, -1, 10**6):
        yield chat(48, "top_logprobs %d" % value, logprobs=True, top_logprobs=value, param="top_logprobs", says=["20"])
    yield chat(48, "top_logprobs without logprobs", top_logprobs=2, param="top_logprobs")
    for value in ("", [""], ["x" * 10_240], [str(i) for i in range(17)], 5, [5]):
        yield chat(49, "stop %.20r" % (value,), stop=value, param="stop")
    yield chat(50, "stream_options without stream", stream_options={"include_usage": True}, param="stream_options")
    for name in ("n_discard", "n_keep", "id_slot"):
        yield chat(51, "%s is an unknown field" % name, status=200, **{name: -5})


# (field, least, most, one step outside); the ends are right, one step beyond is 400 by name.
BOUNDS = [
    ("temperature", 0, 2, 1e-6), ("top_p", 1e-6, 1, 1e-6), ("min_p", 0, 1, 1e-6),
    ("presence_penalty", -2, 2, 1e-6), ("frequency_penalty", -2, 2, 1e-6),
    ("n", 1, 4, None), ("max_tokens", 1, 64, None), ("min_tokens", 0, 4, None),
]


def bound_rows():
    for name, least, most, step in BOUNDS:
        yield chat(52, "%s at its least" % name, status=200, **{name: least})
        yield chat(52, "%s at its most" % name, status=200, **{name: most})
        beyond = 1 if step is None else step
        if name != "max_tokens":
            yield chat(52, "%s below" % name, param=name, **{name: least - beyond if step is None else least - max(beyond, 1e-6)})
        if step is not None:
            yield chat(52, "%s above" % name, param=name, **{name: most + 1e-3})


def token_rows():
    for ids in ([-1], [100_000], [2**31], [1.5], [[1, [2]]], [1, "a"], ["a", 1], [[1], "a"], [[]], []):
        yield completion(53, "prompt %r" % (ids,), prompt=ids, param="prompt")
    for bias in ({"AI": 1}, {"-1": 1}, {"999999": 1}, {"1e3": 1}, {"1": 101}, {"1": -101}, {"1": "x"}, [1],
                 {str(i): 1 for i in range(300_000)}):
        yield chat(54, "logit_bias %.30r" % (bias,), logit_bias=bias, status=400)
    yield chat(55, "stop_token_ids out of the vocabulary", stop_token_ids=[10**6], param="stop_token_ids")
    yield chat(55, "a negative stop_token_id", stop_token_ids=[-1], param="stop_token_ids")
    yield chat(55, "100,000 stop_token_ids", stop_token_ids=[1] * 100_000, param="stop_token_ids")


def cases():
    yield from body_rows()
    yield from sampling_rows()
    yield from bound_rows()
    yield from token_rows()

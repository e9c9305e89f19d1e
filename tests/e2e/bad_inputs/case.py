"""One bad input: its row number in the table of docs/bad-inputs.md, what is sent, and the right answer."""

from dataclasses import dataclass, field
from typing import Callable, Optional, Sequence, Union

CHAT, COMPLETION = "/v1/chat/completions", "/v1/completions"
HELLO = [{"role": "user", "content": "hello"}]


@dataclass
class Case:
    row: int
    title: str
    path: str = CHAT
    body: Union[dict, list, bytes, None] = None
    status: Sequence[int] = (400,)
    param: Optional[str] = None     # the error's param, where the field is known
    says: Sequence[str] = ()        # words the message must hold
    code: Optional[str] = None
    method: str = "POST"
    headers: dict = field(default_factory=dict)
    within_s: float = 1.0
    # A row that is no single HTTP call: gets the server, raises AssertionError when the answer is wrong.
    act: Optional[Callable] = None


def chat(row, title, status=400, messages=HELLO, param=None, says=(), code=None, **fields):
    """A chat call that is right but for `fields`."""
    statuses = (status,) if isinstance(status, int) else status
    body = {"messages": messages, "max_tokens": 4, **fields}
    return Case(row, title, CHAT, body, statuses, param, says, code)


def completion(row, title, status=400, param=None, says=(), code=None, **fields):
    statuses = (status,) if isinstance(status, int) else status
    body = {"prompt": "hello", "max_tokens": 4, **fields}
    return Case(row, title, COMPLETION, {k: v for k, v in body.items() if v is not ...}, statuses, param, says, code)


def raw(row, title, body, status=400, path=CHAT, param=None, says=(), **kwargs):
    statuses = (status,) if isinstance(status, int) else status
    return Case(row, title, path, body, statuses, param, says, **kwargs)

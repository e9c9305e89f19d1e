"""A thin Python client for Modu's gRPC API; for REST use the official `openai` package, which works unmodified.

    from modu_client import Client
    with Client("127.0.0.1:8001") as modu:
        for delta in modu.chat([{"role": "user", "content": "Hello"}], max_tokens=32):
            print(delta.text, end="")
"""

from modu_client.client import Client

__all__ = ["Client"]

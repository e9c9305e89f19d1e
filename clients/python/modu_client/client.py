"""The client itself: stubs are made from the .proto files when it is imported, so nothing generated lies about.

Needs grpcio and grpcio-tools.
"""

import os
import sys

import grpc

_PROTO = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..", "..", "proto")
if os.path.isdir(_PROTO):
    sys.path.insert(0, os.path.abspath(_PROTO))
pb, _services = grpc.protos_and_services("modu/v1/modu.proto")

_ROLES = {"system": pb.ROLE_SYSTEM, "user": pb.ROLE_USER, "assistant": pb.ROLE_ASSISTANT, "tool": pb.ROLE_TOOL,
          "developer": pb.ROLE_DEVELOPER}


def _message(index, message):
    """The proto's message of a dictionary as REST takes it; gRPC's client knows text only."""
    where = "messages[%d]" % index
    if not isinstance(message, dict):
        raise ValueError("%s: a dictionary with role and content is wanted, not %r" % (where, type(message).__name__))
    role, content = message.get("role"), message.get("content")
    if not isinstance(role, str) or role not in _ROLES:
        raise ValueError("%s.role: %r is not one of %s" % (where, role, ", ".join(sorted(_ROLES))))
    if not isinstance(content, str):
        raise ValueError("%s.content: a string is wanted, not %r; content parts go over REST"
                         % (where, type(content).__name__))
    return pb.Message(role=_ROLES[role], content=content)


class Client:
    """One channel to a server. Sampling fields are those of SamplingParams in the proto file.

    tls: encrypt, and trust the roots that gRPC comes with. root_certificates: PEM bytes to trust in their place.
    """

    def __init__(self, target="127.0.0.1:8001", api_key=None, root_certificates=None, *, tls=False):
        if tls or root_certificates is not None:
            self._channel = grpc.secure_channel(target, grpc.ssl_channel_credentials(root_certificates))
        else:
            self._channel = grpc.insecure_channel(target)
        self._stub = _services.ModuStub(self._channel)
        self._metadata = [("authorization", "Bearer " + api_key)] if api_key else []

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._channel.close()

    def chat_events(self, messages, timeout_s=None, **sampling):
        """Every GenerationEvent of a chat call; the returned object can be cancelled.

        messages: dictionaries with a role and a text; ValueError names the one that is something else.
        """
        conversation = pb.Conversation(messages=[_message(i, message) for i, message in enumerate(messages)])
        request = pb.ChatRequest(conversation=conversation, sampling=pb.SamplingParams(**sampling))
        return self._stub.Chat(request, timeout=timeout_s, metadata=self._metadata)

    def generate_events(self, prompt, timeout_s=None, *, echo=False, **sampling):
        """The same for a prompt as it is: a string, or a list of token ids."""
        request = pb.GenerateRequest(echo=echo, sampling=pb.SamplingParams(**sampling))
        if isinstance(prompt, str):
            request.text = prompt
        else:
            request.token_ids.ids.extend(prompt)
        return self._stub.Generate(request, timeout=timeout_s, metadata=self._metadata)

    def chat(self, messages, **kwargs):
        """Deltas only."""
        return (event.delta for event in self.chat_events(messages, **kwargs) if event.HasField("delta"))

    def generate(self, prompt, timeout_s=None, **sampling):
        """Deltas only."""
        if "echo" in sampling:
            raise ValueError("echo: the prompt comes back as an event of its own; ask generate_events")
        events = self.generate_events(prompt, timeout_s, **sampling)
        return (event.delta for event in events if event.HasField("delta"))

    def tokenize(self, text):
        return list(self._stub.Tokenize(pb.TokenizeRequest(text=text), metadata=self._metadata).token_ids)

    def detokenize(self, token_ids):
        return self._stub.Detokenize(pb.DetokenizeRequest(token_ids=token_ids), metadata=self._metadata).text

    def models(self):
        return list(self._stub.ListModels(pb.ListModelsRequest(), metadata=self._metadata).models)

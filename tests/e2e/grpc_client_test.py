"""gRPC on the default model: the generated stubs, a client that knows the server by reflection alone, health; and the
same bytes as REST."""

import os
import sys
import time
import unittest

import grpc
from google.protobuf import descriptor_pool, json_format, message_factory
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase

import default_model
from modu_server import ROOT, Server

sys.path.insert(0, os.path.join(ROOT, "clients", "python"))
from modu_client import Client  # noqa: E402

MESSAGES = [{"role": "user", "content": "What is the capital of South Korea?"}]


class GrpcClient(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.server = Server(default_model.path())
        cls.target = "127.0.0.1:%d" % cls.server.grpc_port
        cls.client = Client(cls.target)

    @classmethod
    def tearDownClass(cls):
        cls.client.__exit__()
        cls.server.__exit__(None, None, None)

    def test_chat_gives_the_same_bytes_as_rest(self):
        _, rest = self.server.post_json("/v1/chat/completions", {
            "messages": MESSAGES, "temperature": 0, "max_tokens": 40, "return_token_ids": True})
        text, ids, finished = "", [], None
        for event in self.client.chat_events(MESSAGES, temperature=0, max_tokens=40):
            if event.HasField("delta"):
                text += event.delta.text
                ids += event.delta.token_ids
            elif event.HasField("finished"):
                finished = event.finished
        self.assertEqual(text, rest["choices"][0]["message"]["content"])
        self.assertEqual(ids, rest["choices"][0]["token_ids"])
        self.assertEqual(finished.usage.completion_tokens, rest["usage"]["completion_tokens"])
        self.assertEqual(finished.usage.prompt_tokens, rest["usage"]["prompt_tokens"])

    def test_generate_with_logprobs(self):
        deltas = list(self.client.generate([504, 260], temperature=0, max_tokens=6, ignore_eos=True, logprobs=3))
        entries = [entry for delta in deltas for entry in delta.logprobs]
        self.assertEqual(len(entries), 6)
        self.assertEqual(b"".join(entry.token.token for entry in entries).decode(), "".join(d.text for d in deltas))
        self.assertTrue(all(len(entry.top) == 3 for entry in entries))

    def test_an_echo_is_an_event_of_its_own(self):
        events = list(self.client.generate_events([504, 260], echo=True, temperature=0, max_tokens=2))
        echoes = [event.echo for event in events if event.HasField("echo")]
        self.assertEqual([list(echo.token_ids) for echo in echoes], [[504, 260]])
        with self.assertRaises(ValueError):
            self.client.generate([504], echo=True)

    def test_tokens_round_trip(self):
        text = "안녕하세요, Modu! 🙂"
        self.assertEqual(self.client.detokenize(self.client.tokenize(text)), text)
        self.assertEqual(len(self.client.models()), 1)

    def test_errors_name_the_field(self):
        with self.assertRaises(grpc.RpcError) as raised:
            list(self.client.chat(MESSAGES, temperature=3))
        self.assertEqual(raised.exception.code(), grpc.StatusCode.INVALID_ARGUMENT)
        self.assertIn("temperature", raised.exception.details())

    def test_deadline_and_cancel(self):
        done = self.server.metric("modu_requests_ended_total", 'outcome="done"')
        with self.assertRaises(grpc.RpcError) as raised:
            list(self.client.chat(MESSAGES, timeout_s=0.2, max_tokens=2000, ignore_eos=True))
        self.assertEqual(raised.exception.code(), grpc.StatusCode.DEADLINE_EXCEEDED)
        call = self.client.chat_events(MESSAGES, max_tokens=2000, ignore_eos=True)
        for event in call:
            if event.HasField("delta"):
                call.cancel()
                break
        deadline = time.monotonic() + 20
        while self.server.metric("modu_num_requests_running") + self.server.metric("modu_requests_in_flight") > 0:
            self.assertLess(time.monotonic(), deadline, "a cancelled call still runs")
            time.sleep(0.01)
        self.assertEqual(self.server.metric("modu_requests_ended_total", 'outcome="done"'), done, "one ran to its end")

    def test_health(self):
        with grpc.insecure_channel(self.target) as channel:
            stub = health_pb2_grpc.HealthStub(channel)
            for service in ("", "modu.v1.Modu", "engine.progress"):
                answer = stub.Check(health_pb2.HealthCheckRequest(service=service), timeout=5)
                self.assertEqual(answer.status, health_pb2.HealthCheckResponse.SERVING, service)

    def test_a_client_by_reflection(self):
        with grpc.insecure_channel(self.target) as channel:
            database = ProtoReflectionDescriptorDatabase(channel)
            self.assertIn("modu.v1.Modu", list(database.get_services()))
            pool = descriptor_pool.DescriptorPool(database)
            method = pool.FindServiceByName("modu.v1.Modu").FindMethodByName("Chat")
            request = json_format.ParseDict(
                {"conversation": {"messages": [{"role": "ROLE_USER", "content": MESSAGES[0]["content"]}]},
                 "sampling": {"temperature": 0, "max_tokens": 12}},
                message_factory.GetMessageClass(method.input_type)())
            call = channel.unary_stream("/modu.v1.Modu/Chat", request_serializer=type(request).SerializeToString,
                                        response_deserializer=message_factory.GetMessageClass(method.output_type).FromString)
            text = "".join(event.delta.text for event in call(request, timeout=60) if event.HasField("delta"))
        self.assertTrue(text)


class WrongMessages(unittest.TestCase):
    def test_a_message_that_cannot_be_sent_is_named_before_anything_is(self):
        with Client("127.0.0.1:1") as client:
            for message, words in (({"role": "robot", "content": "x"}, ("messages[1].role", "'robot'", "assistant")),
                                   ({"content": "x"}, ("messages[1].role", "None")),
                                   ({"role": ["user"], "content": "x"}, ("messages[1].role", "user")),
                                   ({"role": "user"}, ("messages[1].content", "NoneType")),
                                   ({"role": "user", "content": [{"type": "text", "text": "x"}]},
                                    ("messages[1].content", "'list'", "REST")),
                                   ("hello", ("messages[1]", "'str'"))):
                for call in (client.chat, client.chat_events):
                    with self.assertRaises(ValueError) as raised:
                        call([*MESSAGES, message])
                    for word in words:
                        self.assertIn(word, str(raised.exception))


if __name__ == "__main__":
    unittest.main()

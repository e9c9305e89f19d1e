"""The official `openai` package against the default model: it must work unmodified."""

import unittest

import openai

import default_model
from modu_server import Server

MESSAGES = [{"role": "user", "content": "What is the capital of South Korea?"}]


class OpenAiClient(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.server = Server(default_model.path())
        cls.client = openai.OpenAI(base_url="http://127.0.0.1:%d/v1" % cls.server.port, api_key="none", max_retries=0)
        cls.model = cls.client.models.list().data[0].id

    @classmethod
    def tearDownClass(cls):
        cls.server.__exit__(None, None, None)

    def chat(self, **fields):
        return self.client.chat.completions.create(
            **{"model": self.model, "messages": MESSAGES, "temperature": 0, "max_tokens": 24, **fields})

    def test_models(self):
        self.assertEqual(self.client.models.retrieve(self.model).id, self.model)
        with self.assertRaises(openai.NotFoundError):
            self.client.models.retrieve("no-such-model")

    def test_chat_knows_the_capital(self):
        answer = self.chat()
        self.assertIn("Seoul", answer.choices[0].message.content)
        self.assertEqual(answer.usage.total_tokens, answer.usage.prompt_tokens + answer.usage.completion_tokens)
        self.assertIn(answer.choices[0].finish_reason, ("stop", "length"))

    def test_stream_equals_whole(self):
        whole = self.chat(max_tokens=40)
        text, usage, finish = "", None, None
        for chunk in self.chat(max_tokens=40, stream=True, stream_options={"include_usage": True}):
            if chunk.choices:
                text += chunk.choices[0].delta.content or ""
                finish = chunk.choices[0].finish_reason or finish
            usage = chunk.usage or usage
        self.assertEqual(text, whole.choices[0].message.content)
        self.assertEqual(finish, whole.choices[0].finish_reason)
        self.assertEqual(usage.completion_tokens, whole.usage.completion_tokens)

    def test_logprobs(self):
        answer = self.chat(logprobs=True, top_logprobs=5, max_tokens=8)
        content = answer.choices[0].logprobs.content
        self.assertEqual(len(content), answer.usage.completion_tokens - (answer.choices[0].finish_reason == "stop"))
        text = b"".join(bytes(entry.bytes) for entry in content)
        self.assertEqual(text.decode(), answer.choices[0].message.content)
        for entry in content:
            self.assertEqual(len(entry.top_logprobs), 5)
            self.assertEqual(entry.top_logprobs[0].logprob, max(top.logprob for top in entry.top_logprobs))
            self.assertAlmostEqual(entry.logprob, entry.top_logprobs[0].logprob, places=4)

    def test_several_choices(self):
        answer = self.chat(n=3, temperature=1.0, seed=5, max_tokens=12)
        self.assertEqual([choice.index for choice in answer.choices], [0, 1, 2])
        self.assertGreater(len({choice.message.content for choice in answer.choices}), 1)
        again = self.chat(n=3, temperature=1.0, seed=5, max_tokens=12)
        self.assertEqual([c.message.content for c in answer.choices], [c.message.content for c in again.choices])

    def test_stop(self):
        whole = self.chat(max_tokens=30).choices[0].message.content
        word = whole.split()[2]
        answer = self.chat(max_tokens=30, stop=[word])
        self.assertEqual(answer.choices[0].message.content, whole[: whole.index(word)])
        self.assertEqual(answer.choices[0].finish_reason, "stop")

    def test_completions_echo_and_logprobs(self):
        answer = self.client.completions.create(model=self.model, prompt="The capital of South Korea is", max_tokens=0, echo=True,
                                                logprobs=2)
        choice = answer.choices[0]
        self.assertEqual(choice.text, "The capital of South Korea is")
        self.assertEqual("".join(choice.logprobs.tokens), choice.text)
        self.assertIsNone(choice.logprobs.token_logprobs[0])
        self.assertTrue(all(value < 0 for value in choice.logprobs.token_logprobs[1:]))

    def test_completions_of_several_prompts(self):
        answer = self.client.completions.create(model=self.model, prompt=["One, two, three,", "Four, five,"], max_tokens=4,
                                                temperature=0)
        self.assertEqual([choice.index for choice in answer.choices], [0, 1])

    def test_errors_name_the_field(self):
        for fields, param in (({"temperature": 3}, "temperature"), ({"top_p": 0}, "top_p"), ({"n": 0}, "n")):
            with self.assertRaises(openai.BadRequestError) as raised:
                self.chat(**fields)
            self.assertEqual(raised.exception.param, param)
        with self.assertRaises(openai.NotFoundError):
            self.chat(model="no-such-model")


if __name__ == "__main__":
    unittest.main()

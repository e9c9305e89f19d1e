"""A scrape under load, read by the official Prometheus parser, and held against what was sent."""

import unittest

from prometheus_client.parser import text_string_to_metric_families

import default_model
from modu_server import Server


def scrape(server):
    """{(sample name, sorted labels without model_name and engine): value}"""
    status, headers, data = server.get("/metrics", port=server.admin_port)
    assert status == 200 and headers["Content-Type"].startswith("text/plain; version=0.0.4"), headers
    samples = {}
    for family in text_string_to_metric_families(data.decode()):
        assert family.documentation, family.name
        for sample in family.samples:
            labels = tuple(sorted((k, v) for k, v in sample.labels.items() if k not in ("model_name", "engine")))
            assert (sample.name, labels) not in samples, sample
            samples[sample.name, labels] = sample.value
    return samples


class Metrics(unittest.TestCase):
    def test_counters_add_up(self):
        with Server(default_model.path()) as server:
            answers = [server.post_json("/v1/completions", {"prompt": "Hello " * k, "max_tokens": 5 + k, "ignore_eos": True})
                       for k in range(1, 6)]
            refused = server.post_json("/v1/completions", {"prompt": "x", "temperature": 9})
            samples = scrape(server)
        self.assertEqual([status for status, _ in answers], [200] * 5)
        self.assertEqual(refused[0], 400)
        prompt = sum(answer["usage"]["prompt_tokens"] for _, answer in answers)
        output = sum(answer["usage"]["completion_tokens"] for _, answer in answers)
        for prefix in ("modu_", "vllm:"):
            self.assertEqual(samples[prefix + "generation_tokens_total", ()], output)
            self.assertEqual(samples[prefix + "prompt_tokens_total", ()], prompt)
            self.assertEqual(samples[prefix + "request_success_total", (("finished_reason", "length"),)], 5)
            self.assertEqual(samples[prefix + "time_to_first_token_seconds_count", ()], 5)
            self.assertEqual(samples[prefix + "num_requests_running", ()], 0)
            self.assertEqual(samples[prefix + "num_requests_waiting", ()], 0)
            self.assertGreaterEqual(samples[prefix + "kv_cache_usage_perc", ()], 0)
        ended = {labels: value for (name, labels), value in samples.items() if name == "modu_requests_ended_total"}
        self.assertEqual(samples["modu_requests_received_total", ()], sum(ended.values()))
        self.assertGreater(samples["modu_engine_heartbeat_timestamp_seconds", ()], 1.7e9)


if __name__ == "__main__":
    unittest.main()

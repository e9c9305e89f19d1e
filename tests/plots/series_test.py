"""benchmarks/plots/series.py: which figures are drawn, and where. Python's own library only."""

import os
import sys
import unittest

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..", "benchmarks", "plots"))
import series  # noqa: E402


def figures(rate, ttft, tpot):
    """As modu-loadgen writes them, and more than is read."""
    return {"output_tokens_per_s": rate, "ttft_ms": {"p50": ttft, "p99": 9e9}, "tpot_ms": {"p50": tpot}, "server_rss_mib": 1}


def point(server, streams, *rounds, prompt=128, output=128):
    return {"server": server, "streams": streams, "prompt": prompt, "output": output, "rounds": list(rounds)}


COMPARED = {"points": [
    point("b", 16, figures(100, 30, 3), figures(400, 10, 1), figures(200, 20, 2)), point("a", 16, figures(50, 5, 0.5)),
    point("b", 1, figures(10, 1, 7)), point("a", 1),  # failed in every round
    point("b", 1, figures(1, 2, 3), prompt=1500, output=8)]}


class Serving(unittest.TestCase):
    def test_medians_with_least_and_most_by_rising_streams(self):
        self.assertEqual(series.serving(COMPARED), {
            "throughput": {"b": [(1, (10, 10, 10)), (16, (200, 100, 400))], "a": [(16, (50, 50, 50))]},
            "ttft_ms": {"b": [(1, (1, 1, 1)), (16, (20, 10, 30))], "a": [(16, (5, 5, 5))]},
            "tpot_ms": {"b": [(1, (7, 7, 7)), (16, (2, 1, 3))], "a": [(16, (0.5, 0.5, 0.5))]}})

    def test_servers_keep_the_order_of_the_file(self):
        self.assertEqual(list(series.serving(COMPARED)["throughput"]), ["b", "a"])

    def test_the_prefill_point_is_not_among_the_streams(self):
        self.assertEqual(series.lengths(COMPARED), (128, 128))
        self.assertEqual(series.lengths({"points": COMPARED["points"][-1:]}), (1500, 8))


class Roofline(unittest.TestCase):
    LIMITS = series.roofline({
        "title": "t", "read_bytes_per_s": 10e9, "instruction": "i", "operations_per_s": 80e9,
        "points": [{"kernel": "head", "label": "1", "seconds": 0.5, "bytes": 1e9, "operations": 2e9},
                   {"kernel": "layers", "label": "1", "seconds": 1, "bytes": 2e9, "operations": 1e9},
                   {"kernel": "head", "label": "16", "seconds": 0.8, "bytes": 1e9, "operations": 32e9}]})

    def test_points_are_operations_a_byte_and_a_second(self):
        self.assertEqual(self.LIMITS.kernels, {"head": [("1", 2, 4e9), ("16", 32, 40e9)], "layers": [("1", 0.5, 1e9)]})

    def test_memory_limits_left_of_the_ridge_and_instructions_right_of_it(self):
        self.assertEqual([series.attainable(self.LIMITS, each) for each in (1, 8, 32)], [10e9, 80e9, 80e9])


if __name__ == "__main__":
    unittest.main()

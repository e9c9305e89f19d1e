"""benchmarks/engine/instructions: what is read from callgrind's file, and which counts are too many. Python's own library only."""

import importlib.machinery
import importlib.util
import os
import tempfile
import unittest

PATH = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..", "benchmarks", "engine", "instructions")
LOADER = importlib.machinery.SourceFileLoader("instructions", PATH)
instructions = importlib.util.module_from_spec(importlib.util.spec_from_loader("instructions", LOADER))
LOADER.exec_module(instructions)

# Calls' own cost lines, names given at a call, another binary's function of the same name.
PROFILE = """events: Ir
ob=(1) /somewhere/step_benchmark
fl=(1) a.cc
fn=(1) void modu::kernels::cpu::(anonymous namespace)::Strip<modu::kernels::W4>(int)
10 5
cob=(2) /lib/libc.so.6
cfn=(2) memset
calls=3 20
11 700
+1 6
ob=(2)
fn=(2)
20 700
ob=(1)
fn=(3) modu::Step()
* 9
"""


class Instructions(unittest.TestCase):
    def test_own_instructions_of_our_binary_only(self):
        with tempfile.NamedTemporaryFile("w", suffix=".out") as file:
            file.write(PROFILE)
            file.flush()
            self.assertEqual(instructions.own_counts(file.name, "build/step_benchmark"), {"Strip<W4>": 11, "Step": 9})

    def test_too_many_is_more_than_two_in_a_hundred(self):
        before = {"total": 1000, "functions": {"a": 500, "b": 100, "gone": 50}}
        now = {"total": 1020, "functions": {"a": 511, "b": 102, "new": 80}}
        self.assertEqual(instructions.compare(before, now), [
            ("total", 1000, 1020, False), ("a", 500, 511, True), ("b", 100, 102, False), ("new", None, 80, False),
            ("gone", 50, None, False)])

    def test_a_function_that_is_no_longer_among_the_hottest_is_compared(self):
        now = {"total": 100, "functions": {**{"f%d" % i: 50 for i in range(instructions.HOTTEST)}, "last": 10}}
        self.assertIn(("last", 5, 10, True), instructions.compare({"total": 100, "functions": {"last": 5}}, now))


if __name__ == "__main__":
    unittest.main()

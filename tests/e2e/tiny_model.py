"""A test case with a tiny model's file, made once for the class."""

import os
import tempfile
import unittest

import tiny_gguf


class TinyModel(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.folder = tempfile.TemporaryDirectory()
        cls.model = os.path.join(cls.folder.name, "tiny.gguf")
        with open(cls.model, "wb") as out:
            out.write(tiny_gguf.tiny_gguf(context=4096))

    @classmethod
    def tearDownClass(cls):
        cls.folder.cleanup()

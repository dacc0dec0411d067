#!/usr/bin/env python3
"""Traces are the same each time, have the shape that the targets name, and are not what the model was fed."""
import importlib.machinery
import importlib.util
import json
import pathlib
import unittest

HERE = pathlib.Path(__file__).resolve().parent
DATA = HERE.parents[1] / "data" / "gateway"


def load(path, name):
    loader = importlib.machinery.SourceFileLoader(name, str(path))
    module = importlib.util.module_from_spec(importlib.util.spec_from_loader(name, loader))
    loader.exec_module(module)
    return module


build = load(HERE / "build", "gateway_trace_build")


class Trace(unittest.TestCase):
    def test_is_the_same_from_the_same_seed_and_another_from_another(self):
        self.assertEqual(build.make(3), build.make(3))
        self.assertNotEqual(build.make(3), build.make(4))

    def test_has_the_exchanges_of_the_reference_session(self):
        for seed in range(1, 20):
            trace = build.make(seed)
            kinds = [exchange["kind"] for exchange in trace]
            counts = {kind: kinds.count(kind) for kind in set(kinds)}
            self.assertEqual(counts, {"login": 1, "initial_sync": 1, "send": 20, "sync": 20, "typing": 8,
                                      "receipt": 9})
            size = len(trace[1]["resp"].encode())
            self.assertTrue(17000 < size < 22000, size)

    def test_bodies_are_json_and_syncs_follow_each_other(self):
        since = None
        for exchange in build.make(5, encrypted=True):
            answer = json.loads(exchange["resp"])
            if exchange["req"] is not None:
                json.loads(exchange["req"])
            if exchange["kind"] == "sync":
                self.assertTrue(exchange["path"].endswith("since=" + since))
            since = answer.get("next_batch", since)

    def test_no_text_is_in_the_training_material(self):
        known = "\n".join(path.read_text(encoding="utf-8") for path in sorted(DATA.glob("*.[lt]*")))
        for text in build.texts.MESSAGES:
            if len(text) > 16:
                self.assertNotIn(text, known)


if __name__ == "__main__":
    unittest.main()

#!/usr/bin/env python3
"""The training set is the same each time, is JSON, and has no mark of a template left in it."""
import json
import pathlib
import subprocess
import sys
import tempfile
import unittest

BUILD = pathlib.Path(__file__).resolve().parent / "build"


def build():
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run([sys.executable, BUILD, folder], check=True)
        files = [pathlib.Path(folder) / name for name in ("bodies.jsonl", "sessions.json")]
        return [path.read_text(encoding="utf-8") for path in files]


def keys_of(value):
    if isinstance(value, dict):
        for key, member in value.items():
            yield key
            yield from keys_of(member)
    elif isinstance(value, list):
        for member in value:
            yield from keys_of(member)


class Corpus(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.bodies, cls.sessions = build()
        cls.records = [json.loads(line) for line in cls.bodies.splitlines()]

    def test_is_the_same_when_built_again(self):
        self.assertEqual([self.bodies, self.sessions], build())

    def test_bodies_are_json_without_marks(self):
        for record in self.records:
            with self.subTest(family=record["family"]):
                value = json.loads(record["body"])
                self.assertNotIn("`", record["body"])
                self.assertFalse([key for key in keys_of(value) if key.endswith("?")])

    def test_first_bodies_are_one_of_each_family(self):
        families = [record["family"] for record in self.records]
        kinds = len(set(families))
        self.assertEqual(kinds, len(set(families[:kinds])))

    def test_sessions_have_requests_and_answers(self):
        for session in json.loads(self.sessions):
            for exchange in session:
                self.assertIn(exchange["method"], ("GET", "PUT", "POST", "DELETE", "PATCH"))
                self.assertTrue(exchange["path"].startswith("/"), exchange["path"])
                self.assertGreaterEqual(exchange["status"], 200)
                json.loads(exchange["resp"])


if __name__ == "__main__":
    unittest.main()

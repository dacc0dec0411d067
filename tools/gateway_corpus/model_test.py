#!/usr/bin/env python3
"""data/gateway/model.bin is what the training set of this tree makes, byte for byte.

usage: model_test.py RAVINE
"""
import hashlib
import pathlib
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parents[2]


def main():
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        subprocess.run([sys.executable, ROOT / "tools/gateway_corpus/build", folder], check=True)
        made = folder / "model.bin"
        files = [folder / "bodies.jsonl", folder / "sessions.json"]
        subprocess.run([sys.argv[1], "gateway", "train", "--in", *files, "--out", made], check=True)
        hashes = [
            hashlib.sha256(path.read_bytes()).hexdigest() for path in (made, ROOT / "data/gateway/model.bin")
        ]
    print("made %s, shipped %s" % tuple(hashes))
    if hashes[0] != hashes[1]:
        sys.exit(
            "the shipped model is not what data/gateway makes: train again and commit the file, with "
            "tools/gateway_corpus/build FOLDER and ravine gateway train (data/gateway/README.md)"
        )


if __name__ == "__main__":
    main()

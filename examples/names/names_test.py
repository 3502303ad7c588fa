#!/usr/bin/env python3
"""names_train learns; resumed it goes on as if it had never stopped; replicas of shards go on from what whole models saved.

  names_test.py build/dev/examples/names/names_train
"""
import re
import subprocess
import sys
import tempfile
from pathlib import Path

NAMES = ["--names", "6000"]


def train(program, *words):
    """Its lines: {epoch: (loss, accuracy)}, as printed."""
    done = subprocess.run([program, *NAMES, *words], capture_output=True, text=True, timeout=200, check=False)
    if done.returncode:
        raise SystemExit(f"exit code {done.returncode}: {done.stderr}")
    return {int(epoch): (loss, accuracy) for epoch, loss, accuracy in re.findall(r"^epoch=(\d+) loss=(\S+) accuracy=(\S+)", done.stdout, re.M)}


def main():
    program = sys.argv[1]
    if not list(Path("/usr/share/perl").glob("*/unicore/Name.pl")):
        print("skipped: no table of Unicode here")
        return 77
    with tempfile.TemporaryDirectory() as scratch:
        whole = train(program, "--ranks", "2", "--epochs", "3")
        saving = ["--ranks", "2", "--dir", scratch]
        first = train(program, *saving, "--epochs", "2")
        second = train(program, *saving, "--epochs", "3")
        hybrid = train(program, "--ranks", "4", "--shards", "2", "--dir", scratch, "--epochs", "4")
    assert sorted(whole) == [1, 2, 3] and sorted(first) == [1, 2] and sorted(second) == [3] and sorted(hybrid) == [4], (whole, first, second, hybrid)
    assert {**first, **second} == whole, f"resumed {first} {second}, never stopped {whole}"
    assert float(whole[3][0]) < float(whole[1][0]) / 2, whole
    assert float(whole[3][1]) > 0.8, whole
    assert float(hybrid[4][0]) < float(whole[1][0]) / 2 and float(hybrid[4][1]) > 0.8, hybrid
    print(f"2 ranks {whole}; 2 replicas of 2 shards go on: {hybrid}")
    return 0


if __name__ == "__main__":
    sys.exit(main())

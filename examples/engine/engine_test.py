#!/usr/bin/env python3
"""Writes a perceptron of sizes that three ranks do not divide, as safetensors and, converted, as a DCP directory of two files, and holds
the engine's output on 1 and on 3 ranks against each other; each of the three may read its slice and a little more.

Usage: engine_test.py ENGINE TESSERA
"""
import json
import random
import struct
import subprocess
import sys
import tempfile
from pathlib import Path

SIZES = {"up.weight": [1001, 257], "up.bias": [1001], "down.weight": [31, 1001]}


def write_safetensors(path):
    r = random.Random(7)
    header, blob = {}, b""
    for key, shape in SIZES.items():
        count = shape[0] * (shape[1] if len(shape) > 1 else 1)
        data = struct.pack(f"<{count}f", *(r.gauss(0, 0.05) for _ in range(count)))
        header[key] = {"dtype": "F32", "shape": shape, "data_offsets": [len(blob), len(blob) + len(data)]}
        blob += data
    text = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + blob)
    return len(blob)


def run(*command):
    done = subprocess.run([str(c) for c in command], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        sys.exit(f"FAILED {command}: {done.stderr}")
    lines = done.stdout.split("\n")
    return [float(line) for line in lines if line and not line.startswith("read")], [int(line.split()[1]) for line in lines if line.startswith("read")]


def main():
    engine, tessera = sys.argv[1:]
    with tempfile.TemporaryDirectory() as scratch:
        one = Path(scratch) / "mlp.safetensors"
        total = write_safetensors(one)
        subprocess.run([tessera, "convert", one, Path(scratch) / "sharded", "--ranks", "2"], check=True, stdout=subprocess.DEVNULL)
        expected, _ = run(engine, one, "--ranks", "1")
        for path in (one, Path(scratch) / "sharded"):
            output, read = run(engine, path)
            worst = max(abs(a - b) for a, b in zip(expected, output, strict=True)) / max(map(abs, expected))
            if worst > 1e-5 or len(read) != 3:
                sys.exit(f"FAILED {path.name}: outputs differ by {worst}")
            # Short columns are read with the gaps between them, which saves a system call for each row.
            if max(read) > 0.45 * total or sum(read) > 1.25 * total:
                sys.exit(f"FAILED {path.name}: ranks read {read} of {total} bytes")
            print(f"ok     {path.name}: worst relative difference {worst:.1e}, ranks read {read} of {total} bytes")


if __name__ == "__main__":
    main()

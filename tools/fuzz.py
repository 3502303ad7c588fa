#!/usr/bin/env python3
"""The fuzz targets and their corpora. Python's standard library only.

  fuzz.py run [TARGET…]        run each target for --seconds, from its corpus and what earlier runs found; one line a target.
                               Exit code 1 where there is a finding: its input is in build/fuzz/findings
  fuzz.py minimize [TARGET…]   make fuzz/corpus/TARGET anew: the smallest inputs among corpus, finds and seeds that together cover all
  fuzz.py seeds DIRECTORY      only cut the seeds out of tests/golden/data, into DIRECTORY/TARGET

Build first: cmake --preset fuzz && cmake --build --preset fuzz (clang-19 and libclang-rt-19-dev).
"""
import argparse
import concurrent.futures
import hashlib
import io
import json
import pickle
import re
import shutil
import struct
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
GOLDEN = ROOT / "tests" / "golden" / "data"
CORPUS = ROOT / "fuzz" / "corpus"
MOST_CORPUS_BYTES = 200 << 10
MOST_INPUT_BYTES = 8 << 10
LIMITS = ["-rss_limit_mb=2048", "-malloc_limit_mb=256", "-timeout=10", f"-max_len={MOST_INPUT_BYTES}"]


def targets():
    lines = (ROOT / "fuzz" / "CMakeLists.txt").read_text(encoding="utf-8")
    return re.findall(r"^tessera_fuzz_target\((\w+)", lines, re.MULTILINE)


# ---- Seeds: what stock PyTorch and we wrote, cut to what each target takes.


def items(node):
    """(file, offset, length) of every item that a decoded.json names."""
    if isinstance(node, dict):
        if {"relative_path", "offset", "length"} <= node.keys():
            yield node["relative_path"], node["offset"], node["length"]
        else:
            for value in node.values():
                yield from items(value)
    elif isinstance(node, list):
        for value in node:
            yield from items(value)


def zips_in(data):
    """The archives that stand one after another in a .distcp, found by their end records."""
    begin = 0
    for end in re.finditer(rb"PK\x05\x06.{16}\x00\x00", data, re.DOTALL):
        yield data[begin:end.end()]
        begin = end.end()


def message_seeds():
    text = lambda s: struct.pack("<Q", len(s)) + s
    message = lambda kind, first, second, words, rest: struct.pack("<BQQ", kind, first, second) + text(words) + rest
    yield message(0, 1, 2, b"tessera comm 1", b"")
    yield message(4, 7, 0, b"write __0_0.distcp", b"")
    parts = [message(2, 8, 0, b"plan", b"abcd"), message(2, 8, 4, b"plan", b"efgh"), message(2, 0, 0, b"barrier", b"")]
    yield b"".join(text(part) for part in parts)
    yield struct.pack("<BqiiBi", 7, 1024, 28, 3, 4, 511) + text(b"write") + text(b"__3_0.distcp") + text(b"hint")
    tensor = lambda sizes, boxes: (b"\0" + b"\1" + struct.pack(f"<Q{len(sizes)}q", len(sizes), *sizes) + struct.pack("<Q", len(boxes)) +
                                   b"".join(struct.pack(f"<{len(box)}q", *box) for box in boxes))
    yield (struct.pack("<Q", 3) + text(b"model.w") + struct.pack("<I", 0) + tensor([4, 3], [[0, 0, 2, 3], [2, 0, 2, 3]]) +
           text(b"n.0") + struct.pack("<IB", 2, 0) + text(b"n") + struct.pack("<Bq", 1, 0) + b"\1" + struct.pack("<q", 900) + bytes(16) +
           text(b"s") + struct.pack("<I", 0) + tensor([], [[]]))
    yield text(b"__0_0.distcp") + struct.pack("<qQ", 1600, 1) + text(b"w") + struct.pack("<iq", 0, 1600)
    yield text(b"__0_0.distcp") + struct.pack("<qQII", 1600, 2, 1, 2)
    digests = bytes(range(32))
    yield b"\0" + digests + b"\1" + digests[:16]
    yield (b"\0" + digests + b"\0\1" + digests[:16] + struct.pack("<Q", 1) + text(b"stream.rank0") + struct.pack("<IB", 0, 1) +
           struct.pack("<q", 900) + bytes(16))
    yield b"\2" + text(b"0123456789abcdef" * 2) + struct.pack("<q", 1600) + digests[:16]
    yield b"\0" + text(b"") + struct.pack("<q", 0) + bytes(16)


def sidecar_seeds():
    """Of version 1, without the digest at their end, which the target puts there; and an index alone. Golden ones are of both versions."""
    text = lambda s: struct.pack("<Q", len(s)) + s
    head = b"\x89tessera\r\n\x1a\n\0\0\0\0" + struct.pack("<Iq", 1, 1 << 20) + text(b"0123456789abcdef" * 2) + struct.pack("<q", 900) + bytes(16)
    files = [text(b"__0_0.distcp") + struct.pack("<q", 1600) + bytes(range(16)), text(b"__1_0.distcp") + struct.pack("<q", (1 << 20) + 1) + bytes(32)]
    yield head + struct.pack("<Q", len(files)) + b"".join(files) + struct.pack("<Q", 1) + text(b"loss") + struct.pack("<d", 2.5)
    yield head + struct.pack("<QQ", 0, 0)
    records = b"\x01w\x02\x00\x01w\x01\x02\x01\x07float32\x02\x04\x03\x02" + b"\x00\x00\x02\x03\x00\x00\xdc\x0b\x00" + b"\x02\x00\x02\x03\x01\xdc\x0b\xdc\x0b\x00"
    yield struct.pack("<QQQ", 1, 0, len(records)) + records


def seeds():
    """(target, bytes)"""
    for path in sorted(p for p in GOLDEN.rglob("*") if p.is_file() and p.name != "expected.safetensors"):
        data = path.read_bytes()
        if path.name.endswith(".metadata"):
            yield "metadata", data
            yield "pickle", data
        elif path.name == ".tessera":
            yield "sidecar", data
        elif path.suffix == ".distcp":
            for archive in zips_in(data):
                yield "item", archive
                yield "zip", archive
                try:
                    with zipfile.ZipFile(io.BytesIO(archive)) as names:
                        yield from (("pickle", names.read(n)) for n in names.namelist() if n.endswith("/data.pkl"))
                except (zipfile.BadZipFile, NotImplementedError, OSError, EOFError, ValueError, KeyError):
                    pass  # a damaged one: it is a seed itself
            for frame in data.split(b"\x28\xb5\x2f\xfd")[1:]:
                yield "zstd", b"\x28\xb5\x2f\xfd" + frame
        elif path.suffix == ".safetensors":
            yield "safetensors", data
        elif path.name.endswith(".index.json"):
            yield "safetensors_index", data
        elif path.suffix == ".pt":
            yield "torch_file", data
        elif path.name == "decoded.json":
            for file, offset, length in items(json.loads(data)):
                item = path.parent / "ckpt" / file
                if item.is_file():
                    yield "item", item.read_bytes()[offset:offset + length]
    yield "safetensors_index", b'{"metadata": {"total_size": 48}, "weight_map": {"w": "a", "v": "b"}}'
    # A state dict of plain values and nothing else is a torch.save file, too.
    for protocol in (2, 4):
        archive = io.BytesIO()
        with zipfile.ZipFile(archive, "w") as out:
            out.writestr("m/data.pkl", pickle.dumps({"a": 1, "b": [1.5, None, {"c": (True, b"x")}], 3: "text", "big": 1 << 80}, protocol))
            out.writestr("m/version", "3\n")
        yield "torch_file", archive.getvalue()
        yield "zip", archive.getvalue()
        yield "pickle", pickle.dumps({"a": {1, 2}, "c": 1j, "d": bytearray(b"x"), "e": [frozenset("x")] * 2}, protocol)
    yield from (("messages", seed) for seed in message_seeds())
    yield from (("sidecar", seed) for seed in sidecar_seeds())
    yield "reshard", bytes(range(1, 65))
    yield "reshard", bytes(7 * i % 251 for i in range(128))


def write_seeds(folder):
    for target, data in seeds():
        if len(data) > MOST_INPUT_BYTES:
            continue
        path = folder / target / name_of(data)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)


def name_of(data):
    return hashlib.sha256(data).hexdigest()[:16]


# ---- Runs


def last_number(pattern, text):
    found = re.findall(pattern, text)
    return int(found[-1]) if found else 0


def run_target(target, build, seconds, folder_of_seeds):
    finds = build / "finds" / target
    findings = build / "findings" / target
    finds.mkdir(parents=True, exist_ok=True)
    findings.mkdir(parents=True, exist_ok=True)
    before = set(findings.iterdir())
    corpora = [d for d in (finds, CORPUS / target, folder_of_seeds / target) if d.is_dir()]
    command = [build / "fuzz" / f"fuzz_{target}", f"-max_total_time={seconds}", "-print_final_stats=1", f"-artifact_prefix={findings}/",
               *LIMITS, *corpora]
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True, errors="replace", check=False)
    (build / "findings" / f"{target}.log").write_text(done.stderr, encoding="utf-8")
    new = sorted(set(findings.iterdir()) - before)
    return {
        "target": target,
        "execs": last_number(r"number_of_executed_units:\s+(\d+)", done.stderr),
        "coverage": last_number(r"cov: (\d+)", done.stderr),
        "features": last_number(r"ft: (\d+)", done.stderr),
        "findings": max(len(new), int(done.returncode != 0)),
        "where": [str(path.relative_to(ROOT)) for path in new] or ([f"see {target}.log"] if done.returncode else []),
    }


def run(arguments):
    failed = False
    with tempfile.TemporaryDirectory() as temporary:
        write_seeds(Path(temporary))
        with concurrent.futures.ThreadPoolExecutor(arguments.jobs) as pool:
            work = [pool.submit(run_target, t, arguments.build, arguments.seconds, Path(temporary)) for t in arguments.targets]
            for done in work:
                result = done.result()
                failed |= result["findings"] > 0
                print("fuzz target={target} execs={execs} coverage={coverage} features={features} findings={findings}".format(**result),
                      *result["where"], flush=True)
    return 1 if failed else 0


def minimize_target(target, build, folder_of_seeds):
    with tempfile.TemporaryDirectory() as temporary:
        merged = Path(temporary)
        corpora = [d for d in (CORPUS / target, build / "finds" / target, folder_of_seeds / target) if d.is_dir()]
        command = [build / "fuzz" / f"fuzz_{target}", "-merge=1", *LIMITS, merged, *corpora]
        subprocess.run(list(map(str, command)), capture_output=True, check=True)
        # Inputs that once were findings stay, whatever they cover.
        kept = {path.read_bytes() for path in (CORPUS / target).glob("found-*")}
        total = sum(map(len, kept))
        for path in sorted(merged.iterdir(), key=lambda path: (path.stat().st_size, path.name)):
            data = path.read_bytes()
            if data not in kept and total + len(data) <= MOST_CORPUS_BYTES:
                kept.add(data)
                total += len(data)
        found = {path.read_bytes(): path.name for path in (CORPUS / target).glob("found-*")}
        shutil.rmtree(CORPUS / target, ignore_errors=True)
        (CORPUS / target).mkdir(parents=True)
        for data in kept:
            (CORPUS / target / found.get(data, name_of(data))).write_bytes(data)
    print(f"fuzz target={target} inputs={len(kept)} bytes={total}", flush=True)


def minimize(arguments):
    with tempfile.TemporaryDirectory() as temporary:
        write_seeds(Path(temporary))
        with concurrent.futures.ThreadPoolExecutor(arguments.jobs) as pool:
            for done in [pool.submit(minimize_target, t, arguments.build, Path(temporary)) for t in arguments.targets]:
                done.result()
    return 0


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("verb", choices=["run", "minimize", "seeds"])
    parser.add_argument("targets", nargs="*", metavar="TARGET")
    parser.add_argument("--build", type=Path, default=ROOT / "build" / "fuzz")
    parser.add_argument("--seconds", type=int, default=60)
    parser.add_argument("--jobs", type=int, default=2)
    arguments = parser.parse_intermixed_args()
    if arguments.verb == "seeds":
        write_seeds(Path(arguments.targets[0]))
        return 0
    unknown = set(arguments.targets) - set(targets())
    if unknown:
        parser.error(f"no such target: {', '.join(sorted(unknown))}")
    arguments.targets = arguments.targets or targets()
    return run(arguments) if arguments.verb == "run" else minimize(arguments)


if __name__ == "__main__":
    sys.exit(main())

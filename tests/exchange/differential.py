#!/usr/bin/env python3
"""Generated pickles, zips and safetensors files, sound ones and mutated ones, read by us and by CPython, zipfile and the safetensors package.

What we accept they must accept and read alike. What we refuse and they accept is counted and shown by reason: that is allowed.

Usage: differential.py --judge build/dev/tests/exchange/judge [--cases 10000] [--seed N]      the seed replays a run
"""
import argparse
import collections
import io
import json
import pickle
import random
import resource
import struct
import subprocess
import sys
import warnings
import zipfile

warnings.simplefilter("ignore")


# ---- Values as typed JSON, as `tessera ls --json` has them

class Refused(Exception):
    pass


def typed(v):
    if v is None:
        return {"t": "none"}
    if isinstance(v, bool):
        return {"t": "bool", "v": str(v)}
    if isinstance(v, int):
        return {"t": "int", "v": str(v)}
    if isinstance(v, float):
        return {"t": "float", "hex": v.hex()}
    if isinstance(v, str):
        return {"t": "str", "v": v}
    if isinstance(v, bytes):
        return {"t": "bytes", "hex": v.hex()}
    if isinstance(v, bytearray):
        return {"t": "bytearray", "hex": bytes(v).hex()}
    if isinstance(v, complex):
        return {"t": "complex", "re": v.real.hex(), "im": v.imag.hex()}
    if isinstance(v, collections.OrderedDict):
        return {"t": "OrderedDict", "v": [[typed(a), typed(b)] for a, b in v.items()]}
    if isinstance(v, dict):
        return {"t": "dict", "v": [[typed(a), typed(b)] for a, b in v.items()]}
    if isinstance(v, (list, tuple)):
        return {"t": type(v).__name__, "v": [typed(a) for a in v]}
    if isinstance(v, (set, frozenset)):
        return {"t": type(v).__name__, "v": sorted((typed(a) for a in v), key=json.dumps)}
    raise Refused(f"a {type(v).__name__}")


def normal(j):
    """What of our typed JSON is compared."""
    if not isinstance(j, dict):
        return j
    t = j["t"]
    if t in ("float", "complex"):
        out = {k: v for k, v in j.items() if k != "v"}
        return out
    if t in ("list", "tuple"):
        return {"t": t, "v": [normal(a) for a in j["v"]]}
    if t in ("set", "frozenset"):
        return {"t": t, "v": sorted((normal(a) for a in j["v"]), key=json.dumps)}
    if t in ("dict", "OrderedDict"):
        return {"t": t, "v": [[normal(a), normal(b)] for a, b in j["v"]]}
    if t == "bool":
        return {"t": t, "v": str(j["v"])}
    if t == "none":
        return {"t": t}
    return j


ALLOWED = {("builtins", n) for n in ("complex", "set", "frozenset", "bytearray", "bytes")} | {("_codecs", "encode"), ("collections", "OrderedDict")}


class Unpickler(pickle.Unpickler):
    def find_class(self, module, name):
        module = {"__builtin__": "builtins"}.get(module, module)
        if (module, name) not in ALLOWED:
            raise Refused(f"{module} {name}")
        return super().find_class(module, name)


def read_pickle(data):
    stream = io.BytesIO(data)
    value = Unpickler(stream).load()
    if stream.tell() != len(data):
        raise Refused("bytes after the end")
    return typed(value)


def read_zip(data):
    with zipfile.ZipFile(io.BytesIO(data)) as z:
        return [[i.filename, z.read(i).hex()] for i in z.infolist()]


DTYPES = {"BOOL": "bool", "U8": "uint8", "I8": "int8", "I16": "int16", "F16": "float16", "BF16": "bfloat16", "I32": "int32", "F32": "float32",
          "F64": "float64", "I64": "int64", "U16": "uint16", "U32": "uint32", "U64": "uint64", "C64": "complex64", "F8_E4M3": "float8_e4m3fn",
          "F8_E5M2": "float8_e5m2", "F8_E8M0": "float8_e8m0fnu", "F8_E4M3FNUZ": "float8_e4m3fnuz", "F8_E5M2FNUZ": "float8_e5m2fnuz"}


def read_safetensors(data):
    from safetensors import deserialize

    out = {}
    for name, t in deserialize(data):
        dtype, shape = DTYPES.get(t["dtype"], t["dtype"]), list(t["shape"])
        if dtype == "F4":  # two values a byte; ours counts bytes, as torch's dtype does
            dtype, shape = "float4_e2m1fn_x2", shape[:-1] + [shape[-1] // 2] if shape else None
        out[name] = [dtype, shape, bytes(t["data"]).hex()]
    return out


# ---- Generators

def value(r, depth=0, hashable=False):
    kinds = ["none", "bool", "int", "float", "str", "bytes", "complex", "tuple", "frozenset"]
    if not hashable:
        kinds += ["list", "dict", "odict", "set", "bytearray"]
    kind = r.choice(kinds if depth < 3 else kinds[:7])
    some = lambda h: [value(r, depth + 1, h) for _ in range(r.randrange(4))]
    return {
        "none": lambda: None, "bool": lambda: r.random() < 0.5,
        "int": lambda: r.choice([r.randrange(-5, 300), r.getrandbits(r.randrange(1, 90)), -r.getrandbits(40)]),
        "float": lambda: r.choice([0.0, -0.0, 1.5, float("inf"), float("nan"), r.random()]),
        "str": lambda: "".join(r.choice("ab.é\u20ac\U0001f600\0\ud800") for _ in range(r.randrange(6))),
        "bytes": lambda: r.randbytes(r.randrange(5)), "complex": lambda: complex(r.random(), -1.0),
        "bytearray": lambda: bytearray(r.randbytes(r.randrange(5))), "tuple": lambda: tuple(some(hashable)), "list": lambda: some(False),
        "frozenset": lambda: frozenset(some(True)), "set": lambda: set(some(True)),
        "dict": lambda: {value(r, depth + 1, True): value(r, depth + 1) for _ in range(r.randrange(4))},
        "odict": lambda: collections.OrderedDict((value(r, depth + 1, True), value(r, depth + 1)) for _ in range(r.randrange(3))),
    }[kind]()


def make_pickle(r):
    return pickle.dumps(value(r), protocol=r.choice([2, 2, 3, 4, 4, 5]))


def make_zip(r):
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_STORED) as z:
        for i in range(r.randrange(1, 4)):
            info = zipfile.ZipInfo(f"archive/{r.choice(['data.pkl', 'version', f'data/{i}', 'é'])}{'' if r.random() < 0.9 else i}")
            with z.open(info, "w", force_zip64=r.random() < 0.2) as f:
                f.write(r.randbytes(r.randrange(40)))
    return out.getvalue()


def make_safetensors(r):
    header, at, blob = {}, 0, b""
    if r.random() < 0.3:
        header["__metadata__"] = {"format": "pt"}
    for i in range(r.randrange(4)):
        dtype, each = r.choice([("F32", 4), ("BF16", 2), ("I64", 8), ("BOOL", 1), ("U8", 1), ("F8_E4M3", 1), ("F4", 0.5), ("C64", 8)])
        shape = [r.randrange(4) for _ in range(r.randrange(4))]
        if dtype == "F4":
            shape = [2 * s for s in shape] or [2]
        n = 1
        for s in shape:
            n *= s
        end = at + int(n * each)
        header[r.choice(["a", "b.c", "é", "x" * 30]) + str(i)] = {"dtype": dtype, "shape": shape, "data_offsets": [at, end]}
        blob += r.randbytes(end - at)
        at = end
    text = json.dumps(header, ensure_ascii=r.random() < 0.5, separators=r.choice([(",", ":"), (", ", ": ")])).encode()
    text += b" " * r.randrange(9)
    return struct.pack("<Q", len(text)) + text + blob


def mutate(r, data):
    data = bytearray(data)
    for _ in range(r.choice([1, 1, 1, 2, 4])):
        if not data:
            break
        at = r.randrange(len(data))
        what = r.randrange(6)
        if what == 0:
            data[at] ^= 1 << r.randrange(8)
        elif what == 1:
            data[at] = r.choice(b"().0123tseaubRqQ}]{[\",:\x00\xff\x80\x85\x86\x94")
        elif what == 2:
            del data[at : at + r.randrange(1, 5)]
        elif what == 3:
            data[at:at] = data[r.randrange(len(data)) :][: r.randrange(1, 12)]
        elif what == 4:
            data[at:at] = r.randbytes(r.randrange(1, 4))
        else:
            del data[at:]
    return bytes(data)


MAKERS = {"p": (make_pickle, read_pickle), "z": (make_zip, read_zip), "s": (make_safetensors, read_safetensors)}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--judge", required=True)
    parser.add_argument("--cases", type=int, default=10000, help="of each kind")
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(1 << 32))
    options = parser.parse_args()
    print(f"seed {options.seed}", flush=True)
    resource.setrlimit(resource.RLIMIT_AS, (8 << 30, 8 << 30))
    r = random.Random(options.seed)
    bad = 0
    for kind, (make, theirs) in MAKERS.items():
        cases = []
        for _ in range(options.cases):
            data = make(r)
            cases.append(mutate(r, data) if r.random() < 0.75 else data)
        stream = b"".join(kind.encode() + struct.pack("<I", len(c)) + c for c in cases)
        done = subprocess.run([options.judge], input=stream, capture_output=True, timeout=600, check=False)
        lines = done.stdout.decode().splitlines()
        if done.returncode != 0 or len(lines) != len(cases):
            print(f"FAILED {kind}: the judge ended with {done.returncode} after {len(lines)} cases: {done.stderr.decode(errors='replace')[-2000:]}")
            bad += 1
            continue
        counts = collections.Counter()
        for case, line in zip(cases, lines):
            try:
                expected = theirs(case)
            except MemoryError:  # CPython's memo is an array: an index of 2^30 asks for 8 GiB, and ours is a map
                counts["they ran out of memory"] += 1
                continue
            except Exception as failure:  # whatever another parser throws
                expected = failure
            if line.startswith("refused"):
                counts["both refuse" if isinstance(expected, Exception) else "we refuse, they accept"] += 1
                continue
            got = json.loads(line.removeprefix("accepted "))
            got = normal(got) if kind == "p" else got
            if isinstance(expected, Exception):
                why = f"they refuse: {type(expected).__name__} {expected}"[:200]
            elif got == expected:
                counts["both accept, alike"] += 1
                continue
            else:
                why = f"they read {json.dumps(expected)[:300]}"
            bad += 1
            counts["DIFFER"] += 1
            if counts["DIFFER"] <= 5:
                print(f"DIFFER {kind} {case.hex()[:600]}\n  we read {line[9:309]}\n  {why}")
        print(f"{kind}: " + ", ".join(f"{n} {what}" for what, n in sorted(counts.items())), flush=True)
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())

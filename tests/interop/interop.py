#!/usr/bin/env python3
"""tessera and stock PyTorch read each other's checkpoints, bit for bit. Prints one line a case; exit code 0 if all are equal.

  interop.py --seed-rank build/dev/tests/seed/seed_rank [--only PATTERN]
"""
import argparse
import fnmatch
import subprocess
import sys
import tempfile
from pathlib import Path

import stock

STOCK = [sys.executable, str(Path(__file__).with_name("stock.py"))]


def cases():
    """(name, writer's arguments, [(reader's name, reader's arguments)…]); the writer's first word says who."""
    for model in ("skip", "uneven"):
        for kind in ("sharded", "full"):
            readers = [("plain", ["stock", "--wrap", "plain"]), ("fsdp1", ["stock", "--wrap", "fsdp1"]), ("fsdp2", ["stock", "--wrap", "fsdp2"]),
                       ("torch_save", ["stock", "--wrap", "torch_save"])]
            if model == "uneven":  # stock's FSDP cannot shard a scalar parameter: FSDP2 refuses it, FSDP1 flattens it without a name of its own
                readers = [readers[0], readers[3]]
            yield f"ours_{model}_{kind}", ["ours", "--model", model, "--kind", kind], readers
    yield "ours_gpt_adamw", ["ours", "--model", "gpt", "--optim", "--steps", "3"], [
        ("plain", ["stock", "--wrap", "plain"]), ("fsdp1", ["stock", "--wrap", "fsdp1"]), ("fsdp2", ["stock", "--wrap", "fsdp2"]),
        ("torch_save", ["stock", "--wrap", "torch_save"])]
    for rule in ("adam", "sgd", "adagrad"):
        yield f"ours_gpt_{rule}", ["ours", "--model", "gpt", "--optim", "--rule", rule, "--steps", "3"], [
            ("plain", ["stock", "--wrap", "plain"]), ("fsdp2", ["stock", "--wrap", "fsdp2"])]
        yield f"fsdp2_gpt_{rule}", ["stock", "--wrap", "fsdp2", "--optim", "--rule", rule, "--model", "gpt"], [("on_3", ["ours", "--ranks", "3"])]
    yield "ours_skip_local", ["ours", "--kind", "local"], [("fsdp1_no_grad", ["stock", "--wrap", "fsdp1"])]
    yield "ours_skip_local_element", ["ours", "--kind", "local", "--alignment-bytes", "1"], [("fsdp1", ["stock", "--wrap", "fsdp1", "--element"])]
    for kind in ("sharded", "full", "local"):
        yield f"fsdp1_{kind}", ["stock", "--wrap", "fsdp1", "--kind", kind], [(f"on_{n}", ["ours", "--ranks", str(n)]) for n in (1, 2, 3)]
    yield "fsdp2", ["stock", "--wrap", "fsdp2"], [(f"on_{n}", ["ours", "--ranks", str(n)]) for n in (1, 2, 3)]
    for wrap in ("fsdp1", "fsdp2"):
        yield f"{wrap}_adamw", ["stock", "--wrap", wrap, "--optim"], [(f"on_{n}", ["ours", "--ranks", str(n)]) for n in (1, 2, 3)]
    yield "fsdp2_gpt_adamw", ["stock", "--wrap", "fsdp2", "--optim", "--model", "gpt"], [(f"on_{n}", ["ours", "--ranks", str(n)]) for n in (1, 2, 3)]


def command(words, verb, directory, values, seed_rank, shared):
    who, *rest = words
    for option in ("--model", "--kind", "--rule"):
        if option in shared and option not in rest:
            rest += [option, shared[shared.index(option) + 1]]
    if "--optim" in shared and "--optim" not in rest:
        rest.append("--optim")
    if who == "stock":
        return [*STOCK, verb, directory, values, *rest]
    seed = ["--seed", "100" if verb == "save" else "200"]
    ranks = [] if "--ranks" in rest else ["--ranks", "2"]
    return [seed_rank, verb, directory, values, *rest, *seed, *ranks]


def run(words):
    if words[:len(STOCK)] == STOCK:
        return stock.forked(words[len(STOCK):])
    return subprocess.run(words, capture_output=True, text=True, timeout=300, check=False)


def without_sidecar(seed_rank):
    """A copy that lost the hidden `.tessera` on its way: stock, which knows no sidecar, loads it; tessera refuses it by name."""
    with tempfile.TemporaryDirectory() as scratch:
        place = (f"{scratch}/checkpoint", f"{scratch}/values")
        shared = ["ours", "--model", "skip", "--kind", "sharded"]
        attempt = lambda words, verb: run(command(words, verb, *place, seed_rank, shared))
        saved = attempt(shared, "save")
        sidecar = Path(place[0], ".tessera")
        if saved.returncode or not sidecar.is_file():
            return f"no sidecar was saved: {saved.stderr}"
        sidecar.unlink()
        if (theirs := attempt(["stock", "--wrap", "plain"], "load")).returncode:
            return f"stock failed: {theirs.stdout}{theirs.stderr}"
        ours = attempt(["ours"], "load")
        said = ours.stdout + ours.stderr
        return None if ours.returncode and ".tessera" in said else f"tessera did not refuse it by name: {said}"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed-rank", required=True)
    parser.add_argument("--only", default="*")
    args = parser.parse_args()
    failed = 0
    for name, writer, readers in cases():
        if not fnmatch.fnmatch(name, args.only):
            continue
        with tempfile.TemporaryDirectory() as scratch:
            place = (f"{scratch}/checkpoint", f"{scratch}/values")
            runs = [(name, command(writer, "save", *place, args.seed_rank, writer))]
            runs += [(f"{name} → {to}", command(reader, "load", *place, args.seed_rank, writer)) for to, reader in readers]
            for label, words in runs:
                done = run(words)
                good = done.returncode == 0
                failed += not good
                print(f"{'ok    ' if good else 'FAILED'} {label}", flush=True)
                if not good:
                    print(" ".join(words) + "\n" + done.stdout[-2000:] + done.stderr[-3000:], flush=True)
                    if label == name:
                        break
    if fnmatch.fnmatch("without_sidecar", args.only):
        wrong = without_sidecar(args.seed_rank)
        failed += wrong is not None
        print(f"FAILED without_sidecar: {wrong}" if wrong else "ok     without_sidecar: stock loads the copy, tessera refuses it", flush=True)
    print("all equal" if not failed else f"{failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())

#!/usr/bin/env python3
"""The seed with ranks that are processes over Gloo: N save, M load, every kind; each case's scratch directory is gone afterwards.

  processes.py --launch build/dev/tests/support/launch/tessera-launch --seed-rank build/dev/tests/seed/seed_rank [--torchrun torchrun]
With --torchrun one more pair of runs goes through PyTorch's own launcher.
"""
import argparse
import subprocess
import sys
import tempfile

PAIRS = [(2, 2), (2, 3), (2, 1), (3, 2)]


def run(words):
    done = subprocess.run(words, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=300, check=False)
    return done.returncode, done.stdout


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--launch", required=True)
    parser.add_argument("--seed-rank", required=True)
    parser.add_argument("--torchrun")
    args = parser.parse_args()
    small = lambda ranks: [args.launch, "--ranks", str(ranks), "--deadline", "120", "--"]
    stock = lambda ranks: [args.torchrun, "--no-python", "--nproc-per-node", str(ranks), "--master-port", "0", "--rdzv-backend", "c10d", "--rdzv-endpoint", "127.0.0.1:0"]
    cases = [(small, model, kind, pair) for model in ("skip", "uneven") for kind in ("local", "sharded", "full") for pair in PAIRS]
    if args.torchrun:
        cases.append((stock, "uneven", "sharded", (2, 3)))
    failed = 0
    for launcher, model, kind, (n, m) in cases:
        with tempfile.TemporaryDirectory() as scratch:
            place = [f"{scratch}/checkpoint", f"{scratch}/values", "--model", model, "--kind", kind]
            code, text = run([*launcher(n), args.seed_rank, "save", *place, "--seed", "100"])
            if code == 0:
                code, text = run([*launcher(m), args.seed_rank, "load", *place, "--seed", "200"])
            good = code == 0 and f"on {m} ranks" in text
        failed += not good
        print(f"{'ok    ' if good else 'FAILED'} {'torchrun ' if launcher is stock else ''}{model} {kind} {n} to {m}", flush=True)
        if not good:
            print(text[-3000:], flush=True)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())

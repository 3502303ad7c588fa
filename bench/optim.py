#!/usr/bin/env python3
"""One optimizer step of AdamW over 29.7 million parameters: ours, and ours with `fused`, beside stock's fused one, with one thread and with two. Rounds in
shuffled order, each program a process of its own; medians of all steps. Prints a table.

usage: optim.py --build build/release [--rounds 5] [--python .venv/bin/python]   (a Python that has torch)
"""
import argparse
import sys
import tempfile
from pathlib import Path

from runner import ROOT, Program, run

HERE = Path(__file__).resolve().parent
BOUNDS = {"default": 1.25, "fused": 1.10}  # times stock's fused step


def program_name(whose, threads):
    return f"{whose}.{threads}"


def rows(samples, threads):
    """(what, seconds, times stock's fused, the bound or None)"""
    stock = samples.median(program_name("stock", threads), "fused", "wall_s")
    yield "stock, fused", stock, 1.0, None
    loop = samples.median(program_name("stock", threads), "loop", "wall_s")
    yield "stock, for-loop", loop, loop / stock, None
    for mode, bound in BOUNDS.items():
        ours = samples.median(program_name("ours", threads), mode, "wall_s")
        yield f"ours, {mode}", ours, ours / stock, bound


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--build", type=Path, required=True)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--python", type=Path, default=ROOT / ".venv/bin/python")
    args = parser.parse_args()
    programs = [Program(program_name(whose, threads), [*command, "--threads", threads]) for threads in (1, 2)
                for whose, command in (("ours", [args.build / "bench/optim_bench"]), ("stock", [args.python, HERE / "optim_stock.py"]))]
    samples = run(programs, {"disk": tempfile.gettempdir()}, args.rounds)
    if samples.failed:
        sys.exit("; ".join(f"{name}: {why}" for name, why in samples.failed.items()))
    print("| AdamW step, 29.7 M parameters | threads | ms | × stock's fused | target |\n|---|---|---|---|---|")
    for threads in (1, 2):
        for what, seconds, ratio, bound in rows(samples, threads):
            target = "" if bound is None else f"≤ {bound:.2f}: {'met' if ratio <= bound else 'missed'}"
            print(f"| {what} | {threads} | {seconds * 1e3:.1f} | {ratio:.2f} | {target} |")


if __name__ == "__main__":
    main()

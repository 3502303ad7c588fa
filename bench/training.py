#!/usr/bin/env python3
"""What training costs, beside stock, alone: the suite's rows about it, or some of its parts, in rounds of shuffled order. Prints a table.

usage: training.py --build build/release [--only steps,hooks,…] [--rounds 3] [--peers DIR] [--peers-python FILE] [--keep FILE] [--show]
Parts: saves, steps, hooks, optimizer, wire, overlap. With --keep, samples are added to those in FILE, so that rounds can be run one at a time; --show
runs nothing.
"""
import argparse
import json
import sys
import tempfile
from pathlib import Path

import programs
import training_programs
import training_targets
from report import shown_checks, number
from runner import ROOT, Samples, run


def parsed():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--build", type=Path, required=True, help="where the programs are, optimised")
    parser.add_argument("--only", default=",".join(training_programs.PARTS), help="parts, with commas between")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--peers", type=Path, default=ROOT.parent / "shared" / "peers", help="the peers' scripts")
    parser.add_argument("--peers-python", type=Path, default=ROOT / ".venv/bin/python", help="a Python that has torch")
    parser.add_argument("--keep", type=Path)
    parser.add_argument("--show", action="store_true")
    args = parser.parse_args()
    args.only = args.only.split(",")
    if not set(args.only) <= set(training_programs.PARTS):
        parser.error(f"--only knows {', '.join(training_programs.PARTS)}")
    return args


def main():
    args, size = parsed(), programs.Size()
    samples = Samples()
    if not args.show:
        due = [*training_programs.ours(args.build.resolve(), size, args.only), *training_programs.peers(args.peers_python, args.peers, args.only)]
        samples = run(due, {"disk": tempfile.gettempdir()}, args.rounds)
    if args.keep:
        before = json.loads(args.keep.read_text(encoding="utf-8")) if args.keep.exists() else {}
        for name, runs in before.items():
            samples.runs[name] = runs + samples.runs.get(name, [])
        args.keep.write_text(json.dumps(samples.runs) + "\n", encoding="utf-8")
    print("| | unit | ours | peer | ours / peer | CPU: ours, peer | target: reached | met |\n|---|---|---|---|---|---|---|---|")
    for row in training_targets.results(samples, size, args.only):
        over = row["ours"] / row["peer"] if row["ours"] and row["peer"] else None
        print(f"| {row['metric']} | {row['unit']} | {number(row['ours'])} | {number(row['peer'])} | {number(over)} | "
              f"{number(row.get('ours_cpu'))}, {number(row.get('peer_cpu'))} | {shown_checks(row)} | {row['met']} |")
    if samples.failed:
        sys.exit("; ".join(f"{name}: {why}" for name, why in samples.failed.items()))


if __name__ == "__main__":
    main()

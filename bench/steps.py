#!/usr/bin/env python3
"""A training step of shared/peers/fsdp_step.py's model, ours beside stock's, alone: the rows `step.…` of the suite, in rounds of shuffled order.

usage: steps.py --build build/release --peers DIR --peers-python FILE [--rounds 3] [--steps 8] [--keep FILE] [--show]
With --keep, the samples are added to those in FILE, so that rounds can be run one at a time; --show runs nothing.
"""
import argparse
import json
import tempfile
from pathlib import Path

import programs
import targets
from runner import Samples, run


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--build", type=Path, required=True)
    parser.add_argument("--peers", type=Path, required=True)
    parser.add_argument("--peers-python", type=Path, required=True)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=8)
    parser.add_argument("--keep", type=Path)
    parser.add_argument("--show", action="store_true")
    args = parser.parse_args()
    due = [*programs.our_steps(args.build.resolve(), args.steps), *programs.peer_steps(args.peers_python, args.peers, args.steps)]
    samples = Samples() if args.show else run(due, {"disk": tempfile.gettempdir()}, args.rounds)
    if args.keep:
        before = json.loads(args.keep.read_text(encoding="utf-8")) if args.keep.exists() else {}
        for name, runs in before.items():
            samples.runs[name] = runs + samples.runs.get(name, [])
        args.keep.write_text(json.dumps(samples.runs) + "\n", encoding="utf-8")
    rows = targets.Rows(samples, programs.Size(train_steps=args.steps))
    targets.steps(rows)
    number = lambda value: "" if value is None else f"{value:,.1f}"
    print("| step | ours | peer | ours / peer | CPU ours, peer | target | met |\n|---|---|---|---|---|---|---|")
    for row in rows.rows:
        over = row["ours"] / row["peer"] if row["ours"] and row["peer"] else None
        value = lambda check: "" if check["value"] is None else f" ({check['value']:.2f})"
        checks = "; ".join(check["target"] + value(check) for check in row["checks"])
        print(f"| {row['metric']} | {number(row['ours'])} {row['unit']} | {number(row['peer'])} | {'' if over is None else f'{over:.2f}'} | "
              f"{number(row.get('ours_cpu'))}, {number(row.get('peer_cpu'))} | {checks} | {row['met']} |")


if __name__ == "__main__":
    main()

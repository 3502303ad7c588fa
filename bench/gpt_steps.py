#!/usr/bin/env python3
"""Trains examples/gpt three times with one compute thread a rank: without saves, with saves that it waits for, and with saves in the background, which
are slowed down to so many times the seconds of those before, so that they take little at once. Prints one JSON object: milliseconds of every
step, of those during which a save was under way, and the seconds of the saves.

usage: gpt_steps.py --build build/release --dir DIR [--ranks 1] [--steps 60] [--save-every 6] [--slow-down 2.5] [-- WORDS…]   (words for the background run)
"""
import argparse
import json
import re
import statistics
import subprocess
from pathlib import Path

MODEL = ["--layers", "6", "--width", "512", "--seq", "32", "--batch", "2"]
WARM_UP = 3  # steps


def train(args, *words):
    command = [args.build / "examples/gpt/gpt_train", "--ranks", args.ranks, "--steps", args.steps + WARM_UP, *MODEL, *words]
    return read_log(subprocess.run([str(word) for word in command], capture_output=True, text=True, check=True).stdout)


def read_log(lines):
    """What gpt_train printed: ({step: ms}, {step: its save as {"bytes", "seconds", "stall"}})."""
    steps = {int(step): float(ms) for step, ms in re.findall(r"^step=(\d+) .* ms=([\d.]+)", lines, re.M)}
    saves = {int(step): {name: float(value) for name, value in re.findall(r"\b(bytes|seconds|stall)=([\d.]+)", said)}
             for step, said in re.findall(r"^save step=(\d+) done (.*)", lines, re.M)}
    return steps, saves


def median(saves, what):
    return statistics.median(save[what] for save in saves.values())


def counted(steps):
    return [ms for step, ms in sorted(steps.items()) if step > WARM_UP]


def during_saves(steps, saves):
    """Steps that began before the save that was started just before them was over."""
    found = []
    for first, save in sorted(saves.items()):
        left_ms = save["seconds"] * 1000
        step = first + 1
        while left_ms > 0 and step in steps and (step == first + 1 or step not in saves):
            found.append(steps[step])
            left_ms -= steps[step]
            step += 1
    return found


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--build", type=Path, required=True)
    parser.add_argument("--dir", type=Path, required=True)
    parser.add_argument("--ranks", type=int, default=1)
    parser.add_argument("--steps", type=int, default=60)
    parser.add_argument("--save-every", type=int, default=6)
    parser.add_argument("--slow-down", type=float, default=2.5)
    parser.add_argument("background", nargs="*")
    args = parser.parse_args()
    saving = ["--save-every", args.save_every, "--keep-last", 1]
    alone, _ = train(args)
    _, waited = train(args, "--dir", args.dir / "waited", *saving)
    rate = round(median(waited, "bytes") / args.ranks / (median(waited, "seconds") * args.slow_down))
    steps, saves = train(args, "--dir", args.dir / "background", *saving, "--async", "--io-rate", rate, *args.background)
    print(json.dumps({"ranks": args.ranks, "alone_ms": counted(alone), "background_ms": counted(steps), "during_save_ms": during_saves(steps, saves),
                      "save_s": [save["seconds"] for save in saves.values()], "stall_s": [save["stall"] for save in saves.values()],
                      "waited_save_s": [save["seconds"] for save in waited.values()]}))


if __name__ == "__main__":
    main()

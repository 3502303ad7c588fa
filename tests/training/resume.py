#!/usr/bin/env python3
"""A run that is killed and resumed with as many ranks has the losses, bit for bit, of the run that never was; threads and processes alike.

  resume.py --launch build/dev/tests/support/launch/tessera-launch --train build/dev/examples/gpt/gpt_train [--seed N]
"""
import argparse
import os
import random
import re
import signal
import subprocess
import sys
import tempfile

STEPS, EVERY = 24, 6


def command(args, launched, ranks, *more):
    train = [args.train, "--steps", str(STEPS), "--layers", "2", "--width", "64", "--seq", "32", *more]
    if launched:
        return [args.launch, "--ranks", str(ranks), "--deadline", "120", "--", *train, "--ranks", str(ranks)]
    return [*train, "--ranks", str(ranks)]


def losses(lines):
    found = (re.search(r"\bstep=(\d+) loss=(\S+)", line) for line in lines)
    return {int(match[1]): match[2] for match in found if match}


def whole(words):
    done = subprocess.run(words, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=200, check=False)
    if done.returncode:
        raise SystemExit(f"exit code {done.returncode}: {done.stdout[-2000:]}")
    return losses(done.stdout.splitlines())


def killed(words, at):
    """Runs until step `at` is printed, then kills every process of the run."""
    run = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True)
    lines = []
    for line in run.stdout:
        lines.append(line)
        if re.search(rf"\bstep={at} loss=", line):
            os.killpg(run.pid, signal.SIGKILL)  # the launcher's ranks die with it
            break
    run.stdout.close()
    run.wait()
    return losses(lines)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--launch", required=True)
    parser.add_argument("--train", required=True)
    parser.add_argument("--seed", type=int, default=random.randrange(1 << 30))
    args = parser.parse_args()
    chance = random.Random(args.seed)
    print(f"--seed {args.seed}")
    wrong = 0
    for launched, ranks in ((False, 1), (False, 2), (True, 2), (False, 3)):
        expected = whole(command(args, launched, ranks))
        at = chance.randrange(EVERY + 1, STEPS)
        with tempfile.TemporaryDirectory() as scratch:
            saving = ["--dir", scratch, "--save-every", str(EVERY), "--resume"]
            actual = killed(command(args, launched, ranks, *saving), at)
            again = whole(command(args, launched, ranks, *saving))
        apart = [s for s in expected if {**actual, **again}.get(s) != expected[s]] + [s for s in again if s in actual and again[s] != actual[s]]
        good = not apart and len(expected) == STEPS and 0 < len(again) < STEPS
        wrong += not good
        how = "processes" if launched else "threads"
        print(f"{'ok    ' if good else 'FAILED'} {ranks} {how}, killed after step {at}, resumed at step {min(again)}: {len(expected)} losses{' equal' if good else f' differ: ' + '; '.join(f'step {s}: {expected.get(s)}, killed {actual.get(s)}, resumed {again.get(s)}' for s in apart)}")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())

#!/usr/bin/env python3
"""Kills a program that saves at its system calls, on the real file system, and looks at what it leaves.

strace sends SIGKILL as the program enters the N-th call of a kind that changes the disk, for each kind and each N. After each kill,
everything that was acknowledged is there and whole, nothing half there is taken for a checkpoint, and the program, run again, comes to its end.

Usage: kill.py --program SAVE_PROGRAM [--strace strace] [--seed S]
TESSERA_SCALE multiplies the number of kills (320 in the ordinary run, or as many as there are places; from then on places are taken again);
exit code 77 where ptrace is not allowed.
"""
import argparse
import collections
import os
import random
import re
import shutil
import subprocess
import sys
import tempfile

KINDS = ["openat", "close", "pwrite64", "fsync", "mkdirat", "renameat", "renameat2", "linkat", "unlinkat", "fchmod", "write"]
PROGRAMS = ["steps", "overwrite", "convert"]
ORDINARY_KILLS = 320
PATIENCE_SECONDS = 60


def run(words):
    return subprocess.run(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, timeout=PATIENCE_SECONDS)


def acknowledged(done):
    return done.stdout.count("saved\n")


def places(strace, program, what, scratch):
    """(kind, N) of every call of such a kind that an undisturbed run makes from its first change of the disk on."""
    log = os.path.join(scratch, "log")
    done = run([strace, "-f", "-qq", "-o", log, "-e", "trace=" + ",".join(KINDS), program, what, os.path.join(scratch, "whole")])
    if done.returncode != 0:
        sys.exit(f"kill.py: {what} fails undisturbed: {done.stderr}")
    seen, found, begun = collections.Counter(), [], False
    with open(log, encoding="utf-8") as lines:
        for line in lines:
            call = re.match(r"(?:\d+\s+)?(\w+)\(", line)
            if not call or call[1] not in KINDS:
                continue
            seen[call[1]] += 1
            begun = begun or call[1] == "mkdirat"
            # Of the files that are opened, only those that are made change anything.
            if begun and (call[1] != "openat" or "O_CREAT" in line):
                found.append((what, call[1], seen[call[1]]))
    return found


def kill(strace, program, place, root):
    """What is wrong after a kill at `place`, or None. The second value: whether the program was killed."""
    what, kind, number = place
    killed = run([strace, "-f", "-qq", "-o", "/dev/null", "-e", f"trace={kind}", "-e", f"inject={kind}:signal=KILL:when={number}",
                  program, what, root])
    was_killed = killed.returncode != 0
    told = acknowledged(killed)
    checked = run([program, what, root, "--check", str(told)])
    if checked.returncode != 0:
        return f"{told} saves were acknowledged: {checked.stderr}", was_killed
    again = run([program, what, root])
    if again.returncode != 0:
        return f"the next run cannot save: {again.stderr}", was_killed
    checked = run([program, what, root, "--check", "4"])
    return (checked.stderr or None) if checked.returncode != 0 else None, was_killed


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--program", required=True)
    parser.add_argument("--strace", default="strace")
    parser.add_argument("--seed", type=int, default=int(os.environ.get("TESSERA_SEED", random.randrange(2**32))))
    options = parser.parse_args()
    if not shutil.which(options.strace) or run([options.strace, "-qq", "-o", "/dev/null", "true"]).returncode != 0:
        print("kill.py: skipped: strace is not here or may not trace")
        return 77
    print(f"TESSERA_SEED={options.seed} replays this test")
    chance = random.Random(options.seed)
    wanted = max(1, int(ORDINARY_KILLS * float(os.environ.get("TESSERA_SCALE", "1"))))
    with tempfile.TemporaryDirectory(prefix="tessera-kill-") as scratch:
        every = []
        for what in PROGRAMS:
            with tempfile.TemporaryDirectory(dir=scratch) as inner:
                every += places(options.strace, options.program, what, inner)
        chosen = chance.sample(every, min(wanted, len(every)))
        while len(chosen) < wanted:
            chosen.append(chance.choice(every))
        kills, broken = 0, 0
        for number, place in enumerate(chosen):
            root = os.path.join(scratch, str(number))
            wrong, was_killed = kill(options.strace, options.program, place, root)
            kills += was_killed
            if wrong:
                broken += 1
                print(f"kill.py: {place[0]}, killed at {place[1]} number {place[2]}: {wrong}", file=sys.stderr)
            shutil.rmtree(root, ignore_errors=True)
        print(f"kills at system calls: {kills} of {len(chosen)} tried ({len(every)} places), {broken} broke a promise")
        return 1 if broken or kills < 0.95 * len(chosen) else 0


if __name__ == "__main__":
    sys.exit(main())

#!/usr/bin/env python3
"""Real launchers: gpt_train under mpirun and under srun has the losses of tessera-launch, saves, and resumes on another number of ranks. What is not
installed, or has no cluster to run on, is left out; exit code 77 where nothing is left.

  launchers.py --launch build/dev/tests/support/launch/tessera-launch --train build/dev/examples/gpt/gpt_train
"""
import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile

# Two cores hold as many ranks as we like; mpirun asks before it runs as root.
MPIRUN = ["mpirun", "--oversubscribe", *(["--allow-run-as-root"] if os.geteuid() == 0 else [])]


def launchers():
    """{name: the words before `RANKS PROGRAM…`}"""
    if shutil.which("mpirun"):
        yield "mpirun", [*MPIRUN, "-n"]
    if shutil.which("srun") and subprocess.run(["sinfo"], capture_output=True, timeout=60, check=False).returncode == 0:
        yield "srun", ["srun", "--overcommit", "-n"]
        yield "srun --mpi=pmi2", ["srun", "--overcommit", "--mpi=pmi2", "-n"]


def losses(words):
    done = subprocess.run([str(word) for word in words], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=200, check=False)
    if done.returncode:
        raise SystemExit(f"exit code {done.returncode}: {done.stdout[-2000:]}")
    return dict(re.findall(r"\bstep=(\d+) loss=(\S+)", done.stdout))


def run(launcher, args, scratch):
    """The losses of two ranks to step 6, and of three that go on to step 9."""
    train = [args.train, "--layers", 2, "--width", 64, "--seq", 32, "--dir", os.path.join(scratch, "checkpoints")]
    return losses([*launcher, 2, *train, "--steps", 6, "--save-every", 6]), losses([*launcher, 3, *train, "--steps", 9, "--resume"])


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--launch", required=True)
    parser.add_argument("--train", required=True)
    args = parser.parse_args()
    found = dict(launchers())
    if not found:
        print("skipped: neither mpirun nor a Slurm cluster (Debian: openmpi-bin, slurm-wlm)")
        return 77
    wrong = 0
    with tempfile.TemporaryDirectory() as scratch:
        expected = run([args.launch, "--ranks"], args, scratch)
    for name, words in found.items():
        with tempfile.TemporaryDirectory() as scratch:
            actual = run(words, args, scratch)
        good = actual == expected and [len(part) for part in actual] == [6, 3]
        wrong += not good
        print(f"{'ok    ' if good else 'FAILED'} {name}: 6 steps of 2 ranks, 3 more of 3{'' if good else f': {actual}, not {expected}'}")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())

#!/usr/bin/env python3
"""Runs a `ls --json --digest` over checkpoints that stock PyTorch, and older versions of ours, wrote and compares every value with what it must be.

Fixtures   DATA/<torch-release or tessera-version>/<fixture>/ckpt, or each *.pt in it, with expected.json beside it: what is printed must equal its entries.
           DATA/minimal/<variant> against DATA/minimal/expected.json.
Hostile    DATA/hostile/<case>, with cases.json: what must be refused ends with an exit code other than 0 and a line
           "…: error: …", within the deadline, in bounded memory, without a crash; what must be accepted is.

Usage: run.py --command "build/dev/cli/tessera" [--data DATA] [--only PATTERN]
The command may be any implementation: PATH is appended to `COMMAND ls --json --digest`. Exit code 0 if all passed, else 1.
"""
import argparse
import fnmatch
import json
import re
import resource
import shlex
import subprocess
import sys
from pathlib import Path

DEADLINE_S = 60
MEMORY_MIB = 1024
HERE = Path(__file__).resolve().parent


class Failed(Exception):
    pass


def list_checkpoint(command, path):
    """(exit code, standard output, standard error) of the listing."""
    try:
        done = subprocess.run([*command, "ls", "--json", "--digest", str(path)], capture_output=True, timeout=DEADLINE_S, check=False)
    except subprocess.TimeoutExpired:
        raise Failed(f"no end after {DEADLINE_S} s") from None
    errors = done.stderr.decode("utf-8", "replace")
    if done.returncode < 0 or "Sanitizer" in errors or "runtime error:" in errors:
        raise Failed(f"crashed with {done.returncode}: {errors[-2000:]}")
    return done.returncode, done.stdout, errors


def entries_of(command, path):
    code, output, errors = list_checkpoint(command, path)
    if code != 0:
        raise Failed(f"exit code {code}: {errors.strip()}")
    return json.loads(output)["entries"]


def without_place(entries):
    """`stored` says where the fixture keeps the expected bytes; it is no property of the checkpoint."""
    return {key: {k: v for k, v in entry.items() if k != "stored"} for key, entry in entries.items()}


def compare(expected, got):
    wrong = []
    for key in sorted(expected.keys() | got.keys()):
        if expected.get(key) != got.get(key):
            wrong.append(f"{key!r}: expected {json.dumps(expected.get(key))[:300]}, got {json.dumps(got.get(key))[:300]}")
    if wrong:
        raise Failed(f"{len(wrong)} of {len(expected)} entries differ; " + "; ".join(wrong[:3]))


def check_accepted(command, path, expected_file, prefix=None):
    """`prefix`: the file holds only the keys that begin with it, without it."""
    expected = without_place(json.loads(expected_file.read_text(encoding="utf-8"))["entries"])
    if prefix:
        expected = {key.removeprefix(prefix): entry for key, entry in expected.items() if key.startswith(prefix)}
    compare(expected, entries_of(command, path))


def check_refused(command, path):
    code, output, errors = list_checkpoint(command, path)
    if code == 0:
        raise Failed(f"accepted: {output[:300]!r}")
    if not re.search(r"^\S+: error: \S", errors, re.MULTILINE):
        raise Failed(f"exit code {code} without an 'error:' line: {errors[:300]!r}")
    peak_mib = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss // 1024
    if peak_mib > MEMORY_MIB:
        raise Failed(f"took {peak_mib} MiB")


def tests(command, data):
    """(name, what to run) of everything below `data`. Hostile cases come first: memory is the peak over all runs so far."""
    hostile = data / "hostile"
    if (hostile / "cases.json").exists():
        for name, case in json.loads((hostile / "cases.json").read_text(encoding="utf-8")).items():
            if case["expect"] == "refuse":
                yield f"hostile/{name}", lambda path=hostile / name: check_refused(command, path)
            else:
                yield f"hostile/{name}", lambda path=hostile / name: entries_of(command, path)
    for metadata in sorted(data.glob("minimal/*/.metadata")):
        yield f"minimal/{metadata.parent.name}", lambda m=metadata: check_accepted(command, m.parent, m.parent.parent / "expected.json")
    for expected in sorted([*data.glob("torch-*/*/expected.json"), *data.glob("tessera-*/*/expected.json")]):
        name = f"{expected.parent.parent.name}/{expected.parent.name}"
        files = sorted((expected.parent / "ckpt").glob("*.pt"))
        for path in files or [expected.parent / "ckpt"]:
            part = path.stem == "only_state_dict" and "model."
            label = f"{name}/{path.name}" if files else name
            yield label, lambda path=path, expected=expected, part=part: check_accepted(command, path, expected, part)


def main():
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--command", required=True, help="the implementation, as in build/dev/cli/tessera")
    arguments.add_argument("--data", type=Path, default=HERE / "data", help="the folder of fixtures")
    arguments.add_argument("--only", default="*", help="names to run, as in 'hostile/*'")
    options = arguments.parse_args()
    passed = failed = 0
    for name, run in tests(shlex.split(options.command), options.data):
        if not fnmatch.fnmatch(name, options.only):
            continue
        try:
            run()
            passed += 1
        except (Failed, ValueError, KeyError) as failure:
            failed += 1
            print(f"FAILED {name}: {failure}")
    print(f"{passed} passed, {failed} failed")
    return 1 if failed or not passed else 0


if __name__ == "__main__":
    sys.exit(main())

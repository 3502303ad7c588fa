#!/usr/bin/env python3
"""What goes wrong on one rank is the same clear error on every rank, within the deadline, with an exit code other than 0; earlier steps stay.

  bad_input.py --launch build/dev/tests/support/launch/tessera-launch --train build/dev/examples/gpt/gpt_train
"""
import argparse
import hashlib
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

DEADLINE_S = 60
SMALL = ["--layers", "1", "--width", "64", "--seq", "16"]


class Wrong(Exception):
    pass


def run(args, ranks, *more, during=None):
    words = [args.launch, "--ranks", str(ranks), "--deadline", str(DEADLINE_S), "--", *more]
    process = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    lines = []
    for line in process.stdout:
        lines.append(line.rstrip("\n"))
        if during:
            during(line)
    return process.wait(), lines


def digest(root):
    files = sorted(path for path in Path(root).rglob("*") if path.is_file() and ".tessera-" not in str(path))
    return hashlib.sha256(b"".join(str(path).encode() + path.read_bytes() for path in files)).hexdigest()


def errors(lines, ranks):
    """The error of each rank, without its tag; every rank must have said exactly one."""
    said = {}
    for line in lines:
        if match := re.match(r"\[rank (\d+)\] tessera: error: (.*)", line):
            said.setdefault(int(match[1]), []).append(match[2])
    for rank in range(ranks):
        if len(said.get(rank, [])) != 1:
            raise Wrong(f"rank {rank} said {said.get(rank, [])}; all lines: " + " | ".join(lines[-12:]))
    return [said[rank][0] for rank in range(ranks)]


def same_error(args, ranks, words, *parts):
    code, lines = run(args, ranks, *words)
    said = errors(lines, ranks)
    if code == 0 or code == 124:
        raise Wrong(f"exit code {code}")
    if len(set(said)) != 1:
        raise Wrong(f"ranks disagree: {said}")
    for part in parts:
        if part not in said[0]:
            raise Wrong(f"'{part}' is not in: {said[0]}")
    return said[0]


def cases(args, scratch):
    """(name, a function that throws Wrong or returns what was said)."""
    root = f"{scratch}/root"
    train = [args.train, *SMALL, "--dir", root, "--save-every", "2", "--steps"]
    code, lines = run(args, 2, *train, "4")
    if code:
        raise Wrong("\n".join(lines))
    before = digest(root)
    resume = [*train, "6", "--resume"]

    def copy_of_root(name):
        copy = Path(scratch, name)
        shutil.copytree(root, copy)
        shutil.rmtree(copy / "step-00000002")  # nothing to fall back on
        return copy

    def resume_in(copy):
        return [args.train, *SMALL, "--dir", str(copy), "--resume", "--steps", "6"]

    def directory_is_a_file():
        Path(scratch, "file").write_text("not a directory")
        return same_error(args, 3, [args.train, *SMALL, "--dir", f"{scratch}/file", "--save-every", "2", "--steps", "2"], "file")

    def wrong_shape():
        other = [args.train, "--layers", "1", "--width", "128", "--seq", "16", "--dir", root, "--resume", "--steps", "6"]
        return same_error(args, 3, other, "shapes differ", "model.")

    def missing_key():
        other = [args.train, "--layers", "2", "--width", "64", "--seq", "16", "--dir", root, "--resume", "--steps", "6"]
        return same_error(args, 2, other, "keys missing in the checkpoint", "blocks.1.")

    def other_kind():
        return same_error(args, 2, [*resume, "--kind", "local"], "keys missing in the checkpoint")

    def wrong_dtype():
        copy = copy_of_root("dtype")
        metadata = copy / "step-00000004" / ".metadata"
        content = metadata.read_bytes()
        if content.count(b"ctorch\nfloat32\n") != 1:
            raise Wrong("the dtype is not written once")
        # As one without a sidecar, or the change would be found before its meaning.
        metadata.write_bytes(content.replace(b"ctorch\nfloat32\n", b"ctorch\nfloat16\n").replace(b"tessera/1 ", b"tessera/0 "))
        (copy / "step-00000004" / ".tessera").unlink()
        return same_error(args, 3, resume_in(copy), "float16 in the checkpoint and float32 here")

    def unreadable_file():
        copy = copy_of_root("unreadable")
        data = copy / "step-00000004" / "__1_0.distcp"
        data.unlink()
        data.symlink_to("/etc/passwd")  # as unreadable as a file gets for whoever is root: it is not one
        code, lines = run(args, 2, *resume_in(copy))
        skipped = [line for line in lines if "resume skipped" in line and "__1_0.distcp" in line]
        if not skipped:
            raise Wrong("the damaged step was not passed over by name: " + " | ".join(lines[-8:]))
        return skipped[0].split("] ", 1)[1]

    def flipped_bit():
        copy = copy_of_root("flipped")
        data = copy / "step-00000004" / "__0_0.distcp"
        content = bytearray(data.read_bytes())
        at = content.rindex(b"archive/data/0", 0, len(content) // 2) + 200
        content[at] ^= 1
        data.write_bytes(content)
        return same_error(args, 2, resume_in(copy), "are not those that were published", "__0_0.distcp at byte")

    def read_only_on_one_rank():
        # A wrapper that makes the root read-only for rank 1 alone: a mount namespace of its own.
        copy = Path(scratch, "readonly")
        shutil.copytree(root, copy)
        seen = digest(copy)
        script = f'[ "$RANK" = 1 ] && exec unshare -m sh -c \'mount --bind "{copy}" "{copy}" && mount -o remount,ro,bind "{copy}" && exec "$@"\' sh "$@"; exec "$@"'
        probe = subprocess.run(["unshare", "-m", "true"], capture_output=True, check=False)
        if probe.returncode:
            return "skipped: no mount namespaces here"
        code, lines = run(args, 3, "sh", "-c", script, "sh", args.train, *SMALL, "--dir", str(copy), "--resume", "--steps", "6", "--save-every", "1")
        said = errors(lines, 3)
        if code == 0 or len(set(said)) != 1 or "rank 1" not in said[0] or "EROFS" not in said[0]:
            raise Wrong(f"exit code {code}: {said}")
        if digest(copy) != seen or list(copy.glob(".tessera-*")):
            raise Wrong("something was left behind or changed")
        return said[0]

    def killed_rank():
        pids = {}
        began = []

        def watch(line):
            if match := re.search(r"\[launch\] rank (\d+) pid (\d+)", line):
                pids[int(match[1])] = int(match[2])
            if "step=5 " in line and not began:
                began.append(time.monotonic())
                os.kill(pids[2], signal.SIGKILL)

        code, lines = run(args, 3, *train, "2000", "--resume", during=watch)
        took = time.monotonic() - began[0]
        said = [line for line in lines if re.match(r"\[rank [01]\] tessera: error: ", line)]
        if code != 128 + signal.SIGKILL or len(said) != 2 or not all("rank 2" in line for line in said):
            raise Wrong(f"exit code {code}: " + " | ".join(lines[-8:]))
        return f"{said[0].split('] ', 1)[1]} ({took:.1f} s after the kill)"

    def step_exists_already():
        return same_error(args, 2, [args.train, *SMALL, "--dir", root, "--save-every", "2", "--steps", "2"], "step-00000002", "there already")

    def curve_in_no_directory():
        return same_error(args, 3, [args.train, *SMALL, "--steps", "2", "--curve", f"{scratch}/none/loss.svg"], "write the curve", "loss.csv")

    for case in (curve_in_no_directory, directory_is_a_file, wrong_shape, missing_key, other_kind, wrong_dtype, unreadable_file, flipped_bit, read_only_on_one_rank, killed_rank, step_exists_already):
        yield case.__name__, case
        if digest(root) != before and case is not killed_rank:
            raise Wrong(f"{case.__name__} changed earlier steps")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--launch", required=True)
    parser.add_argument("--train", required=True)
    args = parser.parse_args()
    failed = 0
    with tempfile.TemporaryDirectory() as scratch:
        for name, case in cases(args, scratch):
            try:
                print(f"ok     {name}: {case()}", flush=True)
            except Wrong as wrong:
                failed += 1
                print(f"FAILED {name}: {wrong}", flush=True)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())

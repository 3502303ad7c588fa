#!/usr/bin/env python3
"""The command line needs neither LibTorch nor Python: under strace, in an empty environment, `ls` and `diff` open and run
nothing of either, and ldd names no library of either.

Usage: file_wing_alone.py TESSERA CHECKPOINT     exit code 0, 1, or 77 (skipped) where strace may not trace
"""
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

FOREIGN = re.compile(r"libtorch|libc10|libshm|libpython|site-packages|dist-packages|(^|/)(i?python|pip)[0-9.]*(/|$)|\.pyc?$|\.venv/", re.IGNORECASE)
SKIPPED = 77


def skip(reason):
    print(f"skipped: {reason}")
    sys.exit(SKIPPED)


def can_trace():
    if not shutil.which("strace"):
        return False
    return subprocess.run(["strace", "-f", "-o", "/dev/null", "true"], capture_output=True, check=False).returncode == 0


def paths_touched(trace):
    """Every path that a traced call named, whether or not it was there."""
    for line in trace.splitlines():
        call = re.match(r"(?:\d+ +)?(openat|open|execve|execveat)\((.*)", line)
        if call:
            name = re.search(r'"((?:[^"\\]|\\.)*)"', call.group(2))
            if name:
                yield call.group(1), name.group(1)


def run_traced(arguments, scratch):
    trace = scratch / "trace"
    command = ["strace", "-f", "-e", "trace=openat,open,execve,execveat", "-o", str(trace), *arguments]
    done = subprocess.run(command, env={}, capture_output=True, text=True, timeout=120, check=False)
    if done.returncode != 0:
        sys.exit(f"{' '.join(arguments)}: exit code {done.returncode}: {done.stderr}")
    touched = list(paths_touched(trace.read_text(encoding="utf-8", errors="replace")))
    opened = [path for call, path in touched if call.startswith("open")]
    if not any(path.endswith(".distcp") for path in opened):
        sys.exit(f"the trace of {' '.join(arguments)} shows no data file being opened: it proves nothing")
    return [f"{call} {path}" for call, path in touched if FOREIGN.search(path)]


def libraries(binary):
    done = subprocess.run(["ldd", binary], capture_output=True, text=True, check=True)
    return [line.split()[0] for line in done.stdout.splitlines() if line.strip()]


def main():
    binary, checkpoint = str(Path(sys.argv[1]).resolve()), Path(sys.argv[2])
    foreign = [f"links {name}" for name in libraries(binary) if FOREIGN.search(name)]
    if not can_trace():
        for problem in foreign:
            print(problem)
        if foreign:
            sys.exit(1)
        skip("strace is not installed or may not trace here; only ldd was checked")
    with tempfile.TemporaryDirectory(prefix="tessera-alone-") as folder:
        scratch = Path(folder)
        for side in ("a", "b"):
            shutil.copytree(checkpoint, scratch / side)
        foreign += run_traced([binary, "ls", "--json", "--digest", str(scratch / "a")], scratch)
        foreign += run_traced([binary, "diff", str(scratch / "a"), str(scratch / "b")], scratch)
    for problem in foreign:
        print(problem)
    print("0 passed, 1 failed" if foreign else "1 passed, 0 failed")
    return 1 if foreign else 0


if __name__ == "__main__":
    sys.exit(main())

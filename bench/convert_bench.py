#!/usr/bin/env python3
"""`tessera convert` of a DCP directory to safetensors and back, beside `cp` of the same bytes and stock's dcp_to_torch_save, in one run: rounds in
shuffled order, medians of wall and CPU seconds, peak memory of each process alone. Everything ends with an fsync (`cp` by `sync -d`); the page cache is
warm for all.

Usage: convert_bench.py --build build/release [--mib 2048] [--tensors 1024] [--rounds 3] [--dir DIR]
"""
import argparse
import os
import random
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

MAKE = """
import sys, torch, torch.distributed.checkpoint as dcp
path, mib, count = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
torch.manual_seed(0)
rows = mib * 1024 * 1024 // count // 4 // 256
dcp.save({f"layer.{i:04d}.weight": torch.randn(rows, 256) for i in range(count)}, checkpoint_id=path, no_dist=True)
"""
STOCK = "import sys; from torch.distributed.checkpoint.format_utils import dcp_to_torch_save as f; f(sys.argv[1], sys.argv[2])"


def measured(*command):
    """(wall s, CPU s, peak MiB) of a process."""
    begin = time.monotonic()
    process = subprocess.Popen([str(c) for c in command], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    peak = 0
    while os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None:
        found = re.search(r"VmHWM:\s+(\d+) kB", Path(f"/proc/{process.pid}/status").read_text(encoding="utf-8"))
        peak = max(peak, int(found.group(1)) // 1024 if found else 0)
        time.sleep(0.005)
    wall = time.monotonic() - begin
    _, status, usage = os.wait4(process.pid, 0)
    if status:
        sys.exit(f"failed: {command}")
    return wall, usage.ru_utime + usage.ru_stime, peak


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--build", type=Path, required=True)
    parser.add_argument("--mib", type=int, default=2048)
    parser.add_argument("--tensors", type=int, default=1024)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--dir", type=Path, help="where to work; a temporary directory otherwise")
    options = parser.parse_args()
    tessera = options.build / "cli/tessera"
    with tempfile.TemporaryDirectory(dir=options.dir) as scratch:
        scratch = Path(scratch)
        source, flat = scratch / "source", scratch / "flat.safetensors"
        subprocess.run([sys.executable, "-c", MAKE, source, str(options.mib), str(options.tensors)], check=True, stderr=subprocess.DEVNULL)
        measured(tessera, "convert", source, flat)
        jobs = {
            "tessera convert, DCP to safetensors": lambda to: measured(tessera, "convert", source, to / "x.safetensors"),
            "tessera convert, safetensors to DCP": lambda to: measured(tessera, "convert", flat, to / "x"),
            "cp and sync": lambda to: measured("sh", "-c", 'cp "$0" "$1" && sync -d "$1"', flat, to / "x"),
            "dcp_to_torch_save, stock 2.13": lambda to: measured(sys.executable, "-c", STOCK, source, to / "x.pt"),
        }
        found = {name: [] for name in jobs}
        for _ in range(options.rounds):
            for name in random.sample(list(jobs), len(jobs)):
                with tempfile.TemporaryDirectory(dir=scratch) as to:
                    found[name].append(jobs[name](Path(to)))
        subprocess.run([tessera, "convert", flat, scratch / "back"], check=True, stdout=subprocess.DEVNULL)
        subprocess.run([tessera, "diff", source, scratch / "back"], check=True)
        cp = statistics.median(r[0] for r in found["cp and sync"])
        print(f"\n{options.mib} MiB in {options.tensors} tensors, medians of {options.rounds} rounds")
        print(f"{'':38} wall s  × cp   CPU s  peak MiB")
        for name, rounds in found.items():
            wall, cpu, peak = (statistics.median(column) for column in zip(*rounds))
            print(f"{name:38} {wall:6.2f} {wall / cp:5.2f} {cpu:7.2f} {peak:9.0f}")


if __name__ == "__main__":
    main()

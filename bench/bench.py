#!/usr/bin/env python3
"""Ours beside the peers and beside what the machine can do, in one run: rounds in shuffled order, medians, CPU beside wall.
Writes DIR/results.json (targets.py says what stands in it), DIR/results.md and, where matplotlib is, DIR/*.png; DIR is build/bench by default.

usage: bench.py --build build/release [--quick] [--rounds N] [--peers DIR] [--peers-python FILE] [--disk DIR] [--memory DIR] [--out DIR] [--skip peers,fio,training]
"""
import argparse
import dataclasses
import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import ceilings
import programs
import targets
import training_programs
import training_targets
from runner import ROOT, Samples, run, run_once

HERE = Path(__file__).resolve().parent
PARTS = ("peers", "fio", "training")


def parsed():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--build", type=Path, required=True, help="where the programs are, optimised")
    parser.add_argument("--quick", action="store_true", help="under five minutes: two rounds, one of the peers, smaller states")
    parser.add_argument("--rounds", type=int, help="so many, in place of 5, or 2 with --quick; Ctrl-C ends them early")
    parser.add_argument("--tiny", action="store_true", help="to try the suite, not the machine: one round of a few MiB")
    parser.add_argument("--peers", type=Path, default=ROOT.parent / "shared" / "peers", help="the peers' scripts")
    parser.add_argument("--peers-python", type=Path, default=ROOT / ".venv-peers/bin/python", help="a Python that has the peers (tools/setup.sh bench)")
    parser.add_argument("--disk", type=Path, help="a directory on the disk to measure; --out by default")
    parser.add_argument("--memory", type=Path, default=Path("/dev/shm"), help="a directory of a memory file system")
    parser.add_argument("--out", type=Path, default=ROOT / "build/bench")
    parser.add_argument("--skip", default="", help=f"of {', '.join(PARTS)}, with commas between")
    args = parser.parse_args()
    args.skip = set(filter(None, args.skip.split(",")))
    if not args.skip <= set(PARTS):
        parser.error(f"--skip knows {', '.join(PARTS)}")
    args.build, args.out = args.build.resolve(), args.out.resolve()
    args.out.mkdir(parents=True, exist_ok=True)
    return args


def absent(args):
    """Adds to args.skip what cannot be run here; a line for each, with the reason."""
    lines = {}
    if not (args.peers / "formats.py").exists():
        lines["peers"] = f"no peers: {args.peers} has not their scripts; --peers DIR says where they are"
    elif not args.peers_python.exists():
        lines["peers"] = f"no peers: there is no {args.peers_python}; `tools/setup.sh bench` makes it"
    if not shutil.which("fio"):
        lines["fio"] = "no ceiling of the disk: there is no fio; `tools/setup.sh bench` installs it"
    if not (args.build / "examples/gpt/gpt_train").exists():
        lines["training"] = f"no training: {args.build} has no gpt_train; it needs LibTorch"
    said = [line for part, line in lines.items() if part not in args.skip]
    args.skip |= set(lines)
    return said


def busy():
    """A line if something else runs on the machine."""
    load = os.getloadavg()[0]
    return f"the machine is busy (load {load:.1f} on {os.cpu_count()} cores): these figures are noise" if load > 0.3 * (os.cpu_count() or 1) else ""


def probe(args, places):
    """As somebody who cares for speed does once for each file system. What it finds is kept in --out, and not where the user keeps his.
    Returns the threads that a rank then writes to the disk with."""
    os.environ["XDG_CACHE_HOME"] = str(args.out / "cache")
    tessera, choices = args.build / "cli/tessera", {}
    for place, directory in places.items():
        found = subprocess.run([tessera, "probe", directory, "--json"], capture_output=True, text=True, check=True).stdout
        choices[place] = json.loads(found)["choice"]
        print(f"bench: {place}: {choices[place]['mode']}, threads: {choices[place]['threads']}; {choices[place]['why']}", file=sys.stderr)
    return choices["disk"]["threads"]


def disk_bytes(args, size, places):
    """How many bytes the checkpoint of small tensors has on disk."""
    found = {}
    failure = run_once(programs.io(args.build, size, "memory", "small"), places, found.update)
    if failure:
        raise SystemExit(f"io_bench: {failure}")
    return found["disk_bytes"]


def stock_metadata(args, size, places):
    """Stock's planning, once, and the metadata that it leaves for ours to decode."""
    left = args.out / "stock.metadata"
    left.unlink(missing_ok=True)
    samples = run([programs.stock_planning(args.peers_python, args.peers, size, left)], places, 1)
    return samples, left if left.exists() else None


def planned(args, size, places, metadata, disk_threads):
    found = list(programs.ours(args.build, size, metadata))
    for threads in sorted({1, programs.THREADS}):
        found.append(ceilings.raw(args.build, "memory", threads, "big", size.mib << 20))
        found.append(ceilings.raw(args.build, "disk", threads, "big", size.mib << 20, only="read"))
    found.append(ceilings.raw(args.build, "memory", 1, "small", disk_bytes(args, size, places)))
    if "fio" not in args.skip:
        found += [*ceilings.fio(1, disk_threads, size.mib << 20), *ceilings.fio(2, 2, size.layers_bytes())]
    if "training" not in args.skip:
        found += training_programs.ours(args.build, size)
    if "peers" not in args.skip:
        found += programs.peers(args.peers_python, args.peers, size, places, 1 if args.quick else size.rounds)
        if "training" not in args.skip and not args.quick:
            found += training_programs.peers(args.peers_python, args.peers)
    return found


def machine(size, warning, began):
    """A line on what the figures are of."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    line = (f"{os.cpu_count()} cores, {memory:.0f} GiB of memory, Linux {os.uname().release}, {time.strftime('%Y-%m-%d')}, "
            f"{size.rounds} rounds, {(time.monotonic() - began) / 60:.1f} minutes")
    return f"{line}. {warning[0].upper()}{warning[1:]}." if warning else f"{line}."


def report(args):
    """The table, and the plots by a Python that can draw them."""
    for python in (args.peers_python, Path(sys.executable)):
        if python.exists() and subprocess.run([python, "-c", "import matplotlib"], capture_output=True, check=False).returncode == 0:
            subprocess.run([python, HERE / "report.py", args.out], check=True)
            return
    print(f"no plots: {args.peers_python} has no matplotlib; `tools/setup.sh bench` installs it", file=sys.stderr)
    subprocess.run([sys.executable, HERE / "report.py", args.out, "--no-plots"], check=True)


def main():
    args, began, warning = parsed(), time.monotonic(), busy()
    size = programs.TINY if args.tiny else programs.QUICK if args.quick else programs.Size()
    if args.rounds:
        size = dataclasses.replace(size, rounds=args.rounds)
    places = {"disk": args.disk or args.out, "memory": args.memory}
    for line in filter(None, [warning, *absent(args)]):
        print(f"bench: {line}", file=sys.stderr)
    threads = programs.THREADS if args.tiny else probe(args, places)
    first, metadata = stock_metadata(args, size, places) if "peers" not in args.skip else (Samples(), None)
    samples = run(planned(args, size, places, metadata, threads), places, size.rounds)
    samples.add(first)
    (args.out / "results.json").write_text(json.dumps([*targets.results(samples, size), *training_targets.results(samples, size)], indent=1) + "\n")
    (args.out / "machine.txt").write_text(machine(size, warning, began) + "\n")
    report(args)
    if samples.failed:
        raise SystemExit(f"bench: failed: {', '.join(samples.failed)}")


if __name__ == "__main__":
    main()

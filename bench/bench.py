#!/usr/bin/env python3
"""Times tessera beside stock PyTorch and beside the machine's own ceiling, in one run: several rounds, shuffled order, medians.

  bench.py --build build/release [--peers ../shared/peers] [--rounds 3] [--mib 512] [--dir DIR]

Prints a table and writes BUILD/bench/results.json: a list of {metric, unit, ours, peer, peer_name, ceiling, ratio, rounds, command}.
"""
import argparse
import json
import os
import random
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent


def last_json(words):
    done = subprocess.run([str(word) for word in words], capture_output=True, text=True, check=False)
    lines = [line[line.index("{"):] for line in done.stdout.splitlines() if "{" in line]
    if done.returncode or not lines:
        raise SystemExit(f"{' '.join(map(str, words))}: exit code {done.returncode}\n{done.stdout[-500:]}{done.stderr[-1500:]}")
    return json.loads(lines[-1])


def raw_io(directory, total, threads=2, piece=1 << 20):
    """Seconds to write and fsync, then to read back (warm), `total` bytes in one file a thread."""
    block = bytearray(os.urandom(piece))
    each = total // threads

    def write(number):
        handle = os.open(f"{directory}/raw{number}", os.O_CREAT | os.O_WRONLY | os.O_TRUNC)
        for at in range(0, each, piece):
            os.pwrite(handle, block, at)
        os.fsync(handle)
        os.close(handle)

    def read(number):
        handle = os.open(f"{directory}/raw{number}", os.O_RDONLY)
        into = memoryview(buffers[number])
        for at in range(0, each, piece):
            os.preadv(handle, [into[at:at + piece]], at)
        os.close(handle)

    def timed(work):
        workers = [threading.Thread(target=work, args=(number,)) for number in range(threads)]
        began = time.perf_counter()
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
        return time.perf_counter() - began

    buffers = [bytearray(each) for _ in range(threads)]  # touched by bytearray
    result = {"write_s": timed(write), "read_s": timed(read)}
    for number in range(threads):
        os.unlink(f"{directory}/raw{number}")
    return result


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--build", type=Path, required=True)
    parser.add_argument("--peers", type=Path, default=HERE.parent.parent / "shared" / "peers")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--mib", type=int, default=512)
    parser.add_argument("--dir", help="where to write; a temporary directory by default")
    args = parser.parse_args()
    if not (args.peers / "dcp_io.py").exists():
        parser.error(f"no peers in {args.peers}; give --peers")
    python = sys.executable
    scratch = tempfile.mkdtemp(dir=args.dir)
    launch = [args.build / "tests/support/launch/tessera-launch", "--ranks", "2", "--"]
    commands = {
        "ours_io": lambda: last_json([args.build / "bench/io_bench", "--dir", scratch, "--mib", args.mib, "--repeat", 1]),
        "stock_io": lambda: last_json([python, args.peers / "dcp_io.py", "--dir", f"{scratch}/stock", "--mib", args.mib, "--repeat", 1, "--fresh-dir"]),
        "ours_fsdp": lambda: last_json([*launch, args.build / "bench/step_bench", "--steps", 5]),
        "stock_fsdp2": lambda: last_json([python, args.peers / "fsdp_step.py", "--mode", "fsdp2", "--steps", 5]),
        "stock_fsdp1": lambda: last_json([python, args.peers / "fsdp_step.py", "--mode", "fsdp1", "--steps", 5]),
        "ours_local": lambda: last_json([args.build / "bench/step_bench", "--steps", 5]),
        "stock_local": lambda: last_json([python, args.peers / "fsdp_step.py", "--mode", "local", "--steps", 5]),
    }
    runs = {name: [] for name in commands}
    ceilings = []
    for number in range(args.rounds):
        names = list(commands)
        random.shuffle(names)
        for name in names:
            print(f"round {number + 1}: {name}", file=sys.stderr, flush=True)
            if name.endswith("_io"):
                gib = 4 * (4 * 2048 * 2048 + 8 * 2048) * 3 * max(1, round(args.mib * (1 << 20) / 4 / ((4 * 2048 * 2048 + 8 * 2048) * 3)))
                ceilings.append(raw_io(scratch, gib))
                shutil.rmtree(f"{scratch}/stock", ignore_errors=True)
            runs[name].append(commands[name]())
    shutil.rmtree(scratch, ignore_errors=True)

    def median(name, field):
        values = [run[field] for run in runs[name]]
        return statistics.median(value[0] if isinstance(value, list) else value for value in values)

    results = []

    def add(metric, unit, ours, peer, peer_name, ceiling=None):
        results.append({"metric": metric, "unit": unit, "ours": ours, "peer": peer, "peer_name": peer_name, "ceiling": ceiling, "ratio": peer / ours,
                        "rounds": args.rounds, "command": " ".join(sys.argv)})

    for verb, raw in (("save", "write_s"), ("load", "read_s")):
        add(f"{verb} {args.mib} MiB, 2 ranks", "s", median("ours_io", f"{verb}_s"), median("stock_io", f"{verb}_s"), "DCP 2.13", statistics.median(c[raw] for c in ceilings))
    for peer in ("fsdp2", "fsdp1"):
        add("training step, 2 ranks", "ms", median("ours_fsdp", "step_ms_median"), median(f"stock_{peer}", "step_ms_median"), f"{peer.upper()} 2.13, for-loop AdamW", median("ours_local", "step_ms_median"))
    add("training step, 1 process", "ms", median("ours_local", "step_ms_median"), median("stock_local", "step_ms_median"), "torch 2.13, for-loop AdamW")
    out = args.build / "bench"
    (out / "results.json").write_text(json.dumps(results, indent=1))
    print(f"| {'metric':<26} | {'unit':<4} | {'ours':>8} | {'peer':>8} | {'peer is':<28} | {'peer/ours':>9} | {'ceiling':>8} | {'ours/ceiling':>12} |")
    print("|---|---|---|---|---|---|---|---|")
    for r in results:
        ceiling = f"{r['ceiling']:8.3f} | {r['ours'] / r['ceiling']:12.2f}" if r["ceiling"] else f"{'':8} | {'':12}"
        print(f"| {r['metric']:<26} | {r['unit']:<4} | {r['ours']:8.3f} | {r['peer']:8.3f} | {r['peer_name']:<28} | {r['ratio']:9.2f} | {ceiling} |")


if __name__ == "__main__":
    main()

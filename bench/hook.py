#!/usr/bin/env python3
"""What sharding costs besides moving bytes, ours beside stock's FSDP2: CPU of forward + backward of many small units above that of the same modules
unwrapped, a unit. Rounds in shuffled order, medians. FSDP2 runs in two processes over Gloo; ours does too, and as threads that hand nothing over.

usage: hook.py --build build/release [--python PYTHON] [--rounds 3] [--units 64] [--width 16]
"""
import argparse
import json
import os
import random
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

RUNS, STEPS, ROWS = 5, 20, 8


def fsdp2(rank, ranks, port, units, width, out):
    import torch
    import torch.distributed as dist
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard

    torch.set_num_threads(1)
    os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port))
    dist.init_process_group("gloo", rank=rank, world_size=ranks)
    chain = lambda: torch.nn.Sequential(*(torch.nn.Linear(width, width) for _ in range(units)))
    mesh = init_device_mesh("cpu", (ranks,))
    sharded, local = chain(), chain()
    for layer in sharded:
        fully_shard(layer, mesh=mesh)
    fully_shard(sharded, mesh=mesh)
    x = torch.ones(ROWS, width)

    def spent(model):
        parameters = list(model.parameters())
        before = time.thread_time(), time.process_time()
        for _ in range(STEPS):
            model(x).sum().backward()
            for parameter in parameters:
                parameter.grad = None
        return [1e3 * (after - b) / STEPS / units for after, b in zip((time.thread_time(), time.process_time()), before)]

    spent(sharded), spent(local)
    runs = []
    for _ in range(RUNS):
        with_hooks, without = spent(sharded), spent(local)
        runs.append([with_hooks[0] - without[0], with_hooks[1] - without[1], without[0]])
    if rank == 0:
        thread, process, alone = (statistics.median(column) for column in zip(*runs))
        Path(out).write_text(json.dumps({"hook_ms": thread, "process_hook_ms": process, "local_ms": alone}))
    dist.barrier()
    dist.destroy_process_group()
    os._exit(0)


def run_fsdp2(args):
    import torch.multiprocessing as mp
    with tempfile.TemporaryDirectory() as scratch, socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
        free.close()
        mp.spawn(fsdp2, (2, port, args.units, args.width, f"{scratch}/out"), nprocs=2)
        return json.loads(Path(scratch, "out").read_text())


def last_object(text):
    return json.loads(text[text.rindex('{"'):].splitlines()[0])


def run_ours(args, launched, *words):
    program = [args.build / "bench/hook_bench", "--units", args.units, "--width", args.width, "--runs", RUNS, *words]
    if launched:
        program = [args.build / "tests/support/launch/tessera-launch", "--ranks", 2, "--", *program]
    environment = {**os.environ, "TESSERA_TRANSPORT": launched} if launched else None
    return last_object(subprocess.run([str(word) for word in program], env=environment, check=True, capture_output=True, text=True).stdout)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--build", type=Path, required=True)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--units", type=int, default=64)
    parser.add_argument("--width", type=int, default=16)
    args = parser.parse_args()
    ways = {"FSDP2, 2 processes, Gloo": run_fsdp2,
            "ours, 2 threads, nothing handed over": lambda a: run_ours(a, "", "--ranks", 2),
            "ours, alone": lambda a: run_ours(a, "", "--ranks", 1, "--carries"),
            "ours, 2 processes, nothing handed over": lambda a: run_ours(a, "gloo"),
            "ours, 2 processes, Gloo": lambda a: run_ours(a, "gloo", "--carries"),
            "ours, 2 processes, shared memory": lambda a: run_ours(a, "shared_memory", "--carries")}
    found = {way: [] for way in ways}
    for _ in range(args.rounds):
        for way in random.sample(list(ways), len(ways)):
            found[way].append(ways[way](args))
    print(f"{args.units} units of {args.width} × {args.width} + {args.width}; ms of CPU a unit, forward + backward, above the same modules unwrapped")
    print("| | the rank's thread | its process | unwrapped |\n|---|---|---|---|")
    for way, rounds in found.items():
        cell = lambda name: f"{statistics.median(one[name] for one in rounds):.4f}" if all(name in one for one in rounds) else ""
        print(f"| {way} | {cell('hook_ms')} | {cell('process_hook_ms')} | {cell('local_ms')} |")


if __name__ == "__main__":
    sys.exit(main())

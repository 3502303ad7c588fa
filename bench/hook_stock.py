#!/usr/bin/env python3
"""What hook_bench measures, of stock's FSDP2: CPU of forward + backward of many small units above that of the same modules unwrapped, a unit, in two
processes over Gloo. Prints one JSON object.

usage: hook_stock.py [--units 64] [--width 16]   (with a Python that has torch)
"""
import argparse
import json
import os
import socket
import statistics
import time

import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard

RANKS, RUNS, STEPS, ROWS = 2, 5, 20, 8


def worker(rank, port, args):
    torch.set_num_threads(1)
    os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port))
    dist.init_process_group("gloo", rank=rank, world_size=RANKS)
    chain = lambda: torch.nn.Sequential(*(torch.nn.Linear(args.width, args.width) for _ in range(args.units)))
    mesh = init_device_mesh("cpu", (RANKS,))
    sharded, local = chain(), chain()
    for layer in sharded:
        fully_shard(layer, mesh=mesh)
    fully_shard(sharded, mesh=mesh)
    x = torch.ones(ROWS, args.width)

    def spent(model):
        parameters = list(model.parameters())
        before = time.thread_time(), time.process_time()
        for _ in range(STEPS):
            model(x).sum().backward()
            for parameter in parameters:
                parameter.grad = None
        return [1e3 * (after - b) / STEPS / args.units for after, b in zip((time.thread_time(), time.process_time()), before)]

    spent(sharded), spent(local)
    runs = []
    for _ in range(RUNS):
        with_hooks, without = spent(sharded), spent(local)
        runs.append([with_hooks[0] - without[0], with_hooks[1] - without[1], without[0]])
    if rank == 0:
        thread, process, alone = (statistics.median(column) for column in zip(*runs))
        print(json.dumps({"hook_ms": thread, "process_hook_ms": process, "local_ms": alone}), flush=True)
    dist.barrier()
    dist.destroy_process_group()
    os._exit(0)  # what follows may hang in threads of the process group


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--units", type=int, default=64)
    parser.add_argument("--width", type=int, default=16)
    args = parser.parse_args()
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    mp.spawn(worker, (port, args), nprocs=RANKS)


if __name__ == "__main__":
    main()

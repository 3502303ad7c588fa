#!/usr/bin/env python3
"""Runs shared/peers/fsdp_step.py as it is, and adds to what it prints: the memory of rank 0's process before the model is built, and the CPU of a step.

usage: peer_step.py --peers DIR [the options of fsdp_step.py]
"""
import argparse
import contextlib
import importlib.util
import io
import json
import resource
import sys
import time
from pathlib import Path


def load(directory):
    spec = importlib.util.spec_from_file_location("fsdp_step", Path(directory, "fsdp_step.py"))
    module = importlib.util.module_from_spec(spec)
    sys.modules["fsdp_step"] = module
    spec.loader.exec_module(module)
    return module


def worker(rank, world, directory, args):
    step = load(directory)
    if args.mode != "local":  # the program, whatever it then does
        import torch.distributed.fsdp  # noqa: F401, pylint: disable=unused-import,import-outside-toplevel
    baseline = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    said = io.StringIO()
    begun = time.process_time()
    with contextlib.redirect_stdout(said):
        step.worker(rank, world, args)
    if rank == 0:
        found = json.loads(said.getvalue().splitlines()[-1])
        print(json.dumps({**found, "baseline_rss_MiB": baseline, "cpu_ms": 1e3 * (time.process_time() - begun) / (args.steps + 3)}), flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--peers", required=True)
    parser.add_argument("--mode", default="fsdp2", choices=["local", "ddp", "fsdp1", "fsdp2"])
    for name, default in (("ranks", 2), ("layers", 8), ("width", 512), ("seq", 128), ("batch", 4), ("steps", 20), ("port", 29521)):
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--fused", action="store_true")
    args = parser.parse_args()
    import torch.multiprocessing as mp  # pylint: disable=import-outside-toplevel
    ranks = 1 if args.mode == "local" else args.ranks
    mp.spawn(worker, (ranks, args.peers, args), nprocs=ranks)


if __name__ == "__main__":
    main()

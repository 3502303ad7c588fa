#!/usr/bin/env python3
"""Times one peer's save and load of one process's tensors, as shared/peers/formats.py has them, and prints one JSON object: wall and CPU seconds for
each place and shape. It saves and loads a small state before, so that imports and first calls are not counted. Loads go into tensors that exist.

usage: peer_io.py --peers DIR --peer NAME --disk DIR --memory DIR [--mib 512] [--small-tensors 4096]
"""
import argparse
import importlib.util
import json
import os
import random
import sys
import tempfile
import time
from pathlib import Path


def torch_checkpointing():
    from torch_checkpointing import CheckpointManager
    from torch_checkpointing.config import SyncCheckpointSaverConfig
    from torch_checkpointing.storage.filesystem import LocalFileSystemStorageConfig
    # Its direct writes, which are on by default, do not keep to the alignment that ext4 asks for (EINVAL), so they are off here.
    manager = CheckpointManager(CheckpointManager.Config(save=SyncCheckpointSaverConfig(),
                                                         storage_config=LocalFileSystemStorageConfig(use_direct_io=False)))
    return (lambda state, directory: manager.save(f"{directory}/c", {"state": state}),
            lambda state, directory: manager.load(f"{directory}/c", into={"state": state}))


def formats(peers):
    spec = importlib.util.spec_from_file_location("formats", peers / "formats.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def timed(common, work):
    cpu, begin = common.cpu_s(), time.perf_counter()
    work()
    return {"wall_s": time.perf_counter() - begin, "cpu_s": common.cpu_s() - cpu}


def one_round(common, save, load, state, into, scratch):
    with tempfile.TemporaryDirectory(prefix="bench-", dir=scratch) as directory:
        os.sync()
        costs = {"save": timed(common, lambda: save(state, directory)), "load": timed(common, lambda: load(into, directory))}
    assert all(common.torch.equal(state[key], into[key]) for key in list(state)[::97])
    return costs


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--peers", type=Path, required=True)
    parser.add_argument("--peer", required=True)
    parser.add_argument("--disk", required=True)
    parser.add_argument("--memory", required=True)
    parser.add_argument("--mib", type=int, default=512)
    parser.add_argument("--small-tensors", type=int, default=4096)
    args = parser.parse_args()
    common = formats(args.peers)
    torch = common.torch
    peers = {**common.PEERS, "torch_checkpointing": torch_checkpointing}
    if args.peer not in peers:
        parser.error(f"no peer {args.peer}; there are {', '.join(peers)}")
    save, load = peers[args.peer]()
    tiny = {"t": torch.zeros(16)}
    for place in (args.disk, args.memory):
        one_round(common, save, load, tiny, dict(tiny), place)
    shapes = {"big": (args.mib // 8, 2 << 20), "mid": (args.mib * 2, 128 << 10), "small": (args.small_tensors, 1 << 10)}
    found = {"disk": {}, "memory": {}, "torch": torch.__version__}
    for shape in random.sample(list(shapes), len(shapes)):
        count, numel = shapes[shape]
        state = {f"layers.{i}.weight": torch.randn(numel) for i in range(count)}
        into = {key: torch.zeros_like(tensor) for key, tensor in state.items()}
        for place, scratch in (("disk", args.disk), ("memory", args.memory)):
            found[place][shape] = one_round(common, save, load, state, into, scratch)
    json.dump(found, sys.stdout)
    print()


if __name__ == "__main__":
    main()

"""What is run: our programs, and the peers'."""
import os
from dataclasses import dataclass
from pathlib import Path

from runner import DIR, Program

HERE = Path(__file__).resolve().parent
# What a rank that is alone takes where no probe says otherwise: the cores, at most 4 (base/io_options.h).
THREADS = min(4, os.cpu_count() or 1)
PEERS = ("torch.save", "safetensors", "dcp", "dcp-2-threads", "torchsnapshot", "torch_checkpointing")


@dataclass
class Size:
    """How large everything is. The targets are about these sizes; smaller ones are for trying."""
    rounds: int = 5
    mib: int = 512
    small_mib: int = 16  # in tensors of 4 KiB
    ranks: int = 256
    many_ranks: int = 2048
    tensors: int = 1024
    stock_ranks: int = 256  # stock's planning of 256 ranks takes a minute
    control_ranks: int = 256
    inner_rounds: int = 5  # of programs that take little time, within one run
    train_steps: int = 60

    def small_tensors(self):
        return self.small_mib * 256

    def layers_bytes(self):
        """Of the state that is nearest in whole layers (shared/peers/dcp_io.py)."""
        layer = (4 * 2048 * 2048 + 8 * 2048) * 3 * 4
        return max(1, round(self.mib * 2**20 / layer)) * layer


QUICK = Size(rounds=2, mib=256, stock_ranks=64, train_steps=30)
TINY = Size(rounds=1, mib=8, small_mib=1, ranks=4, many_ranks=8, tensors=16, stock_ranks=4, control_ranks=4, inner_rounds=1, train_steps=4)


def io_name(place, shape, ranks=1, threads=0):
    return f"io.{shape}.{ranks}.{threads}.{place}"


def io(build, size, place, shape, ranks=1, threads=0):
    mib = size.small_mib if shape == "small" else size.mib
    command = [build / "bench/io_bench", "--dir", DIR, "--shape", shape, "--mib", mib, "--ranks", ranks, "--threads", threads]
    return Program(io_name(place, shape, ranks, threads), command, place)


def ours(build, size, metadata=None):
    """Those of our programs that save, load and plan. `metadata`: stock's own, to be decoded beside ours."""
    for shape in ("big", "mid", "small"):
        yield io(build, size, "disk", shape)
    yield io(build, size, "disk", "layers", ranks=2)
    for place in ("disk", "memory"):
        for threads in sorted({1, THREADS}):
            yield io(build, size, place, "big", threads=threads)
    yield io(build, size, "memory", "small")
    for name, budget in (("stall", 0), ("stall.budget", max(4, size.mib // 8))):
        yield Program(name, [build / "bench/stall_bench", "--dir", DIR, "--mib", size.mib, "--budget-mib", budget])
    for cut, ranks in (("rows", (4, 3)), ("columns", (4, 3)), ("whole", (1, 2))):
        command = [build / "bench/reshard_bench", "--dir", DIR, "--mib", size.mib, "--cut", cut, "--from", ranks[0], "--to", ranks[1]]
        yield Program(f"reshard.{cut}", command, "disk")
    yield Program("control", [build / "bench/control_bench", "--ranks", size.control_ranks, "--rounds", size.inner_rounds])
    scale = ["--ranks", size.ranks, "--tensors", size.tensors, "--rounds", size.inner_rounds]
    yield Program("plan", [build / "bench/plan_bench", *scale, "--many-ranks", size.many_ranks], most_rounds=1)
    given = ["--metadata", metadata] if metadata else []
    yield Program("metadata", [build / "bench/meta_bench", *scale, "--dir", DIR, *given], most_rounds=1)


def stock_planning(python, peers, size, out):
    """Stock's planning of a save, in CPU seconds of its coordinator; leaves stock's metadata in `out`."""
    command = [python, HERE / "peer_metadata.py", "--peers", peers, "--ranks", size.stock_ranks, "--tensors", size.tensors, "--out", out]
    return Program("peer.plan", command, most_rounds=1)


def peers(python, directory, size, places, most_rounds):
    """What others take for the same. A peer that is not installed, or does not run with this torch, is skipped."""
    for peer in PEERS:
        command = [python, HERE / "peer_io.py", "--peers", directory, "--peer", peer, "--disk", DIR, "--memory", places["memory"], "--mib", size.mib,
                   "--small-tensors", size.small_tensors()]
        yield Program(f"peer.{peer}", command, most_rounds=most_rounds, optional=True)
    for threads in (1, 2):
        command = [python, directory / "dcp_io.py", "--dir", DIR, "--ranks", 2, "--mib", size.mib, "--threads", threads, "--repeat", 2, "--fresh-dir"]
        yield Program(f"peer.dcp-2-ranks.{threads}", command, most_rounds=most_rounds, optional=True, read=second_repeat)


def second_repeat(output):
    """The first one of a process pays for imports and first calls."""
    return {"save": {"wall_s": output["save_s"][1]}, "load": {"wall_s": output["load_s"][1]}}

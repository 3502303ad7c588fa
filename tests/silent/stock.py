#!/usr/bin/env python3
"""What stock PyTorch's DCP does where tessera refuses, reports or gets it right: silent_test.cpp and optimizer_test.cpp have ours.

  stock.py [--only PATTERN]

Every case shows a fault that stock passes over without a word; a case that a later release has mended is skipped with a notice. Cases that stock
meets with an error are listed as loud, and must stay so. Ends with a table. Exit code 1 if a case went another way than the table says.
"""
import argparse
import fnmatch
import io
import logging
import os
import re
import socket
import subprocess
import sys
import tempfile
import warnings
from contextlib import redirect_stderr
from pathlib import Path

import torch
import torch.distributed as dist
import torch.distributed.checkpoint as dcp
import torch.multiprocessing as mp
from torch.distributed.checkpoint.api import CheckpointException
from torch.distributed.checkpoint.default_planner import DefaultSavePlanner
from torch.distributed.checkpoint.state_dict import get_optimizer_state_dict
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.tensor import Shard, distribute_tensor

warnings.filterwarnings("ignore")
logging.disable(logging.CRITICAL)

SILENT, LOUD, MENDED = "silent", "loud", "mended"


def alone(work):
    """Runs `work` in a directory of its own, in a job of one process."""

    def run():
        with tempfile.TemporaryDirectory() as scratch:
            return work(f"{scratch}/ckpt")

    return run


def outcome(work):
    """None, or what was thrown."""
    try:
        work()
    except (Exception, CheckpointException) as thrown:  # whatever stock throws is loud
        lines = str(thrown).strip().splitlines() or [type(thrown).__name__]
        return lines[-1][:100]  # a CheckpointException ends with the cause
    return None


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def rank_main(rank, ranks, port, name, directory, results):
    torch.set_num_threads(1)
    os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port))
    dist.init_process_group("gloo", rank=rank, world_size=ranks)
    results[rank] = RANK_CASES[name](rank, directory)
    dist.barrier()
    dist.destroy_process_group()
    sys.stdout.flush()
    os._exit(0)  # without the interpreter's teardown, in which stock now and then aborts over a thread of Gloo's that still runs


def together(name, ranks=2):
    """Runs RANK_CASES[name] on so many ranks, which are processes; the results, by rank."""

    def run():
        with tempfile.TemporaryDirectory() as scratch, mp.Manager() as manager:
            results = manager.dict()
            mp.start_processes(rank_main, (ranks, free_port(), name, f"{scratch}/ckpt", results), nprocs=ranks, start_method="fork")
            return RESULTS[name](dict(results))

    return run


def saved_dtype_changed(directory):
    planner = lambda: DefaultSavePlanner(enable_plan_caching=True)
    values = torch.tensor([1.0009765625, 2.0, 3.0])
    dcp.save({"w": values.to(torch.bfloat16)}, checkpoint_id=f"{directory}/1", planner=planner())
    dcp.save({"w": values}, checkpoint_id=f"{directory}/2", planner=planner())
    said = dcp.FileSystemReader(f"{directory}/2").read_metadata().state_dict_metadata["w"].properties.dtype
    if said == torch.float32:
        return MENDED, "the metadata has the new dtype"
    return SILENT, f"float32 was saved, the metadata says {said}"


def writer_thread_fails(directory):
    # One file is above the limit on file sizes, the other below; SIGXFSZ is ignored by Python, so that the write fails with EFBIG.
    script = f"""
import resource, threading, torch, torch.distributed.checkpoint as dcp
threading.excepthook = lambda args: None
resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, 1 << 20))
dcp.save({{"big": torch.zeros(1 << 20), "small": torch.zeros(8)}}, storage_writer=dcp.FileSystemWriter({directory!r}, thread_count=2))
print("saved")
"""
    tries = 5  # the big file must fall to the second thread, which is the first to look for one
    for _ in range(tries):
        done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
        if done.returncode == 0 and "saved" in done.stdout:
            metadata = dcp.FileSystemReader(directory).read_metadata()
            lost = [key for key in metadata.state_dict_metadata if not any(index.fqn == key for index in metadata.storage_data)]
            return SILENT, f"save returned, .metadata stands, {lost} has no data"
    return MENDED, f"save failed {tries} times: {done.stderr.strip().splitlines()[-1][:100]}"


def hole_on_one_rank_save(rank, directory):
    mesh = init_device_mesh("cpu", (2,))
    held = {"w": distribute_tensor(torch.arange(8.0), mesh, [Shard(0)])}
    wrong = outcome(lambda: dcp.save(held, checkpoint_id=directory, no_dist=True)) if rank == 0 else None
    dist.barrier()
    if wrong:
        return wrong
    into = {"w": torch.full((8,), -1.0)}
    loaded = outcome(lambda: dcp.load(into, checkpoint_id=directory, no_dist=True))
    return loaded or into["w"].tolist()


def hole_on_one_rank(results):
    if isinstance(results[0], str):
        return MENDED, results[0]
    kept = results[0].count(-1.0)
    return SILENT, f"saved and loaded; {kept} of 8 values are those from before the load"


def cast_unasked(directory):
    values = torch.tensor([1.001, 2.002, 3.003, 4.0, 5.0, 6.0])
    dcp.save({"w": values}, checkpoint_id=directory)
    into = {"w": torch.zeros(6, dtype=torch.bfloat16)}
    wrong = outcome(lambda: dcp.load(into, checkpoint_id=directory))
    if wrong:
        return MENDED, wrong
    return SILENT, f"loaded; {int((into['w'].float() != values).sum())} of 6 values differ"


def keys_of_the_checkpoint_alone(directory):
    dcp.save({"w": torch.ones(2), "scale": torch.ones(2)}, checkpoint_id=directory)
    into = {"w": torch.zeros(2)}
    said = io.StringIO()
    with redirect_stderr(said):
        wrong = outcome(lambda: dcp.load(into, checkpoint_id=directory))
    if wrong or "scale" in said.getvalue():
        return MENDED, wrong or said.getvalue()
    return SILENT, "loaded; nothing is said of 'scale'"


def optimizer_state_empty(directory):
    model = torch.nn.Linear(2, 2)
    optim = torch.optim.AdamW(model.parameters())
    model(torch.ones(1, 2)).sum().backward()
    optim.step()
    dcp.save({"optim": optim.state_dict()}, checkpoint_id=directory)
    fresh = torch.optim.AdamW(model.parameters())
    state = {"optim": fresh.state_dict()}
    wrong = outcome(lambda: dcp.load(state, checkpoint_id=directory))
    if wrong:
        return MENDED, wrong
    fresh.load_state_dict(state["optim"])
    if fresh.state:
        return MENDED, f"{len(fresh.state)} parameters have state"
    return SILENT, "loaded into a fresh AdamW: no moment and no step came back"


def step_moved_by_reading(_):
    model = torch.nn.Linear(2, 2)
    optim = torch.optim.AdamW(model.parameters())
    get_optimizer_state_dict(model, optim)
    steps = {float(state["step"]) for state in optim.state.values()}
    if steps <= {0.0}:
        return MENDED, "reading left the step alone"
    return SILENT, f"get_optimizer_state_dict() of a fresh AdamW: step is {steps.pop():.0f} before the first one"


def rank_local_merged_save(rank, directory):
    dcp.save({"stream": 100 + rank, "w": torch.ones(2)}, checkpoint_id=directory)
    into = {"stream": 0, "w": torch.zeros(2)}
    dcp.load(into, checkpoint_id=directory)
    return into["stream"]


def rank_local_merged(results):
    if results == {0: 100, 1: 101}:
        return MENDED, "each rank has its own value back"
    return SILENT, f"ranks saved 100 and 101 and got {results[0]} and {results[1]}"


def replicas_disagree_save(rank, directory):
    wrong = outcome(lambda: dcp.save({"w": torch.full((4,), float(rank))}, checkpoint_id=directory))
    into = {"w": torch.full((4,), -1.0)}
    return wrong or outcome(lambda: dcp.load(into, checkpoint_id=directory)) or into["w"].tolist()


def replicas_disagree(results):
    if isinstance(results[0], str):
        return MENDED, results[0]
    return SILENT, f"ranks saved 0 and 1, both loaded {results[0][0]:.0f} and {results[1][0]:.0f}"


def tied_destination(directory):
    dcp.save({"embedding": torch.ones(4), "head": torch.full((4,), 2.0)}, checkpoint_id=directory)
    shared = torch.zeros(4)
    into = {"embedding": shared, "head": shared}
    wrong = outcome(lambda: dcp.load(into, checkpoint_id=directory))
    if wrong:
        return MENDED, wrong
    return SILENT, f"loaded; 'embedding' was saved as 1 and is {shared[0]:.0f}"


def overlapping_destination(directory):
    dcp.save({"a": torch.ones(6), "b": torch.full((6,), 2.0)}, checkpoint_id=directory)
    memory = torch.zeros(9)
    wrong = outcome(lambda: dcp.load({"a": memory[:6], "b": memory[3:]}, checkpoint_id=directory))
    if wrong:
        return MENDED, wrong
    return SILENT, f"loaded; 'a' was saved as 1 and is {memory[:6].int().tolist()}"


def expanded_destination(directory):
    dcp.save({"w": torch.arange(6.0).view(3, 2)}, checkpoint_id=directory)
    wrong = outcome(lambda: dcp.load({"w": torch.zeros(1, 2).expand(3, 2)}, checkpoint_id=directory))
    return (LOUD, wrong) if wrong else (SILENT, "loaded three rows into one")


def strided_tensors(directory):
    # Columns, a transpose and an expanded tensor are saved as what they show.
    base = torch.arange(12.0).view(3, 4)
    given = {"columns": base[:, 1:3], "transposed": base.t(), "expanded": torch.tensor([7.0]).expand(5)}
    dcp.save(given, checkpoint_id=directory)
    into = {key: torch.zeros_like(value, memory_format=torch.contiguous_format) for key, value in given.items()}
    dcp.load(into, checkpoint_id=directory)
    right = all(torch.equal(into[key], given[key]) for key in given)
    return (LOUD, "right values") if right else (SILENT, "wrong values")


def flipped_data(directory):
    dcp.save({"w": torch.zeros(4096)}, checkpoint_id=directory)
    data = next(Path(directory).glob("*.distcp"))
    content = bytearray(data.read_bytes())
    content[content.find(bytes(8192)) + 4096] ^= 0x40
    data.write_bytes(content)
    into = {"w": torch.full((4096,), -1.0)}
    wrong = outcome(lambda: dcp.load(into, checkpoint_id=directory))
    if wrong:
        return MENDED, wrong
    return SILENT, f"loaded; {int((into['w'] != 0).sum())} of 4096 values differ"


def flipped_metadata(directory):
    # One bit turns the eight rows of the tensor's only chunk into none. (The tensor's own size stands there as well.)
    dcp.save({"w": torch.arange(8.0)}, checkpoint_id=directory)
    metadata = Path(directory, ".metadata")
    content = metadata.read_bytes()
    eight = b"K\x08\x85"  # BININT1 8, TUPLE1
    places = [match.start() + 1 for match in re.finditer(re.escape(eight), content)]
    for at in places:
        damaged = bytearray(content)
        damaged[at] ^= 0x08
        metadata.write_bytes(damaged)
        into = {"w": torch.full((8,), -1.0)}
        if not outcome(lambda: dcp.load(into, checkpoint_id=directory)) and into["w"].tolist() != list(range(8)):
            return SILENT, f"loaded; {into['w'].tolist().count(-1)} of 8 values are those from before the load"
    return MENDED, f"{len(places)} wrong bits were all found"


def changed_after_async_return(directory):
    # Stock copies before it returns: what is changed afterwards is not saved.
    values = torch.zeros(1 << 20)
    mesh_alone(lambda: check_async(values, directory))
    into = {"w": torch.full((1 << 20,), -1.0)}
    dcp.load(into, checkpoint_id=directory)
    return (LOUD, "right values: the state is copied before async_save returns") if bool((into["w"] == 0).all()) else (SILENT, "the change was saved")


def check_async(values, directory):
    future = dcp.async_save({"w": values}, checkpoint_id=directory)
    values.fill_(1)
    future.result()


def mesh_alone(work):
    os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT=str(free_port()))
    dist.init_process_group("gloo", rank=0, world_size=1)
    work()
    dist.destroy_process_group()


RANK_CASES = {"hole_on_one_rank": hole_on_one_rank_save, "rank_local_merged": rank_local_merged_save, "replicas_disagree": replicas_disagree_save}
RESULTS = {"hole_on_one_rank": hole_on_one_rank, "rank_local_merged": rank_local_merged, "replicas_disagree": replicas_disagree}

# Case, what stock 2.13 does with it, how to see that, what tessera does.
CASES = [
    ("dtype changed between two saves under a cached plan", SILENT, alone(saved_dtype_changed), "no plan is cached: the metadata has the new dtype"),
    ("second writer thread cannot write", SILENT, alone(writer_thread_fails), "io or no_space on every rank, nothing appears"),
    ("a hole in a one-rank save", SILENT, together("hole_on_one_rank"), "invalid_argument that counts what is missing"),
    ("float32 loaded into bfloat16 unasked", SILENT, alone(cast_unasked), "mismatch, unless allow_cast"),
    ("keys that only the checkpoint has", SILENT, alone(keys_of_the_checkpoint_alone), "listed in LoadReport::unexpected"),
    ("optimizer state loaded into a fresh optimizer", SILENT, alone(optimizer_state_empty), "all of the state comes back"),
    ("step moved by reading the state", SILENT, alone(step_moved_by_reading), "reading changes nothing"),
    ("rank-local values merged away", SILENT, together("rank_local_merged"), "kept by rank, or mismatch"),
    ("replicas of a tensor that disagree", SILENT, together("replicas_disagree"), "mismatch with key and ranks under compare_replicas"),
    ("tied tensors that the checkpoint has untied", SILENT, alone(tied_destination), "mismatch that names both"),
    ("tensors that overlap in memory in part", SILENT, alone(overlapping_destination), "invalid_argument that names both, before a byte changes"),
    ("an expanded tensor as destination", LOUD, alone(expanded_destination), "invalid_argument, before a byte changes"),
    ("columns, transposes, expanded tensors saved", LOUD, alone(strided_tensors), "right values"),
    ("tensors changed after async_save returned", LOUD, alone(changed_after_async_return), "right values once staged"),
    ("a flipped bit in data", SILENT, alone(flipped_data), "corrupt, with file and offset"),
    ("a flipped bit in metadata", SILENT, alone(flipped_metadata), "corrupt"),
]


def print_table(rows):
    print()
    width = [max(len(row[column]) for row in rows) for column in range(3)]
    for row in rows:
        print(" | ".join(f"{cell:{width[column]}}" for column, cell in enumerate(row)).rstrip())


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default="*")
    args = parser.parse_args()
    torch.set_num_threads(1)
    table, failed = [], 0
    for case, expected, run, ours in CASES:
        if not fnmatch.fnmatch(case, args.only):
            continue
        verdict, words = run()
        if verdict == expected:
            state = "ok     "
        elif verdict == MENDED:
            state = "skipped"
            words = f"mended in torch {torch.__version__}: {words}"
        else:
            state = "FAILED "
            failed += 1
        print(f"{state} stock: {case}: {words}", flush=True)
        table.append((case, f"{'silent' if verdict == SILENT else 'not silent'}: {words}", ours))
    print_table([("case", f"stock {torch.__version__}", "tessera"), *table])
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())

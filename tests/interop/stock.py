#!/usr/bin/env python3
"""Stock PyTorch's side of the interchange, on the models of tests/seed/seed_model.h.

  stock.py save DIRECTORY VALUES --model skip --wrap fsdp1|fsdp2 --kind sharded|full|local [--optim] [--rule adamw] [--ranks 2]
      saves with stock, two processes over Gloo; VALUES gets the whole tensors (index.json and one file of bytes a key)
  stock.py load DIRECTORY VALUES --model … --wrap plain|fsdp1|fsdp2|torch_save --kind … [--optim] [--rule adamw] [--ranks 2]
                [--element]  (units aligned to one element: no torch.no_grad() needed to load LOCAL)
      loads what tessera saved, into a model of other values, and compares every tensor of VALUES bit for bit

From Python, forked([…the same words…]) does it in a fork, so that torch is imported once for many: seconds each time.
"""
import argparse
import json
import os
import socket
import subprocess
import sys
import tempfile
import warnings
from contextlib import nullcontext
from pathlib import Path

import torch
import torch.distributed as dist
import torch.distributed.checkpoint as dcp
import torch.multiprocessing as mp
from torch import nn
from torch.distributed.checkpoint.format_utils import dcp_to_torch_save
from torch.distributed.checkpoint.state_dict import StateDictOptions, get_state_dict, set_state_dict
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import (FullStateDictConfig, FullyShardedDataParallel as FSDP, LocalStateDictConfig, ShardedStateDictConfig,
                                    StateDictType, fully_shard)

warnings.filterwarnings("ignore")


def linear():
    return nn.Linear(10, 10, bias=False)


class SkipModule(nn.Module):
    def __init__(self):
        super().__init__()
        self.lin = linear()


class NestedLinear(nn.Module):
    def __init__(self, wrap):
        super().__init__()
        self.nested_linear = wrap(linear())


class SkipModel(nn.Module):
    def __init__(self, wrap):
        super().__init__()
        self.linear = linear()
        self.linear_skip = SkipModule()
        self.nested_linear = wrap(NestedLinear(wrap))


class Dot(nn.Module):
    def __init__(self):
        super().__init__()
        self.dot = nn.Parameter(torch.rand(1))


class Tail(nn.Module):
    def __init__(self):
        super().__init__()
        self.tall = nn.Parameter(torch.rand(10, 1, 7))
        self.scalar = nn.Parameter(torch.rand(()))


class UnevenModel(nn.Module):
    def __init__(self, wrap):
        super().__init__()
        self.odd = nn.Parameter(torch.rand(7, 10))
        self.row = nn.Parameter(torch.rand(1, 3))
        self.none = nn.Parameter(torch.rand(0, 4))
        self.tail = wrap(Tail())
        self.one = wrap(Dot())
        self.register_buffer("steps", torch.tensor(7))
        self.register_buffer("table", torch.rand(3, dtype=torch.float64))


class Block(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv = nn.Linear(width, 3 * width, bias=False)
        self.out = nn.Linear(width, width)
        self.up, self.down = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)


class Gpt(nn.Module):
    def __init__(self, wrap, layers=2, width=64, seq=16, vocab=50):
        super().__init__()
        self.tok, self.pos = nn.Embedding(vocab, width), nn.Embedding(seq, width)
        self.blocks = nn.ModuleList(wrap(Block(width)) for _ in range(layers))
        self.norm, self.head = nn.LayerNorm(width), nn.Linear(width, vocab, bias=False)


class Flat(nn.Module):
    def __init__(self, *sizes):
        super().__init__()
        self.weights = nn.ParameterList(nn.Parameter(torch.rand(size)) for size in sizes)


MODELS = {"skip": SkipModel, "uneven": UnevenModel, "gpt": Gpt, "flat59": lambda wrap: Flat((5, 7), (3, 5), (9,)), "flat2": lambda wrap: Flat((2,))}


# As tests/seed/seed_model.cpp builds them.
OPTIMIZERS = {
    "adamw": lambda groups: torch.optim.AdamW(groups, lr=1e-2),
    "adam": lambda groups: torch.optim.Adam(groups, lr=1e-2, weight_decay=0.1, amsgrad=True),
    "sgd": lambda groups: torch.optim.SGD(groups, lr=1e-2, momentum=0.9, weight_decay=0.1, nesterov=True),
    "adagrad": lambda groups: torch.optim.Adagrad(groups, lr=1e-2, initial_accumulator_value=0.5),
}


def build(args, seed, ranks):
    torch.manual_seed(seed)
    cpu = torch.device("cpu")
    if args.wrap == "fsdp1":
        wrap = lambda module: FSDP(module, device_id=cpu, use_orig_params=args.model == "gpt")  # groups split a flat parameter
    elif args.wrap == "fsdp2":
        mesh = init_device_mesh("cpu", (ranks,))
        wrap = lambda module: fully_shard(module, mesh=mesh)
    else:
        wrap = lambda module: module
    model = wrap(MODELS[args.model](wrap))
    optim = None
    if args.optim:
        decays = lambda name: name.endswith("weight") and "norm" not in name
        clean = [(name.replace("_fsdp_wrapped_module.", ""), p) for name, p in model.named_parameters()]
        groups = [p for _, p in clean]
        if args.model == "gpt":
            groups = [{"params": [p for n, p in clean if not decays(n)], "weight_decay": 0.0}, {"params": [p for n, p in clean if decays(n)]}]
        optim = OPTIMIZERS[args.rule](groups)
    return model, optim


KINDS = {"sharded": StateDictType.SHARDED_STATE_DICT, "full": StateDictType.FULL_STATE_DICT, "local": StateDictType.LOCAL_STATE_DICT}


def state_of(model, optim, args):
    if optim is not None:
        model_state, optim_state = get_state_dict(model, optim, options=StateDictOptions(full_state_dict=args.kind == "full"))
        return {"model": model_state, "optim": optim_state}
    if args.wrap == "fsdp1":
        FSDP.set_state_dict_type(model, KINDS[args.kind])
    return model.state_dict()


def take_over(model, optim, state, args):
    if optim is not None:
        set_state_dict(model, optim, model_state_dict=state["model"], optim_state_dict=state["optim"],
                       options=StateDictOptions(full_state_dict=args.kind == "full"))
    else:
        model.load_state_dict(state)


def bytes_of(tensor):
    return tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes() if tensor.numel() else b""


def whole_values(model, optim):
    """Key → bytes of every whole tensor, as seed_model.h's whole() has them."""
    full = StateDictOptions(full_state_dict=True)
    if optim is None:
        from torch.distributed.checkpoint.state_dict import get_model_state_dict
        return {key: bytes_of(value) for key, value in get_model_state_dict(model, options=full).items()}
    model_state, optim_state = get_state_dict(model, optim, options=full)
    values = {f"model.{key}": bytes_of(value) for key, value in model_state.items()}
    for name, fields in optim_state["state"].items():
        for field, value in fields.items():
            values[f"optim.state.{name}.{field}"] = bytes_of(value)
    return values


def read_values(directory):
    index = json.loads(Path(directory, "index.json").read_text())
    return {key: Path(directory, file).read_bytes() for key, file in index.items()}


def compare(actual, expected, what):
    wrong = [key for key, value in expected.items() if actual.get(key) != value]
    for key in wrong[:3]:
        print(f"{what}: '{key}' {'differs' if key in actual else 'is missing'}", flush=True)
    return len(wrong)


def save(rank, ranks, args):
    model, optim = build(args, 100, ranks)
    if optim is not None:  # two steps on gradients that differ by rank and element
        for step in range(2):
            for number, parameter in enumerate(model.parameters()):
                parameter.grad = torch.full_like(parameter, 0.01 * (number + 1) * (step + 1))
            optim.step()
        optim.zero_grad()
    values = {} if args.model.startswith("flat") else whole_values(model, optim)
    dcp.save(state_of(model, optim, args), checkpoint_id=args.directory)
    if rank == 0:
        Path(args.values).mkdir(parents=True, exist_ok=True)
        index = {}
        for key, value in values.items():
            index[key] = f"{len(index)}.bin"
            Path(args.values, index[key]).write_bytes(value)
        Path(args.values, "index.json").write_text(json.dumps(index))
    return 0


def load(rank, ranks, args):
    expected = read_values(args.values)
    if args.wrap == "torch_save":
        with tempfile.TemporaryDirectory() as scratch:
            dcp_to_torch_save(args.directory, f"{scratch}/all.pt")
            nested = torch.load(f"{scratch}/all.pt", weights_only=False)
        flat = {}

        def walk(path, value):
            if isinstance(value, dict):
                for key, inner in value.items():
                    walk([*path, str(key)], inner)
            elif isinstance(value, torch.Tensor):
                flat[".".join(path)] = bytes_of(value)

        walk([], nested)
        return compare(flat, expected, "dcp_to_torch_save")
    model, optim = build(args, 200, ranks)
    if compare(whole_values(model, optim), expected, "") == 0:
        raise AssertionError("the two seeds do not differ before the load")
    with torch.no_grad() if args.kind == "local" and not args.element else nullcontext():
        state = state_of(model, optim, args)
        dcp.load(state, checkpoint_id=args.directory)
        take_over(model, optim, state, args)
    wrong = compare(whole_values(model, optim), expected, f"rank {rank}")
    if rank == 0 and not wrong:
        print(f"stock equal {len(expected)} tensors", flush=True)
    return wrong


def worker(rank, ranks, port, args):
    torch.set_num_threads(1)
    if args.wrap not in ("plain", "torch_save"):
        os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port))
        dist.init_process_group("gloo", rank=rank, world_size=ranks)
    wrong = (save if args.verb == "save" else load)(rank, ranks, args)
    if dist.is_initialized():
        dist.barrier()
        dist.destroy_process_group()
        # Without the interpreter's teardown, in which stock now and then aborts over a thread of Gloo's that still runs.
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(1 if wrong else 0)
    if wrong:
        sys.exit(1)


def main(words=None):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("verb", choices=["save", "load"])
    parser.add_argument("directory")
    parser.add_argument("values")
    parser.add_argument("--model", choices=list(MODELS), default="skip")
    parser.add_argument("--wrap", choices=["plain", "fsdp1", "fsdp2", "torch_save"], default="fsdp1")
    parser.add_argument("--kind", choices=list(KINDS), default="sharded")
    parser.add_argument("--optim", action="store_true")
    parser.add_argument("--rule", choices=list(OPTIMIZERS), default="adamw", help="of the optimizer")
    parser.add_argument("--element", action="store_true")
    parser.add_argument("--ranks", type=int, default=2)
    args = parser.parse_args(words)
    if args.wrap in ("plain", "torch_save"):
        return worker(0, 1, 0, args)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    mp.start_processes(worker, (args.ranks, port, args), nprocs=args.ranks, start_method="fork")


def in_fork(words, output):
    os.dup2(output, 1)
    os.dup2(output, 2)
    main(words)


def forked(words, timeout_s=300):
    with tempfile.TemporaryFile("w+") as output:
        process = mp.get_context("fork").Process(target=in_fork, args=(words, output.fileno()))
        process.start()
        process.join(timeout_s)
        if process.exitcode is None:
            process.kill()
            raise subprocess.TimeoutExpired(words, timeout_s)
        output.seek(0)
        return subprocess.CompletedProcess(words, process.exitcode, output.read(), "")


if __name__ == "__main__":
    main()

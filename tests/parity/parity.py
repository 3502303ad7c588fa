#!/usr/bin/env python3
"""Trains the models of parity_train.cpp with stock's FSDP2 and with ours, from the same weights on the same data, and compares what becomes of them.

  parity.py --launch build/dev/tests/support/launch/tessera-launch --train build/dev/tests/parity/parity_train

2 processes, AdamW or SGD, no clipping: every parameter is equal bit for bit, after 3 steps and after 20, over every transport.
3 and 4 processes, and clipping, with SGD: ‖a − b‖ ≤ 1e-6 ‖b‖ for every parameter, since both round the mean or the norm in another place.
The same of fused AdamW, whose kernel rounds the last elements of a tensor in another way than the others: our tensors end elsewhere.
Exit code 77 where PyTorch's Python, or its distributed part, is not there.
"""
import argparse
import os
import socket
import subprocess
import sys
import tempfile
import time
import warnings

try:
    import torch
    import torch.distributed as dist
    if not dist.is_available() or not dist.is_gloo_available():
        raise ImportError("torch.distributed has no Gloo")
    import torch.distributed.checkpoint as dcp
    import torch.multiprocessing as mp
    import torch.nn.functional as F
    from torch import nn
    from torch.distributed.checkpoint.state_dict import StateDictOptions, get_model_state_dict
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard
except ImportError as missing:
    print(f"skipped: {missing}")
    sys.exit(77)

warnings.filterwarnings("ignore")
ROWS, WIDTH, LAYERS, SEQ, VOCAB = 12, 64, 2, 16, 50
STEPS = (3, 20)
STEEP = 32  # a loss times this has gradients that are worth clipping


class Mlp(nn.Module):
    def __init__(self, wrap):
        super().__init__()
        setattr(self, "in", wrap(nn.Linear(10, 37)))
        self.mid = wrap(nn.Linear(37, 23))
        self.out = nn.Linear(23, 5)

    def forward(self, x):
        return self.out(self.mid(getattr(self, "in")(x).tanh()).tanh())


def square():
    return nn.Linear(10, 10, bias=False)


class SkipModule(nn.Module):
    def __init__(self):
        super().__init__()
        self.lin = square()

    def forward(self, x):
        return self.lin(x)


class NestedLinear(nn.Module):
    def __init__(self, wrap):
        super().__init__()
        self.nested_linear = wrap(square())

    def forward(self, x):
        return self.nested_linear(x)


class SkipModel(nn.Module):
    def __init__(self, wrap):
        super().__init__()
        self.linear = square()
        self.linear_skip = SkipModule()
        self.nested_linear = wrap(NestedLinear(wrap))

    def forward(self, x):
        return self.linear_skip(self.nested_linear(self.linear(x)))


class Block(nn.Module):
    def __init__(self):
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(WIDTH), nn.LayerNorm(WIDTH)
        self.qkv = nn.Linear(WIDTH, 3 * WIDTH, bias=False)
        self.out = nn.Linear(WIDTH, WIDTH)
        self.up, self.down = nn.Linear(WIDTH, 4 * WIDTH), nn.Linear(4 * WIDTH, WIDTH)

    def forward(self, x):
        split = lambda t: t.view(x.size(0), x.size(1), WIDTH // 32, 32).transpose(1, 2)
        q, k, v = self.qkv(self.norm1(x)).chunk(3, -1)
        mixed = F.scaled_dot_product_attention(split(q), split(k), split(v), is_causal=True)
        attended = x + self.out(mixed.transpose(1, 2).reshape(x.shape))
        return attended + self.down(F.gelu(self.up(self.norm2(attended))))


class Gpt(nn.Module):
    def __init__(self, wrap):
        super().__init__()
        self.tok, self.pos = nn.Embedding(VOCAB, WIDTH), nn.Embedding(SEQ, WIDTH)
        self.blocks = nn.ModuleList(wrap(Block()) for _ in range(LAYERS))
        self.norm, self.head = nn.LayerNorm(WIDTH), nn.Linear(WIDTH, VOCAB, bias=False)

    def forward(self, tokens):
        x = self.tok(tokens) + self.pos(torch.arange(tokens.size(1)))
        for block in self.blocks:
            x = block(x)
        return self.head(self.norm(x))


MODELS = {"mlp": Mlp, "skip": SkipModel, "gpt": Gpt}


def loss_of(name, model, step, rank, ranks):
    """What loss_of() in parity_train.cpp computes."""
    each = ROWS // ranks
    if name == "gpt":
        tokens = (torch.arange(ROWS * (SEQ + 1)) * (7 + step) % 47).view(ROWS, SEQ + 1)[rank * each:(rank + 1) * each]
        return F.cross_entropy(model(tokens[:, :-1]).flatten(0, 1), tokens[:, 1:].flatten())
    x = torch.sin(torch.arange(ROWS * 10, dtype=torch.float32) * (1.7 + step)).view(ROWS, 10)[rank * each:(rank + 1) * each]
    return model(x).square().mean()


def build(name, wrap=lambda module: module):
    torch.manual_seed(100)
    return wrap(MODELS[name](wrap))


def optimizer(kind, model):
    if kind == "sgd":
        return torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9, weight_decay=0.01, foreach=False)
    return torch.optim.AdamW(model.parameters(), lr=1e-2, foreach=False, fused=kind == "adamw_fused")


def train(name, kind, clip, rank, ranks):
    """Steps → the whole parameters after so many."""
    mesh = init_device_mesh("cpu", (ranks,))
    model = build(name, lambda module: fully_shard(module, mesh=mesh))
    optim, found = optimizer(kind, model), {}
    for step in range(1, max(STEPS) + 1):
        loss = loss_of(name, model, step, rank, ranks)
        (loss * STEEP if clip else loss).backward()
        if clip:
            norm = nn.utils.clip_grad_norm_(model.parameters(), clip).full_tensor().item()
            assert norm > clip or step > 1, f"{name} has nothing to clip: {norm}"
        optim.step()
        optim.zero_grad()
        if step in STEPS:
            full = get_model_state_dict(model, options=StateDictOptions(full_state_dict=True))
            found[step] = {key: value.clone() for key, value in full.items()}
    return found


def worker(rank, ranks, port, cases, out):
    torch.set_num_threads(1)
    os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port))
    dist.init_process_group("gloo", rank=rank, world_size=ranks)
    found = {(kind, clip, name): train(name, kind, clip, rank, ranks) for kind, clip in cases for name in MODELS}
    if rank == 0:
        torch.save(found, out)
    dist.barrier()
    dist.destroy_process_group()
    sys.stdout.flush()
    os._exit(0)  # without the interpreter's teardown, in which stock now and then aborts over a thread of Gloo's that still runs


def stock(ranks, cases, scratch):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    out = f"{scratch}/stock.{ranks}.pt"
    mp.start_processes(worker, (ranks, port, cases, out), nprocs=ranks, start_method="fork")
    return torch.load(out)


def ours(args, ranks, kind, clip, transport, scratch):
    """(name, steps) → the parameters, read with DCP."""
    out = tempfile.mkdtemp(dir=scratch)
    command = [args.train, f"{scratch}/initial", out, "--steps", ",".join(map(str, STEPS)), "--optim", kind, "--clip", str(clip)]
    environment = dict(os.environ)
    if transport == "threads":
        command += ["--ranks", str(ranks)]
    else:
        command = [args.launch, "--ranks", str(ranks), "--deadline", "120", "--", *command]
        environment["TESSERA_TRANSPORT"] = transport
    done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=200, check=False)
    if done.returncode:
        raise SystemExit(f"exit code {done.returncode} of {' '.join(command)}: {done.stdout[-2000:]}")
    found = {}
    for name in MODELS:
        for steps in STEPS:
            state = {key: torch.empty_like(value) for key, value in build(name).state_dict().items()}
            dcp.load(state, checkpoint_id=f"{out}/{name}.{steps}", no_dist=True)
            found[name, steps] = state
    return found


def apart(a, b):
    """‖a − b‖ / ‖b‖."""
    return ((a.double() - b.double()).norm() / b.double().norm()).item()


def bits_differ(a, b):
    return int((a.contiguous().view(torch.int32) != b.contiguous().view(torch.int32)).sum())


def compare(theirs, mine, exact, title):
    """Prints a line a model and number of steps; returns how many of them are too far apart."""
    wrong = 0
    for (name, steps), parameters in mine.items():
        expected = theirs[name][steps]
        assert parameters.keys() == expected.keys(), (parameters.keys(), expected.keys())
        moved = max(apart(value, start) for value, start in zip(expected.values(), build(name).state_dict().values()))
        assert moved > 1e-3, f"{name} did not train: {moved}"
        differ = {key: bits_differ(parameters[key], value) for key, value in expected.items()}
        furthest = max(apart(parameters[key], value) for key, value in expected.items())
        good = not any(differ.values()) if exact else furthest <= 1e-6
        wrong += not good
        how = "equal bit for bit" if not any(differ.values()) else f"{sum(differ.values())} elements differ, at most {furthest:.2g} a parameter"
        print(f"{'ok    ' if good else 'FAILED'} {title}, {name}, {steps} steps: {how}", flush=True)
        if not good:
            print("       " + ", ".join(f"{key}: {count}" for key, count in differ.items() if count), flush=True)
    return wrong


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--launch", required=True)
    parser.add_argument("--train", required=True)
    args = parser.parse_args()
    torch.set_num_threads(1)
    begin, wrong = time.monotonic(), 0
    # ranks → (optimizer, clip, equal bit for bit?, our transports)
    cases = {2: [("adamw", 0, True, ("gloo", "shared_memory", "threads")), ("adamw_fused", 0, False, ("gloo",)), ("sgd", 0, True, ("gloo",)),
                 ("sgd", 1.0, False, ("gloo",))],
             3: [("sgd", 0, False, ("gloo", "threads")), ("sgd", 1.0, False, ("shared_memory",))],
             4: [("sgd", 0, False, ("shared_memory", "threads")), ("sgd", 1.0, False, ("threads",))]}
    with tempfile.TemporaryDirectory() as scratch:
        for name in MODELS:
            dcp.save(build(name).state_dict(), checkpoint_id=f"{scratch}/initial/{name}", no_dist=True)
        for ranks, of_ranks in cases.items():
            theirs = stock(ranks, [(kind, clip) for kind, clip, _, _ in of_ranks], scratch)
            for kind, clip, exact, transports in of_ranks:
                of_case = {name: theirs[kind, clip, name] for name in MODELS}
                for transport in transports:
                    title = f"{ranks} ranks, {kind}{f', clipped at {clip}' if clip else ''}, {transport}"
                    wrong += compare(of_case, ours(args, ranks, kind, clip, transport, scratch), exact, title)
    print(f"{time.monotonic() - begin:.0f} s", flush=True)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())

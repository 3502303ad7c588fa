#!/usr/bin/env python3
"""`tessera convert` held against what others read.

pairs    Every fixture into every format that can hold it, and each of those into every other: `tessera diff` says equal, and stock PyTorch
         (DCP), the safetensors package and torch.load(weights_only=True) read the expected bytes.
kill     kill -9 at points spread over a conversion: the source is untouched, nothing of the target is there, and the next run finishes.
partial  strace counts the bytes that reading one block of rows costs: at most 1.05 of what is needed, and the metadata.
contained  strace of `diff` on every hostile checkpoint: nothing outside it is opened.
memory   A conversion of --mib in --tensors tensors, there and back: peak memory at most --memory and 64 MiB.

Usage: exchange.py --build build/dev [--data tests/golden/data] [--only pairs,kill,…] [--mib 256] [--tensors 256]
"""
import argparse
import hashlib
import json
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
MEMORY_MIB = 256


class Failed(Exception):
    pass


def run(*command, ok=(0,)):
    done = subprocess.run([str(c) for c in command], capture_output=True, text=True, errors="replace", timeout=600, check=False)
    if done.returncode not in ok:
        raise Failed(f"{' '.join(map(str, command))}: exit code {done.returncode}: {(done.stderr or done.stdout).strip()[:500]}")
    return done


def digests(path):
    """File → digest of everything below a path."""
    files = [path] if path.is_file() else sorted(p for p in path.rglob("*") if p.is_file())
    return {str(p): hashlib.sha256(p.read_bytes()).hexdigest() for p in files}


def raw(tensor):
    import torch

    tensor = tensor.detach().contiguous()
    if tensor.dim() == 0:
        tensor = tensor.reshape(1)
    return hashlib.sha256(tensor.view(torch.uint8).numpy().tobytes()).hexdigest() if tensor.numel() else hashlib.sha256(b"").hexdigest()


def read_by_others(path):
    """Flat key → sha256 of the tensor's bytes, as stock PyTorch or the safetensors package reads them."""
    import torch

    found = {}

    def walk(prefix, value):
        if isinstance(value, dict):
            for key, inner in value.items():
                walk([*prefix, str(key)], inner)
        elif isinstance(value, list):
            for i, inner in enumerate(value):
                walk([*prefix, str(i)], inner)
        elif isinstance(value, torch.Tensor):
            found[".".join(prefix)] = raw(value)

    if path.suffix == ".pt":
        walk([], torch.load(path, weights_only=True))
    elif path.suffix == ".safetensors" or any(path.glob("*.safetensors")):
        from safetensors.torch import load_file

        for file in [path] if path.is_file() else sorted(path.glob("*.safetensors")):
            for key, tensor in load_file(file).items():
                found[key] = raw(tensor)
    else:
        from torch.distributed.checkpoint.format_utils import dcp_to_torch_save

        with tempfile.NamedTemporaryFile(suffix=".pt") as scratch:
            dcp_to_torch_save(str(path), scratch.name)
            walk([], torch.load(scratch.name, weights_only=False))
    return found


def check_read_by_others(path, entries):
    found = read_by_others(path)
    for key, entry in entries.items():
        if entry["kind"] != "tensor":
            continue
        if found.get(key) != entry["sha256"]:
            raise Failed(f"{path.name}: {key!r} is {found.get(key)} for others, {entry['sha256']} here")


def sources(data):
    for expected in sorted(data.glob("torch-*/*/expected.json")):
        ckpt = expected.parent / "ckpt"
        files = sorted(ckpt.glob("*.pt"))
        yield from files or [ckpt]


def pairs(options, scratch):
    tessera = options.tessera
    made = refused = 0
    for number, source in enumerate(sources(options.data)):
        entries = json.loads(run(tessera, "ls", "--json", "--digest", source).stdout)["entries"]
        work = scratch / str(number)
        work.mkdir()
        held = {}
        for suffix in ("dcp", "safetensors", "pt"):
            target = work / (f"a.{suffix}" if suffix != "dcp" else "a")
            if suffix == "pt" and any(e["kind"] == "object" and e["value"]["t"] in ("dict", "OrderedDict") for e in entries.values()):
                refused += 1  # a dict that was one leaf is many in a nested file: the same state under other keys
                continue
            done = run(tessera, "convert", source, target, *(["--ranks", "3"] if suffix == "dcp" else []), ok=(0, 1, 2, 3))
            if done.returncode != 0:
                if not re.search(r"refuses|lacks|cannot hold|cannot be taken out|cannot be written|not UTF-8|no place|half", done.stderr):
                    raise Failed(f"{source} → {suffix}: {done.stderr}")
                refused += 1
                continue
            run(tessera, "diff", source, target)
            check_read_by_others(target, entries)
            held[suffix] = target
            made += 1
        for a, from_path in held.items():
            for b in held:
                target = work / (f"{a}-{b}" + ("" if b == "dcp" else f".{b}"))
                run(tessera, "convert", from_path, target)
                run(tessera, "diff", source, target)
                made += 1
        if "safetensors" in held:
            target = work / "hf"
            run(tessera, "convert", source, target, "--to", "safetensors", "--file-size", "200")
            run(tessera, "diff", source, target)
            check_read_by_others(target, entries)
            made += 1
        shutil.rmtree(work)
    return f"{made} conversions equal, {refused} left out because the format cannot hold them"


def make_source(options, scratch, mib, tensors):
    """A DCP directory made by stock."""
    import torch
    import torch.distributed.checkpoint as dcp

    torch.manual_seed(0)
    rows = mib * 1024 * 1024 // tensors // 4 // 256
    state = {f"layer.{i:04d}.weight": torch.randn(rows, 256) for i in range(tensors)}
    dcp.save(state, checkpoint_id=str(scratch / "source"), no_dist=True)
    return scratch / "source"


def kill(options, scratch):
    source = make_source(options, scratch, 160, 64)
    before = digests(source)
    killed = 0
    for target in (scratch / "t.safetensors", scratch / "t.pt", scratch / "t"):
        begin = time.monotonic()
        run(options.tessera, "convert", source, target)
        took = time.monotonic() - begin
        hits = 0
        for attempt in range(40):
            if hits == 7:
                break
            shutil.rmtree(target) if target.is_dir() else target.unlink(missing_ok=True)
            process = subprocess.Popen([str(options.tessera), "convert", str(source), str(target)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            time.sleep(took * (hits + 0.5) / 7)
            process.send_signal(signal.SIGKILL)
            if process.wait() != -signal.SIGKILL:
                took *= 0.9  # it was done before: the next one is aimed earlier
                continue
            hits += 1
            if target.exists():  # the last instant: it was published, and must be whole
                run(options.tessera, "diff", source, target)
            else:
                run(options.tessera, "convert", source, target)
            run(options.tessera, "diff", source, target)
            if digests(source) != before:
                raise Failed("the source changed")
        killed += hits
    if killed < 20:
        raise Failed(f"only {killed} runs were killed in time")
    return f"{killed} kills: source untouched, nothing half there, each finished when run again"


def partial(options, scratch):
    source = make_source(options, scratch, options.mib, 4)
    program = options.build / "tests/exchange/read_rows"
    if not program.exists():
        raise Failed(f"{program} is not built")
    trace = scratch / "trace"
    needed = int(run("strace", "-f", "-e", "trace=pread64,read,preadv,readv,mmap", "-o", trace, program, source, "layer.0002.weight", "1000", "2000").stdout)
    metadata = (source / ".metadata").stat().st_size
    total = 0
    for line in trace.read_text(errors="replace").splitlines():
        done = re.search(r"(pread64|read|preadv|readv)\(.*\) = (\d+)$", line)
        if done:
            total += int(done.group(2))
    # What starting a program reads (its libraries' headers) is not the checkpoint's.
    if total > 1.05 * needed + metadata + 64 * 1024:
        raise Failed(f"read {total} bytes for {needed}")
    return f"{needed} bytes of rows out of {options.mib} MiB: {total} read in all, metadata ({metadata}) and the program's own start included"


def memory(options, scratch):
    source = make_source(options, scratch, options.mib, options.tensors)
    peaks = []
    for a, b in ((source, scratch / "m.safetensors"), (scratch / "m.safetensors", scratch / "back")):
        process = subprocess.Popen([str(options.tessera), "convert", str(a), str(b), "--memory", f"{MEMORY_MIB}MiB"], stdout=subprocess.DEVNULL)
        peak = 0
        # The high-water mark of this program alone: what wait4() says begins with that of the process that forked.
        while process.poll() is None:
            try:
                found = re.search(r"VmHWM:\s+(\d+) kB", Path(f"/proc/{process.pid}/status").read_text(encoding="utf-8"))
                peak = max(peak, int(found.group(1)) // 1024 if found else 0)
            except OSError:
                break
            time.sleep(0.002)
        if process.wait() != 0 or peak == 0:
            raise Failed(f"{a} → {b} failed")
        peaks.append(peak)
    run(options.tessera, "diff", source, scratch / "back")
    if max(peaks) > MEMORY_MIB + 64:
        raise Failed(f"peaks of {peaks} MiB")
    return f"{options.mib} MiB in {options.tensors} tensors there and back: peaks of {peaks[0]} and {peaks[1]} MiB"


def contained(options, scratch):
    """What reading a hostile checkpoint opens: only names below it."""
    cases = sorted(p for p in (options.data / "hostile").iterdir() if p.is_dir())
    trace, opened = scratch / "trace", 0
    for case in cases:
        run("strace", "-f", "-e", "trace=open,openat,openat2,execve,connect", "-o", trace, options.tessera, "diff", case.resolve(), case.resolve(), ok=(0, 1, 3))
        # Until main() has begun, the loader opens libraries; the first directory that we open by name is the checkpoint's parent.
        lines = trace.read_text(errors="replace").splitlines()
        begin = next(i for i, line in enumerate(lines) if f'"{case.resolve().parent}"' in line or f'"{case.resolve()}"' in line)
        for line in lines[begin:]:
            if "execve(" in line or "connect(" in line:
                raise Failed(f"{case.name}: {line}")
            found = re.search(r'open(?:at2?)?\((AT_FDCWD|\d+), "([^"]*)"', line)
            if not found:
                continue
            opened += 1
            where, name = found.groups()
            inside = str(case.resolve()).startswith(name) or name.startswith(str(case.resolve())) if where == "AT_FDCWD" else "/" not in name and name != ".."
            if not inside:
                raise Failed(f"{case.name}: {line}")
    return f"{len(cases)} hostile checkpoints, {opened} opens, all below the one that was named"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--build", type=Path, required=True)
    parser.add_argument("--data", type=Path, default=HERE.parent / "golden/data")
    parser.add_argument("--only", default="pairs,kill,partial,memory,contained")
    parser.add_argument("--mib", type=int, default=128)
    parser.add_argument("--tensors", type=int, default=256)
    options = parser.parse_args()
    options.tessera = options.build / "cli/tessera"
    failed = 0
    for name in options.only.split(","):
        with tempfile.TemporaryDirectory() as scratch:
            try:
                print(f"ok     {name}: {globals()[name](options, Path(scratch))}", flush=True)
            except Failed as failure:
                failed += 1
                print(f"FAILED {name}: {failure}", flush=True)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())

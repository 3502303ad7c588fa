#!/usr/bin/env python3
"""The main job, end to end: trains a small GPT on 2 ranks, is killed twice, resumes on 3 ranks, and stock PyTorch reads what it saved.

  demo.py --build build/dev [--seed N] [--keep]

  1. 2 ranks train and save. At a random moment between two saves one rank is killed (SIGKILL); the other ends by itself, with an
     error that names the lost rank.
  2. 2 ranks resume from the latest step. Inside the write phase of a save all ranks are killed: nothing of that step may be visible.
  3. 3 ranks resume from the latest valid step and train to the end.
  4. Stock PyTorch loads the last step, every tensor of it, and compares it bit for bit with what tessera reads.
The losses of all runs are drawn, with marks where they resumed, into BUILD/demo-loss.svg.
Exit code 0 if all of this held. --seed chooses the moments.
"""
import argparse
import hashlib
import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time
import xml.etree.ElementTree as ElementTree
from pathlib import Path

STEPS = 60
SAVE_EVERY = 15
DEADLINE_S = 100
MODEL = ["--layers", "4", "--width", "256", "--seq", "64", "--batch", "8"]


class Failed(Exception):
    pass


class Run:
    """One launch of gpt_train: its lines as they come, its ranks' process ids, its end."""

    def __init__(self, build, ranks, root, *more):
        more = ["--curve", curve_of(build), *more]
        command = [build / "tests/support/launch/tessera-launch", "--ranks", str(ranks), "--deadline", str(DEADLINE_S), "--",
                   build / "examples/gpt/gpt_train", "--dir", root, "--steps", str(STEPS), "--save-every", str(SAVE_EVERY), *MODEL, *more]
        self.process = subprocess.Popen([str(word) for word in command], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        self.pids = {}
        self.text = []

    def lines(self):
        for line in self.process.stdout:
            line = line.rstrip("\n")
            self.text.append(line)
            if started := re.search(r"\[launch\] rank (\d+) pid (\d+)", line):
                self.pids[int(started[1])] = int(started[2])
            yield line

    def end(self):
        """Reads to the end; the exit code."""
        for _ in self.lines():
            pass
        return self.process.wait()

    def kill(self, *ranks):
        for rank in ranks:
            try:
                os.kill(self.pids[rank], signal.SIGKILL)
            except ProcessLookupError:
                raise Failed(f"rank {rank} had ended before it could be killed") from None

    def check(self, condition, what):
        if not condition:
            raise Failed(what + "; the run's last lines:\n  " + "\n  ".join(self.text[-15:]))


def curve_of(build):
    return build / "demo-loss.svg"


def check_curve(build, runs):
    """A line for each run, a mark for each resume and one for the change from 2 ranks to 3."""
    tree = ElementTree.parse(curve_of(build))
    found = {kind: len(tree.findall(f".//*[@class='{kind}']")) for kind in ("run", "resume", "ranks")}
    if found != {"run": runs, "resume": runs - 1, "ranks": 1}:
        raise Failed(f"the curve of {runs} runs has {found}")


def steps_in(root):
    return sorted(int(path.name[5:]) for path in Path(root).glob("step-*") if (path / ".metadata").exists())


def losses(run):
    found = (re.search(r"\bstep=(\d+) loss=([0-9.]+)", line) for line in run.text)
    return {int(match[1]): float(match[2]) for match in found if match}


def kill_one_between_saves(build, root, chance):
    at = SAVE_EVERY + chance.randrange(3, SAVE_EVERY - 3)
    victim = chance.randrange(2)
    run = Run(build, 2, root)
    for line in run.lines():
        if re.search(rf"\bstep={at} loss=", line):
            time.sleep(chance.random() * 0.03)
            run.kill(victim)
            break
    code = run.end()
    other = 1 - victim
    named = [line for line in run.text if f"[rank {other}]" in line and "error:" in line]
    run.check(code != 0, "the job ended with exit code 0 although a rank was killed")
    run.check(any(f"rank {victim}" in line.split("error:")[1] for line in named), f"rank {other} did not name rank {victim} as lost")
    print(f"killed rank {victim} between saves, after step {at}; rank {other} said: {named[0].split('] ', 1)[1]}")
    return f"2 ranks, rank {victim} killed after step {at}", run


def kill_all_in_a_save(build, root):
    before = steps_in(root)
    run = Run(build, 2, root, "--resume")
    inside = None
    for line in run.lines():
        if started := re.search(r"save step=(\d+) phase=write", line):
            inside = int(started[1])
            run.kill(0, 1)
            break
    run.end()
    run.check(any(f"resume step={before[-1]}" in line for line in run.text), f"the run did not resume from step {before[-1]}")
    run.check(inside is not None, "the run never came to a save")
    left = [path.name for path in Path(root).glob(".tessera-*")]
    after = steps_in(root)
    run.check(after == before or after == [*before, inside], f"steps were {before} and are {after}")
    visible = "had been published already" if inside in after else f"is not visible ({len(left)} staging directory left behind)"
    print(f"killed all ranks inside the save of step {inside}: the step {visible}; steps {after} stand")
    return f"2 ranks, all killed inside the save of step {inside}", inside in after, run


def compare_with_stock(build, step):
    """Stock loads every tensor of the step; the digests must be those of `tessera ls --digest`."""
    import torch
    import torch.distributed.checkpoint as dcp
    from torch.distributed.checkpoint.default_planner import _EmptyStateDictLoadPlanner
    from torch.distributed.checkpoint.state_dict_loader import _load_state_dict
    state = {}
    _load_state_dict(state, storage_reader=dcp.FileSystemReader(step), planner=_EmptyStateDictLoadPlanner(), no_dist=True)
    tensors = {}

    def walk(path, value):
        if isinstance(value, dict):
            for key, inner in value.items():
                walk([*path, str(key)], inner)
        elif isinstance(value, torch.Tensor):
            data = value.contiguous().reshape(-1).view(torch.uint8) if value.numel() else value.reshape(-1)
            tensors[".".join(path)] = hashlib.sha256(data.numpy().tobytes()).hexdigest()

    walk([], state)
    listed = subprocess.run([str(build / "cli/tessera"), "ls", "--json", "--digest", str(step)], capture_output=True, check=True)
    ours = {key: entry["sha256"] for key, entry in json.loads(listed.stdout)["entries"].items() if entry["kind"] == "tensor"}
    different = [key for key in ours if tensors.get(key) != ours[key]] + [key for key in tensors if key not in ours]
    if different:
        raise Failed(f"stock reads {len(different)} of {len(ours)} tensors otherwise, as '{different[0]}'")
    print(f"stock PyTorch {torch.__version__} loads {step.name}: {len(ours)} tensors, equal bit for bit")
    return len(ours)


def demo(build, root, seed):
    chance = random.Random(seed)
    rows = []
    first, run = kill_one_between_saves(build, root, chance)
    rows.append((first, f"resumable from step {steps_in(root)[-1]}"))
    curve = losses(run)
    for _ in range(3):  # the kill may come a moment too late: the step is then published, which is as good, but not what is to be shown
        second, late, run = kill_all_in_a_save(build, root)
        curve.update(losses(run))
        rows.append((second, f"{'too late, the step was published' if late else 'the step never appeared'}; resumable from step {steps_in(root)[-1]}"))
        if not late:
            break
    else:
        raise Failed("no kill came inside a save")
    latest = steps_in(root)[-1]
    run = Run(build, 3, root, "--resume")
    code = run.end()
    run.check(code == 0, f"3 ranks ended with exit code {code}")
    run.check(any(f"resume step={latest} ranks=3" in line for line in run.text), f"3 ranks did not resume from step {latest}")
    final = losses(run)
    run.check(max(final) == STEPS and min(final) == latest + 1, "3 ranks did not train from the latest step to the last")
    overlap = [step for step in final if step in curve]
    apart = max((abs(final[s] - curve[s]) / curve[s] for s in overlap), default=0.0)
    run.check(apart < 1e-4, f"the losses of 3 ranks differ from those of 2 by {apart}")
    curve.update(final)
    rows.append((f"3 ranks, resumed from step {latest}", f"trained to step {STEPS}, loss {final[STEPS]:.4f} (step 1: {curve[1]:.4f})"))
    runs = len(rows)
    if overlap:
        rows.append((f"steps {min(overlap)}-{max(overlap)} by 2 and again by 3 ranks", f"losses equal to {apart:.1e} relative"))
    check_curve(build, runs)
    rows.append((f"the losses of all {runs} runs, drawn", os.path.relpath(curve_of(build))))
    tensors = compare_with_stock(build, Path(root) / f"step-{STEPS:08d}")
    rows.append(("stock PyTorch loads the last step", f"{tensors} tensors, equal bit for bit"))
    return rows


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--build", type=Path, required=True)
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--keep", action="store_true", help="leave the steps in BUILD/demo")
    args = parser.parse_args()
    build = args.build.resolve()
    root = build / "demo"
    shutil.rmtree(root, ignore_errors=True)
    began = time.monotonic()
    print(f"demo with --seed {args.seed}, in {args.build}/demo")
    try:
        rows = demo(build, root, args.seed)
    except Failed as failure:
        print(f"demo: error: {failure}", file=sys.stderr)
        return 1
    finally:
        if not args.keep:
            shutil.rmtree(root, ignore_errors=True)
    width = max(len(what) for what, _ in rows)
    print()
    for what, came in rows:
        print(f"{what:<{width}}  {came}")
    print(f"all of it held; {time.monotonic() - began:.0f} s")
    return 0


if __name__ == "__main__":
    sys.exit(main())

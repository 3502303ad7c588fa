"""What is run about training: our programs, and stock's for the same. Each part is (ours, stock's); a part can be measured alone (training.py)."""
from pathlib import Path

from runner import DIR, Program

HERE = Path(__file__).resolve().parent
# How the saves behind a training step stand back (gpt_train --help).
STAND_BACK = ("--nice", 19)
OUR_STEPS = ("gloo", "shared_memory", "threads")
PEER_STEPS = ("fsdp2", "ddp")
HOOK_UNITS = ("--units", 64, "--width", 16)
OUR_HOOKS = ("threads", "alone", "gloo", "shared_memory")
OVERLAP_UNITS = (8, 16)
STEPS = 5


def launched(build, program):
    return [build / "tests/support/launch/tessera-launch", "--ranks", 2, "--", *program]


def saves(build, size):
    """A step of examples/gpt alone and with saves in the background."""
    for ranks in (1, 2):
        command = ["python3", HERE / "gpt_steps.py", "--build", build, "--dir", DIR, "--ranks", ranks, "--steps", size.train_steps, "--", *STAND_BACK]
        yield Program(f"train.{ranks}", command, most_rounds=1)


def steps(build, _):
    """A step of the model of shared/peers/fsdp_step.py, two ranks in every way, and one process."""
    program = [build / "bench/step_bench", "--steps", STEPS]
    for name, fused in (("", []), (".fused", ["--fused"])):
        for transport in ("gloo", "shared_memory"):
            yield Program(f"step.{transport}{name}", [*launched(build, program), "--transport", transport, *fused])
        yield Program(f"step.threads{name}", [*program, "--ranks", 2, *fused])
    yield Program("step.1", program)


def stock_steps(python, directory):
    for mode in (*PEER_STEPS, "fsdp1", "local"):
        for name, fused in (("", []), (".fused", ["--fused"])):
            if fused and mode not in PEER_STEPS:
                continue
            command = [python, HERE / "peer_step.py", "--peers", directory, "--mode", mode, "--steps", STEPS, *fused]
            yield Program(f"peer.step.{mode}{name}", command, optional=True)


def hooks(build, size):
    """Many small units: as threads that hand nothing over, in one rank, and as processes."""
    program = [build / "bench/hook_bench", *HOOK_UNITS]
    yield Program("hook.threads", [*program, "--ranks", 2], most_rounds=size.inner_rounds)
    yield Program("hook.alone", [*program, "--ranks", 1, "--carries"], most_rounds=size.inner_rounds)
    for transport in ("gloo", "shared_memory"):
        command = ["env", f"TESSERA_TRANSPORT={transport}", *launched(build, [*program, "--carries"])]
        yield Program(f"hook.{transport}", command, most_rounds=size.inner_rounds)


def stock_hooks(python, _):
    yield Program("peer.hook", [python, HERE / "hook_stock.py", *HOOK_UNITS], optional=True)


def optimizer(build, _):
    for threads in (1, 2):
        yield Program(f"optim.{threads}", [build / "bench/optim_bench", "--threads", threads])


def stock_optimizer(python, _):
    for threads in (1, 2):
        yield Program(f"peer.optim.{threads}", [python, HERE / "optim_stock.py", "--threads", threads], optional=True)


def wire(build, _):
    yield Program("wire", ["python3", HERE / "wire.py", "--build", build], most_rounds=1, optional=True)


def overlap(build, size):
    for units in OVERLAP_UNITS:
        yield Program(f"overlap.{units}", [build / "bench/overlap_bench", "--units", units], most_rounds=size.inner_rounds)


def no_stock(*_):
    return ()


PARTS = {"saves": (saves, no_stock), "steps": (steps, stock_steps), "hooks": (hooks, stock_hooks), "optimizer": (optimizer, stock_optimizer),
         "wire": (wire, no_stock), "overlap": (overlap, no_stock)}


def ours(build, size, parts=PARTS):
    for part in parts:
        yield from PARTS[part][0](build, size)


def peers(python, directory, parts=PARTS):
    for part in parts:
        yield from PARTS[part][1](python, directory)

"""The rows about training (targets.py says what a row is), each part by itself."""
from targets import Rows, at_most, over
from training_programs import OUR_HOOKS, OUR_STEPS, OVERLAP_UNITS, PARTS, PEER_STEPS

TORCH = "torch 2.13"
# How much of stock's time a step may take, by transport: of FSDP2's, of DDP's.
MOST_OF_STOCK = {"gloo": (0.90, 1.10), "shared_memory": (0.75, 1.00), "threads": (None, None)}
OPTIMIZERS = {"": "for-loop AdamW", ".fused": "fused AdamW"}


def saves(rows):
    samples = rows.samples
    for ranks in (1, 2):
        program = f"train.{ranks}"
        alone, during = samples.median(program, "alone_ms"), samples.median(program, "during_save_ms")
        saved, waited = samples.median(program, "save_s"), samples.median(program, "waited_save_s")
        checks = [at_most(1.05, "× the median without", over(during, alone)), at_most(3, "× the save's unlimited time", over(saved, waited))]
        rows.add(f"train.{ranks}", f"step of gpt_train while a save runs behind it, ranks: {ranks}", "ms", program, during, ceiling=alone,
                 checks=checks if ranks == 1 else (), histogram={"alone": samples.all(program, "alone_ms"), "during": samples.all(program, "during_save_ms")},
                 save_s=saved, waited_save_s=waited, stall_s=samples.median(program, "stall_s"))


def steps(rows):
    samples = rows.samples
    step = lambda program: samples.median(program, "step_ms_median")
    local = step("step.1")
    for transport in OUR_STEPS:
        title = f"training step, 2 ranks, {transport.replace('_', ' ')}"
        bounds = MOST_OF_STOCK[transport]
        for how, optimizer in OPTIMIZERS.items():
            program = f"step.{transport}{how}"
            others = {mode: step(f"peer.step.{mode}{how}") for mode in PEER_STEPS}
            rows.add(program, f"{title}, {optimizer}", "ms", program, step(program), peer=others["fsdp2"], peer_name=f"{TORCH}, fsdp2, {optimizer}",
                     ceiling=local, others=others, samples=samples.all(program, "step_ms_median"),
                     ours_cpu=samples.median(program, "cpu_ms"), peer_cpu=samples.median(f"peer.step.fsdp2{how}", "cpu_ms"))
        if bounds[0]:
            faster = lambda name: min((step(f"{name}{how}") for how in OPTIMIZERS if step(f"{name}{how}") is not None), default=None)
            ours, others = faster(f"step.{transport}"), {mode: faster(f"peer.step.{mode}") for mode in PEER_STEPS}
            checks = [at_most(bound, f"× {mode}", over(ours, others[mode])) for bound, mode in zip(bounds, PEER_STEPS)]
            rows.add(f"step.{transport}.faster", f"{title}, the faster AdamW of both", "ms", f"step.{transport}", ours, peer=others["fsdp2"],
                     peer_name=f"{TORCH}, fsdp2", ceiling=local, checks=checks, others=others)
    for ranks, program, mode, title in ((2, "step.gloo", "fsdp1", "2 ranks"), (1, "step.1", "local", "1 process")):
        rows.add(f"step.{mode}", f"training step, {title}", "ms", program, step(program), peer=step(f"peer.step.{mode}"),
                 peer_name=f"{TORCH}, {mode}, for-loop AdamW", ceiling=local if ranks == 2 else None)
    ours, theirs = (above_baseline(samples, program) for program in ("step.gloo", "peer.step.fsdp2"))
    rows.add("step.memory", "peak memory of a rank above the program's, training, 2 ranks over Gloo", "MiB", "step.gloo", ours, peer=theirs,
             peer_name=f"{TORCH}, fsdp2", checks=[at_most(0.85, "× fsdp2", over(ours, theirs))])


def above_baseline(samples, program):
    peak, baseline = samples.median(program, "peak_rss_MiB"), samples.median(program, "baseline_rss_MiB")
    return peak - baseline if peak is not None and baseline is not None else None


def hooks(rows):
    samples = rows.samples
    titles = {"threads": "2 threads, nothing handed over", "alone": "1 rank", "gloo": "2 processes, Gloo", "shared_memory": "2 processes, shared memory"}
    for way in OUR_HOOKS:
        program = f"hook.{way}"
        ours = samples.median(program, "hook_ms")
        rows.add(program, f"CPU of a unit's hooks, forward + backward, {titles[way]}", "ms", program, ours, peer=samples.median("peer.hook", "hook_ms"),
                 peer_name=f"{TORCH}, fsdp2, 2 processes, Gloo", checks=[at_most(0.06, "ms", ours)] if way == "threads" else (),
                 samples=samples.all(program, "hook_ms"), unwrapped_ms=samples.median(program, "local_ms"))


def optimizer(rows):
    samples = rows.samples
    for threads in (1, 2):
        program, peer = f"optim.{threads}", f"peer.optim.{threads}"
        stock = samples.median(peer, "fused", "wall_s")
        for mode, bound in (("default", 1.25), ("fused", 1.10)):
            ours = samples.median(program, mode, "wall_s")
            rows.add(f"{program}.{mode}", f"AdamW step of 29.7 M parameters, {mode}, threads: {threads}", "s", program, ours, peer=stock,
                     peer_name=f"{TORCH}, fused", checks=[at_most(bound, "× stock's fused", over(ours, stock))], ours_cpu=samples.median(program, mode, "cpu_s"),
                     peer_cpu=samples.median(peer, "fused", "cpu_s"), others={"for-loop": samples.median(peer, "loop", "wall_s")})


def wire(rows):
    samples = rows.samples
    for way, shows in {"gloo.full_shard": "3P(N−1)/N", "gloo.shard_grad_op": "2P(N−1)/N", "gloo.no_shard": "2P(N−1)/N"}.items():
        for ranks in (2, 3, 4):
            figure = lambda name: samples.median("wire", way, str(ranks), name)
            sent, theory = figure("sent"), figure("theory")
            unpadded = sent - figure("padding") if sent is not None else None
            rows.add(f"wire.{way}.{ranks}", f"bytes a step and rank that the kernel counts, {way.partition('.')[2]}, {ranks} ranks, beside {shows}", "B", "wire", sent,
                     ceiling=theory, checks=[at_most(1.03, "× theory + padding", over(unpadded, theory)),
                                             at_most(16, "B of padding a rank and unit", figure("most_padding_a_unit"))])


def overlap(rows):
    samples = rows.samples
    for units in OVERLAP_UNITS:
        program = f"overlap.{units}"
        hidden = samples.median(program, "hidden")
        waited = 1 - hidden if hidden is not None else None
        rows.add(program, f"communication that computing does not hide, a link as slow as computing, {units} units", "of what can be", program, waited,
                 checks=[at_most(0.10, "of what can be", waited)], samples=samples.all(program, "hidden"))


def results(samples, size, parts=PARTS):
    rows = Rows(samples, size)
    for part in parts:
        {"saves": saves, "steps": steps, "hooks": hooks, "optimizer": optimizer, "wire": wire, "overlap": overlap}[part](rows)
    return rows.rows

"""From samples to results: one row a metric, each beside its peer, its ceiling and its target.

A row: {id, metric, unit, ours, peer, peer_name, ceiling, ratio, target, met, rounds, command} and what stands behind it: ours_cpu and peer_cpu (CPU seconds),
others ({peer: figure}), samples (ours, a round each), checks (one for each part of the target). Smaller is better in all of them. `ratio` is how many times
less ours is than the peer's, or, where there is no peer, ours over the ceiling. What was not measured is null, and then so is `met`.
"""
from ceilings import disk, raw_name
from programs import PEERS, THREADS, io_name

STOCK = "DCP 2.13"
NAMES = {"dcp": f"{STOCK}, 1 thread", "dcp-2-threads": f"{STOCK}, 2 threads", "safetensors": "safetensors + copy"}
KNOWN_CHUNKS = 256 * 1024  # that the targets of decoding are about


def over(a, b):
    return a / b if a is not None and b else None


def at_most(bound, of, value):
    return {"target": f"≤ {bound:g} {of}", "value": value, "bound": bound, "met": None if value is None else value <= bound}


def at_least(bound, of, value):
    return {"target": f"≥ {bound:g} {of}", "value": value, "bound": bound, "met": None if value is None else value >= bound}


def times_less(bound, whom, peer, ours):
    return at_least(bound, f"× {whom}", over(peer, ours))


def verdict(checks):
    """False as soon as one part is missed, null while one is not measured; null without a target."""
    found = [check["met"] for check in checks]
    return False if False in found else None if None in found or not found else True


class Rows:
    def __init__(self, samples, size):
        self.samples, self.size, self.rows = samples, size, []

    def add(self, name, metric, unit, program, ours, *, peer=None, peer_name=None, ceiling=None, checks=(), rounds=None, **more):
        checks = list(checks)
        runs = len(self.samples.runs.get(program, []))
        self.rows.append({
            "id": name, "metric": metric, "unit": unit, "ours": ours, "peer": peer, "peer_name": peer_name, "ceiling": ceiling,
            "ratio": over(peer, ours) if peer is not None else over(ours, ceiling),
            "target": "; ".join(check["target"] for check in checks), "met": verdict(checks),
            "rounds": runs if rounds is None or not runs else rounds, "command": self.samples.shown.get(program, ""), "checks": checks, **more})

    def of_peers(self, place, shape, verb, cost="wall_s"):
        return {peer: self.samples.median(f"peer.{peer}", place, shape, verb, cost) for peer in PEERS}


def stock_of(others):
    """Stock's best, with one thread or two."""
    return min((others[peer] for peer in ("dcp", "dcp-2-threads") if others[peer] is not None), default=None)


def sizes(shape, size):
    count, each = {"big": (size.mib // 8, "8 MiB"), "mid": (size.mib * 2, "512 KiB"), "small": (size.small_tensors(), "4 KiB")}[shape]
    return f"{count:,} × {each}"


def add_io(rows, name, title, place, shape, verb, *, threads=0, peer="", ceiling=None, checks=lambda ours, peer: (), **more):
    """A row of io_bench. `peer`: which one stands beside it, the better of stock's by default."""
    samples, program = rows.samples, io_name(place, shape, 1, threads)
    ours = samples.median(program, verb, "wall_s")
    others = rows.of_peers(place, shape, verb.split("_")[0])
    theirs = others[peer] if peer else stock_of(others)
    cpu = rows.of_peers(place, shape, verb.split("_")[0], "cpu_s")
    rows.add(name, f"{title}, {sizes(shape, rows.size)}", "s", program, ours, peer=theirs, peer_name=NAMES.get(peer, STOCK), ceiling=ceiling,
             checks=checks(ours, theirs), ours_cpu=samples.median(program, verb, "cpu_s"), peer_cpu=cpu[peer] if peer else stock_of(cpu), others=others,
             peer_rounds=len(samples.runs.get(f"peer.{peer or 'dcp'}", [])),
             samples=samples.all(program, verb, "wall_s"), **more)


def saves_to_disk(rows):
    ceiling, way = disk(rows.samples, 1)
    for shape in ("big", "mid"):
        add_io(rows, f"save.disk.{shape}", "save to disk", "disk", shape, "save", ceiling=ceiling, ceiling_command=rows.samples.shown.get(way),
               checks=lambda ours, peer: (at_least(0.90, "of the ceiling's speed", over(ceiling, ours)), times_less(2.5, "stock", peer, ours)))
    add_io(rows, "save.disk.small", "save to disk", "disk", "small", "save")
    program = io_name("disk", "layers", 2)
    for verb in ("save", "load"):
        ours = rows.samples.median(program, verb, "wall_s")
        others = {f"{threads} threads a rank": rows.samples.median(f"peer.dcp-2-ranks.{threads}", verb, "wall_s") for threads in (1, 2)}
        peer = min((figure for figure in others.values() if figure is not None), default=None)
        rows.add(f"{verb}.ranks", f"{verb}, 2 ranks, layers of {rows.size.layers_bytes() / 2**20:.0f} MiB in all", "s", program, ours, peer=peer, peer_name=f"{STOCK}, 2 ranks",
                 ceiling=disk(rows.samples, 2)[0] if verb == "save" else None, ours_cpu=rows.samples.median(program, verb, "cpu_s"), others=others)


def saves_to_memory(rows):
    for threads, peer in {1: "dcp", THREADS: "dcp-2-threads" if THREADS > 1 else "dcp"}.items():
        raw = raw_name("memory", threads, "big")
        write = rows.samples.best(raw, "write", "wall_s")[1]
        passes = [rows.samples.median(raw, what, "wall_s") for what in ("xxh3", "crc32")]
        ceiling = write + sum(passes) if write is not None and None not in passes else None
        add_io(rows, f"save.memory.big.{threads}", f"save to tmpfs, threads: {threads}", "memory", "big", "save", threads=threads,
               peer=peer, ceiling=ceiling, raw_write=write, ceiling_command=rows.samples.shown.get(raw),
               checks=lambda ours, peer: (at_most(1.05, "× (raw write + XXH3 + CRC)", over(ours, ceiling)),
                                          at_most(1.40, "× raw write", over(ours, write)), times_less(1.5, "stock", peer, ours)))


def loads(rows):
    for threads in sorted({1, THREADS}):
        raw = raw_name("disk", threads, "big")
        read = rows.samples.best(raw, "read", "wall_s")[1]
        for verb, bound, title in (("load_unverified", 1.10, "load, warm cache, unverified"), ("load", 1.6, "load, warm cache, verified")):
            add_io(rows, f"{verb}.big.{threads}", f"{title}, threads: {threads}", "disk", "big", verb, threads=threads, ceiling=read,
                   ceiling_command=rows.samples.shown.get(raw), checks=lambda ours, peer: (at_most(bound, "× raw read", over(ours, read)),))
    add_io(rows, "load.mid", "load, warm cache, verified", "disk", "mid", "load",
           checks=lambda ours, peer: (times_less(3, "stock", peer, ours),))
    for shape in ("big", "mid", "small"):
        add_io(rows, f"load.safetensors.{shape}", "load, warm cache, verified, beside safetensors + copy", "disk", shape, "load", peer="safetensors",
               checks=lambda ours, peer: (times_less(1, "safetensors + copy", peer, ours),))


def each_tensor(rows):
    """CPU of a save or load above that of plain input and output of the same file bytes."""
    count, program, raw = rows.size.small_tensors(), io_name("memory", "small"), raw_name("memory", 1, "small")
    for verb, plain in (("save", "write"), ("load", "read")):
        whole, bytes_alone = rows.samples.median(program, verb, "cpu_s"), rows.samples.best(raw, plain, "cpu_s")[1]
        ours = (whole - bytes_alone) / count * 1e6 if whole is not None and bytes_alone is not None else None
        stock = stock_of(rows.of_peers("memory", "small", verb, "cpu_s"))
        rows.add(f"tensor.{verb}", f"CPU of {verb} a tensor above a raw {plain}, {sizes('small', rows.size)}", "µs", program, ours,
                 peer=stock / count * 1e6 if stock is not None else None, peer_name=f"{STOCK}, in all", checks=[at_most(3.5, "µs", ours)],
                 raw=bytes_alone / count * 1e6 if bytes_alone is not None else None)


def background(rows):
    samples, mib = rows.samples, rows.size.mib
    stall, copy = samples.median("stall", "stall", "wall_s"), samples.median("stall", "memcpy", "wall_s")
    rows.add("stall", f"stall of async_save, {mib} MiB", "s", "stall", stall, ceiling=copy, checks=[at_most(1.1, "× one warm memcpy", over(stall, copy))],
             ours_cpu=samples.median("stall", "stall", "cpu_s"), samples=samples.all("stall", "stall", "wall_s"))
    free, bound = samples.median("stall", "total", "wall_s"), samples.median("stall.budget", "total", "wall_s")
    peak, budget = max(samples.all("stall.budget", "peak_staging_bytes"), default=None), samples.median("stall.budget", "budget_bytes")
    rows.add("staging", f"async_save of {mib} MiB with a budget of {(budget or 0) / 2**20:.0f} MiB", "s", "stall.budget", bound, ceiling=free,
             checks=[at_least(0.85, "of unlimited speed", over(free, bound)), at_most(1, "× the budget at the peak", over(peak, budget))],
             samples=samples.all("stall.budget", "total", "wall_s"))


def planning(rows):
    samples, size = rows.samples, rows.size
    scale = size.ranks / size.stock_ranks
    stock = samples.median("peer.plan", "coordinator_save_s")
    stock = stock * scale if stock is not None else None
    stock_name = STOCK if scale == 1 else f"{STOCK} at {size.stock_ranks} ranks, times {scale:g}"
    what = f"plan, validate, encode metadata, {size.ranks} ranks × {size.tensors:,} tensors"
    for name, title, bound in (("cold", "cold", 0.10), ("described", "from gathered descriptions", 0.5), ("warm", "warm: the plan before under a new id", 0.005)):
        ours = samples.median("plan", name, "median_s")
        beside = {"peer": stock, "peer_name": stock_name} if name != "warm" else {}
        rows.add(f"plan.{name}", f"{what}, {title}", "CPU s", "plan", ours, **beside, checks=[at_most(bound, "s", ours)],
                 rounds=size.inner_rounds)
    ours = samples.median("plan", "many", "cold", "median_s")
    rows.add("plan.many", f"the same, {size.many_ranks:,} ranks, cold", "CPU s", "plan", ours, checks=[at_most(1, "s", ours)], rounds=size.inner_rounds)
    ours = samples.median("plan", "load_plan", "median_s")
    rows.add("plan.load", f"load plan of one rank, {size.tensors:,} tensors × {size.ranks} chunks", "CPU s", "plan", ours, checks=[at_most(0.005, "s", ours)],
             rounds=size.inner_rounds)


def metadata(rows):
    samples, size = rows.samples, rows.size
    theirs = samples.median("peer.plan", "unpickle_metadata_s")
    chunks = size.stock_ranks * size.tensors
    ours = samples.median("metadata", "decode_given", "cpu", "median_s")
    rows.add("metadata.stock", f"decode stock's own .metadata, {chunks:,} chunks", "CPU s", "metadata", ours, peer=theirs, peer_name=f"{STOCK}, unpickling",
             checks=[at_most(0.6 * chunks / KNOWN_CHUNKS, "s", ours), times_less(10, "stock", theirs, ours)], rounds=size.inner_rounds)
    chunks = size.ranks * size.tensors
    ours = samples.median("metadata", "decode_ours", "cpu", "median_s")
    rows.add("metadata.ours", f"decode our .metadata, {chunks:,} chunks", "CPU s", "metadata", ours, checks=[at_most(0.25 * chunks / KNOWN_CHUNKS, "s", ours)],
             rounds=size.inner_rounds)
    ours = samples.median("metadata", "first_key", "wall", "median_s")
    rows.add("metadata.first_key", f"first key through the sidecar, {chunks:,} chunks", "s", "metadata", ours, checks=[at_most(0.001, "s", ours)],
             rounds=size.inner_rounds)


def control(rows):
    samples = rows.samples
    plan, publish = samples.median("control", "plan_s"), samples.median("control", "publish_s")
    ours = plan + publish if plan is not None and publish is not None else None
    rows.add("control.time", f"control rounds of a steady save, {rows.size.control_ranks} simulated ranks", "s", "control", ours,
             checks=[at_most(0.1, "s", ours)], samples=[a + b for a, b in zip(samples.all("control", "plan_s"), samples.all("control", "publish_s"))])
    sent = samples.median("control", "sent_bytes")
    rows.add("control.bytes", "bytes that a rank sends in it: digests and a proof", "B", "control", sent, checks=[at_most(512, "B", sent)],
             received=samples.median("control", "received_bytes"))


def resharding(rows):
    samples = rows.samples
    for cut in ("rows", "columns"):
        program = f"reshard.{cut}"
        bytes_row(rows, f"{program}.bytes", f"reshard 4→3, {cut}: bytes from the disk, cold, beside those needed", program, "needed")
        took, equal = samples.median(program, "resharded", "wall_s"), samples.median(program, "equal", "wall_s")
        rows.add(f"{program}.time", f"reshard 4→3, {cut}: beside a load of 3→3", "s", program, took, ceiling=equal,
                 checks=[at_most(1.3, "× an equal layout", over(took, equal))], ours_cpu=samples.median(program, "resharded", "cpu_s"))
    bytes_row(rows, "replicas", "2 replicas on one host: bytes from the disk, cold, beside the unique ones", "reshard.whole", "unique")


def bytes_row(rows, name, title, program, what):
    """Ranks of one host read through one page cache: what calls ask for twice comes from the disk once. `called` is what calls asked for, digest blocks whole."""
    samples = rows.samples
    needed, ours = samples.median(program, "needed_bytes"), samples.median(program, "cold", "storage_bytes") or None
    rows.add(name, title, "MiB", program, mib(ours), ceiling=mib(needed), checks=[at_most(1.05, f"× {what}", over(ours, needed))],
             called=mib(samples.median(program, "cold", "called_bytes")))


def mib(count):
    return count / 2**20 if count is not None else None


def results(samples, size):
    """Of everything but training (training_targets.py)."""
    rows = Rows(samples, size)
    for part in (saves_to_disk, saves_to_memory, loads, each_tensor, background, planning, metadata, control, resharding):
        part(rows)
    return rows.rows

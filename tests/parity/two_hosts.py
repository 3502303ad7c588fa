#!/usr/bin/env python3
"""Two hosts, as far as one machine can be two: network namespaces joined by a link of limited rate, two ranks each, torchrun's variables. The GPT trains,
saves to a directory that both see, is killed and resumes; its losses are, bit for bit, those of a run that never stopped.

  two_hosts.py --train build/dev/examples/gpt/gpt_train [--mbit 500]
Needs root, `ip` and `tc` (Debian: iproute2) and the token bucket filter of the kernel; exit code 77 without.
"""
import argparse
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile

HOSTS, RANKS_A_HOST, STEPS, EVERY, KILLED_AT = 2, 2, 12, 4, 10
RANKS = HOSTS * RANKS_A_HOST


def namespace(host):
    return f"tessera-{os.getpid()}-{host}"


def device(host):
    return f"tsr{os.getpid() % 100000}{'ab'[host]}"


def address(host):
    return f"10.213.7.{host + 1}"


def ip(*words):
    subprocess.run(["ip", *map(str, words)], check=True, capture_output=True, text=True)


def make_hosts(mbit):
    for host in range(HOSTS):
        ip("netns", "add", namespace(host))
    ip("link", "add", device(0), "netns", namespace(0), "type", "veth", "peer", "name", device(1), "netns", namespace(1))
    for host in range(HOSTS):
        inside = ("-n", namespace(host))
        ip(*inside, "address", "add", f"{address(host)}/24", "dev", device(host))
        ip(*inside, "link", "set", device(host), "up")
        ip(*inside, "link", "set", "lo", "up")
        subprocess.run(["tc", "-n", namespace(host), "qdisc", "add", "dev", device(host), "root", "tbf", "rate", f"{mbit}mbit", "burst", "256kb",
                        "latency", "400ms"], check=True, capture_output=True, text=True)


def remove_hosts():
    for host in range(HOSTS):
        subprocess.run(["ip", "netns", "delete", namespace(host)], capture_output=True, check=False)


def crossed():
    """Bytes that the link has carried so far, from the first host to the second."""
    shown = subprocess.run(["tc", "-n", namespace(0), "-s", "qdisc", "show", "dev", device(0)], check=True, capture_output=True, text=True).stdout
    return int(re.search(r"Sent (\d+) bytes", shown)[1])


def start(args, port, *more):
    """The ranks of both hosts; rank 0's output is read by the caller."""
    running = []
    for rank in range(RANKS):
        host, local = divmod(rank, RANKS_A_HOST)
        told = {"RANK": rank, "WORLD_SIZE": RANKS, "LOCAL_RANK": local, "LOCAL_WORLD_SIZE": RANKS_A_HOST, "GROUP_RANK": host, "MASTER_ADDR": address(0),
                "MASTER_PORT": port, "TORCHELASTIC_RESTART_COUNT": 0, "GLOO_SOCKET_IFNAME": device(host)}
        words = ["ip", "netns", "exec", namespace(host), args.train, "--steps", STEPS, "--layers", 2, "--width", 64, "--seq", 32, *more]
        running.append(subprocess.Popen([*map(str, words)], env={**os.environ, **{key: str(value) for key, value in told.items()}},
                                        stdout=subprocess.PIPE if rank == 0 else subprocess.DEVNULL, stderr=subprocess.STDOUT, text=True))
    return running


def stop(running):
    for process in running:
        if process.poll() is None:
            process.send_signal(signal.SIGKILL)
    for process in running:
        process.wait()


def train(args, port, *more, kill_at=None):
    """Step → loss, as rank 0 printed it, and what else it said."""
    running, losses, said = start(args, port, *more), {}, []
    try:
        for line in running[0].stdout:
            said.append(line)
            if found := re.search(r"\bstep=(\d+) loss=(\S+)", line):
                losses[int(found[1])] = found[2]
                if int(found[1]) == kill_at:
                    return losses, "".join(said)
        codes = [process.wait(timeout=60) for process in running]
    finally:
        stop(running)
    if any(codes):
        raise SystemExit(f"exit codes {codes}: {''.join(said)[-2000:]}")
    return losses, "".join(said)


# By its name: options of gpt_train, and the port of its first run. A hybrid strategy shards within a host, in memory, and repeats across the link.
WAYS = {"full_shard": ([], 29710), "hybrid_shard": (["--strategy", "hybrid_shard", "--shards", RANKS_A_HOST], 29720)}


def run(args, name):
    """True if all is well; and how much crossed the link for one whole run."""
    options, port = WAYS[name]
    before = crossed()
    expected, _ = train(args, port, *options)
    carried = crossed() - before
    with tempfile.TemporaryDirectory() as shared:
        saving = [*options, "--dir", shared, "--save-every", EVERY, "--resume"]
        killed, _ = train(args, port + 1, *saving, kill_at=KILLED_AT)
        again, said = train(args, port + 2, *saving)
    wrong = [step for step, loss in expected.items() if {**killed, **again}.get(step) != loss]
    good = not wrong and len(expected) == STEPS and min(again) == KILLED_AT // EVERY * EVERY + 1 and float(expected[STEPS]) < float(expected[1])
    resumed = next((line.strip() for line in said.splitlines() if line.startswith("resume ")), "no resume")
    print(f"{'ok    ' if good else 'FAILED'} {HOSTS} hosts of {RANKS_A_HOST} ranks over a link of {args.mbit} Mbit/s, {name}: loss {expected[1]} → {expected[STEPS]}, killed "
          f"after step {KILLED_AT}, {resumed}; {len(expected) - len(wrong)} of {STEPS} losses equal; {carried / 2**20:.2f} MiB crossed one way in {STEPS} steps")
    return good, carried


def run_all(args):
    found = {name: run(args, name) for name in WAYS}
    # A rank's shard is reduced with its replica's, so that a host sends P once a step, rather than 3 P/2 as it takes part in a ring of all.
    less = found["hybrid_shard"][1] < 0.8 * found["full_shard"][1]
    print(f"{'ok    ' if less else 'FAILED'} hybrid_shard: less crossed the link")
    return 0 if less and all(good for good, _ in found.values()) else 1


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--train", required=True)
    parser.add_argument("--mbit", type=int, default=500)
    args = parser.parse_args()
    missing = [tool for tool in ("ip", "tc") if not shutil.which(tool)]
    if missing:
        print(f"skipped: no {' and no '.join(missing)} (Debian: iproute2)")
        return 77
    try:
        try:
            make_hosts(args.mbit)
        except subprocess.CalledProcessError as refused:
            print(f"skipped: `{' '.join(refused.cmd)}`: {refused.stderr.strip()}")
            return 77
        return run_all(args)
    finally:
        remove_hosts()


if __name__ == "__main__":
    sys.exit(main())

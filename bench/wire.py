#!/usr/bin/env python3
"""What a training step sends, as the kernel counts it on the loopback device of a network namespace of its own, beside theory: units of uneven sizes whose
P bytes of parameters travel three times (gathered twice, reduced once), or twice where they stay whole: 3 P (N − 1) / N a rank, or 2. Counted are
payload, padding, and the headers and acknowledgements of TCP, IP and Ethernet. Prints one JSON object: {transport.strategy: {ranks: …}}, bytes a rank and
step. Needs the right to make a network namespace; exit code 77 without.

usage: wire.py --build build/release
"""
import argparse
import json
import subprocess
import sys
from pathlib import Path

from runner import last_object

IN_A_NAMESPACE = ["unshare", "--net", "--map-root-user", "sh", "-c", 'ip link set lo up && exec "$@"', "sh"]
HEADERS = 14 + 20 + 32  # of a packet: Ethernet, IP, TCP with timestamps
TRAVELS = {("gloo", "full_shard"): 3, ("gloo", "shard_grad_op"): 2, ("gloo", "no_shard"): 2, ("shared_memory", "full_shard"): 3}
RANKS = (2, 3, 4)


def measure(build, ranks, transport, strategy):
    program = [build / "tests/support/launch/tessera-launch", "--ranks", ranks, "--", build / "bench/wire_bench", "--strategy", strategy, "--transport", transport]
    done = subprocess.run([*IN_A_NAMESPACE, *map(str, program)], env={"GLOO_SOCKET_IFNAME": "lo", "PATH": "/usr/sbin:/usr/bin:/sbin:/bin"},
                          capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"exit code {done.returncode}: {done.stdout[-2000:]}{done.stderr[-2000:]}")
    found = last_object(done.stdout)
    travels = TRAVELS[transport, strategy] * (ranks - 1) / ranks
    return {"theory": travels * found["parameter_bytes"], "padding": travels * found["padding_bytes"], "sent": found["sent_bytes"] / ranks,
            "payload": (found["sent_bytes"] - HEADERS * found["sent_packets"]) / ranks, "most_padding_a_unit": found["most_padding_bytes"] / ranks}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--build", type=Path, required=True)
    args = parser.parse_args()
    if subprocess.run([*IN_A_NAMESPACE, "true"], capture_output=True, check=False).returncode:
        print("no right to make a network namespace, or no `unshare` or `ip` (Debian: util-linux, iproute2)", file=sys.stderr)
        return 77
    print(json.dumps({".".join(way): {ranks: measure(args.build, ranks, *way) for ranks in RANKS} for way in TRAVELS}))
    return 0


if __name__ == "__main__":
    sys.exit(main())

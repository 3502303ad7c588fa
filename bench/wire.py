#!/usr/bin/env python3
"""What a training step sends over Gloo, as the kernel counts it on the loopback device of a network namespace of its own, beside theory: units of uneven sizes
whose P bytes of parameters travel three times (gathered twice, reduced once), or twice where they stay whole: 3 P (N − 1) / N a rank, or 2. Counted
are payload, padding, and the headers and acknowledgements of TCP, IP and Ethernet. Needs the right to make a network namespace; exit code 77 without.

usage: wire.py --build build/release [--most 1.03]
"""
import argparse
import json
import subprocess
import sys
from pathlib import Path

IN_A_NAMESPACE = ["unshare", "--net", "--map-root-user", "sh", "-c", 'ip link set lo up && exec "$@"', "sh"]
HEADERS = 14 + 20 + 32  # of a packet: Ethernet, IP, TCP with timestamps


def measure(build, ranks, strategy, transport):
    program = [build / "tests/support/launch/tessera-launch", "--ranks", ranks, "--", build / "bench/wire_bench", "--strategy", strategy, "--transport", transport]
    done = subprocess.run([*IN_A_NAMESPACE, *map(str, program)], env={"GLOO_SOCKET_IFNAME": "lo", "PATH": "/usr/sbin:/usr/bin:/sbin:/bin"},
                          capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"exit code {done.returncode}: {done.stdout[-2000:]}{done.stderr[-2000:]}")
    return json.loads(done.stdout[done.stdout.rindex('{"'):].splitlines()[0])


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--build", type=Path, required=True)
    parser.add_argument("--most", type=float, default=1.03, help="of theory that a step may send, padding apart")
    args = parser.parse_args()
    if subprocess.run([*IN_A_NAMESPACE, "true"], capture_output=True, check=False).returncode:
        print("skipped: no right to make a network namespace, or no `unshare` or `ip` (Debian: util-linux, iproute2)")
        return 77
    missed = 0
    print("| transport, strategy, ranks | theory, B a rank | sent, B a rank | over theory | without headers | padding a unit, at most |\n|---|---|---|---|---|---|")
    for transport, strategy, times in (("gloo", "full_shard", 3), ("gloo", "shard_grad_op", 2), ("gloo", "no_shard", 2), ("shared_memory", "full_shard", 3)):
        for ranks in (2, 3, 4):
            found = measure(args.build, ranks, strategy, transport)
            theory = times * found["parameter_bytes"] * (ranks - 1) / ranks
            sent = found["sent_bytes"] / ranks
            payload = (found["sent_bytes"] - HEADERS * found["sent_packets"]) / ranks
            padding_travels = times * found["padding_bytes"] * (ranks - 1) / ranks
            missed += sent - padding_travels > args.most * theory or found["most_padding_bytes"] > 16 * ranks
            print(f"| {transport}, {strategy}, {ranks} | {theory:,.0f} | {sent:,.0f} | {sent / theory:.4f} | {payload / theory:.4f} | {found['most_padding_bytes']} B |", flush=True)
    print(f"{missed} of 12 above {args.most} × theory" if missed else f"all at most {args.most} × theory")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())

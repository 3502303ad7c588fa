#!/usr/bin/env python3
"""Stock's planning of a save for simulated ranks (shared/peers/dcp_plan.py), and the metadata that came of it, as a file. Prints that script's JSON object.

usage: peer_metadata.py --peers DIR --ranks N --tensors N --out FILE
"""
import argparse
import runpy
import sys
from pathlib import Path


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--peers", type=Path, required=True)
    parser.add_argument("--ranks", required=True)
    parser.add_argument("--tensors", required=True)
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    script = str(args.peers / "dcp_plan.py")
    sys.argv = [script, "--ranks", args.ranks, "--tensors", args.tensors]
    left = runpy.run_path(script, run_name="__main__")
    args.out.parent.mkdir(parents=True, exist_ok=True)
    args.out.write_bytes(left["blob"])


if __name__ == "__main__":
    main()

#!/usr/bin/env python3
"""Kind local lies on disk as stock's FSDP1 has it. With units aligned to one element every chunk's box and bytes equal stock's, on 2 and on
4 ranks (where ranks are left with padding only); with the default alignment the joined flat tensor does.

  local_layout.py --seed-rank build/dev/tests/seed/seed_rank
"""
import argparse
import json
import socket
import subprocess
import sys
import tempfile
from pathlib import Path

import torch
import torch.distributed.checkpoint as dcp

import stock


def chunks(directory):
    """Flat key → {offset: bytes} of the items as they lie in the files."""
    reader = dcp.FileSystemReader(directory)
    metadata = reader.read_metadata()
    found = {}
    for index, info in metadata.storage_data.items():
        if not index.fqn.endswith("_flat_param"):
            continue
        with open(Path(directory, info.relative_path), "rb") as file:
            file.seek(info.offset)
            with tempfile.TemporaryFile() as item:
                item.write(file.read(info.length))
                item.seek(0)
                tensor = torch.load(item, weights_only=True)
        found.setdefault(index.fqn, {})[tuple(index.offset)] = tensor.numpy().tobytes()
    return found


def joined(parts):
    return b"".join(parts[offset] for offset in sorted(parts))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed-rank", required=True)
    args = parser.parse_args()
    failed = 0
    # The sizes of stock's own fixtures: 59 elements on 2 ranks, 2 elements on 4.
    for model, ranks in (("skip", 2), ("flat59", 2), ("flat2", 4)):
        with tempfile.TemporaryDirectory() as scratch:
            theirs = [f"{scratch}/stock", f"{scratch}/values"]
            stock.forked(["save", *theirs, "--model", model, "--wrap", "fsdp1", "--kind", "local", "--ranks", str(ranks)]).check_returncode()
            expected = chunks(theirs[0])
            for alignment in (1, 16):
                ours = f"{scratch}/ours{alignment}"
                words = ["--model", model, "--kind", "local", "--alignment-bytes", str(alignment), "--ranks", str(ranks)]
                # Ours takes stock's values over, and saves them again from as many ranks.
                subprocess.run([args.seed_rank, "resave", theirs[0], ours, *words, "--seed", "200"], check=True)
                actual = chunks(ours)
                same_chunks = actual == expected
                same_whole = {key: joined(parts) for key, parts in actual.items()} == {key: joined(parts) for key, parts in expected.items()}
                good = same_whole and (same_chunks or alignment > 1)
                failed += not good
                shape = json.dumps({key: [len(parts[offset]) // 4 for offset in sorted(parts)] for key, parts in actual.items()})
                print(f"{'ok    ' if good else 'FAILED'} {model} on {ranks} ranks, alignment {alignment}: {shape}{'' if same_chunks else ', other chunks than stock'}", flush=True)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())

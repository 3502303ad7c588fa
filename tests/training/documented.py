#!/usr/bin/env python3
"""Every block of C++ in the page stands, line by line, in a test that is compiled and run; but for a whole program, which tests/consumers takes
out of the page, builds and runs.

  documented.py --page docs/training.md --test tests/training/documented_test.cpp
"""
import argparse
import re
import sys
from pathlib import Path


def lines_of(text):
    return [line.strip() for line in text.splitlines() if line.strip()]


def stands_in(block, test):
    return any(test[i : i + len(block)] == block for i in range(len(test) - len(block) + 1))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--page", type=Path, required=True)
    parser.add_argument("--test", type=Path, required=True)
    args = parser.parse_args()
    test = lines_of(args.test.read_text(encoding="utf-8"))
    blocks = [lines_of(block) for block in re.findall(r"^```cpp\n(.*?)^```", args.page.read_text(encoding="utf-8"), re.M | re.S) if "int main(" not in block]
    missing = [block for block in blocks if not stands_in(block, test)]
    for block in missing:
        print("FAILED not in the test:\n  " + "\n  ".join(block))
    print(f"{len(blocks) - len(missing)} of {len(blocks)} blocks stand in {args.test.name}")
    return 0 if blocks and not missing else 1


if __name__ == "__main__":
    sys.exit(main())

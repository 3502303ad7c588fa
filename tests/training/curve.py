#!/usr/bin/env python3
"""The curve that gpt_train draws is well-formed XML with a line for each run and a mark for each resume and each other number of ranks, also after a
run that was killed within a line of its log.

  curve.py --train build/dev/examples/gpt/gpt_train
"""
import argparse
import subprocess
import sys
import tempfile
import xml.etree.ElementTree as ElementTree
from pathlib import Path

SVG = "{http://www.w3.org/2000/svg}"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--train", required=True)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        svg, csv = Path(scratch, "loss.svg"), Path(scratch, "loss.csv")

        def train(ranks, steps, *more):
            words = ["--layers", "1", "--width", "32", "--seq", "8", "--dir", scratch, "--save-every", "4", "--curve", svg]
            subprocess.run([args.train, *words, "--ranks", str(ranks), "--steps", str(steps), *more], check=True, stdout=subprocess.DEVNULL, timeout=120)
            tree = ElementTree.parse(svg).getroot()
            assert tree.tag == SVG + "svg", tree.tag
            runs = [line.get("points").split() for line in tree.iter(SVG + "polyline")]
            marks = [group.attrib for group in tree.iter(SVG + "g")]
            return [len(run) for run in runs], marks

        resume = {"class": "resume", "data-step": "4"}
        assert train(2, 6) == ([6], [])
        with csv.open("a") as log:
            log.write("1,7,5.1")  # killed here
        assert train(2, 6, "--resume") == ([6, 2], [resume])
        from_2_to_3 = [{"class": "resume", "data-step": "4"}, {"class": "ranks", "data-from": "2", "data-to": "3"}]
        assert train(3, 9, "--resume") == ([6, 2, 5], [resume, *from_2_to_3])
        lines = [line.split(",") for line in csv.read_text().splitlines()]
        assert lines[0] == ["run", "step", "loss", "lr", "ranks", "seconds"], lines[0]
        whole = [line for line in lines[1:] if len(line) == 6]
        assert [(line[0], line[1], line[4]) for line in whole[-6:]] == [("2", "6", "2"), *(("3", str(step), "3") for step in range(5, 10))], whole
        by_step = {}
        for run, step, loss, *_ in whole:
            by_step.setdefault(int(step), []).append(float(loss))
        assert all(max(losses) - min(losses) < 1e-4 for losses in by_step.values()), by_step
        for step in (4, 8):
            subprocess.run(["rm", "-r", f"{scratch}/step-{step:08d}"], check=True)
        assert train(1, 3) == ([3], []), "a run from the start begins the curve anew"
    print("three runs, two resumes, one change of the number of ranks: all marked")
    return 0


if __name__ == "__main__":
    sys.exit(main())

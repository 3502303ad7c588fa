#!/usr/bin/env python3
"""The suite itself, over a few MiB, with our programs alone: results.json has every metric of the targets, with what a row must have.

usage: bench_test.py --build BUILD
"""
import argparse
import json
import subprocess
import sys
import tempfile
import unittest
from pathlib import Path

import gpt_steps
import programs
import runner
import targets
import training_programs

HERE = Path(__file__).resolve().parent
FIELDS = {"metric": str, "unit": str, "ours": (float, int, type(None)), "peer": (float, int, type(None)), "peer_name": (str, type(None)),
          "ceiling": (float, int, type(None)), "ratio": (float, int, type(None)), "target": str, "met": (bool, type(None)), "rounds": int, "command": str}
NEED_LIBTORCH = {"train.1", "train.2", "step.fsdp1", "step.local", "step.memory", "step.gloo.faster", "step.shared_memory.faster",
                 *(f"step.{way}{how}" for way in training_programs.OUR_STEPS for how in ("", ".fused")), *(f"hook.{way}" for way in training_programs.OUR_HOOKS),
                 *(f"optim.{threads}.{mode}" for threads in (1, 2) for mode in ("default", "fused")),
                 *(f"wire.gloo.{strategy}.{ranks}" for strategy in ("full_shard", "shard_grad_op", "no_shard") for ranks in (2, 3, 4)),
                 *(f"overlap.{units}" for units in training_programs.OVERLAP_UNITS)}
NEED_PEERS = {"metadata.stock"}
THREADS = sorted({1, programs.THREADS})
OURS = {"save.disk.big", "save.disk.mid", "save.disk.small", "save.ranks", "load.ranks", *(f"save.memory.big.{t}" for t in THREADS),
        *(f"{verb}.big.{t}" for verb in ("load", "load_unverified") for t in THREADS), "load.mid",
        *(f"load.safetensors.{shape}" for shape in ("big", "mid", "small")), "tensor.save", "tensor.load", "stall", "staging", "plan.cold", "plan.warm",
        "plan.described", "plan.many", "plan.load", "metadata.ours", "metadata.first_key", "control.time", "control.bytes", "reshard.rows.bytes",
        "reshard.rows.time", "reshard.columns.bytes", "reshard.columns.time", "replicas"}
BUILD = None


class Suite(unittest.TestCase):
    def test_every_metric_is_measured_and_has_its_fields(self):
        with tempfile.TemporaryDirectory() as scratch:
            done = subprocess.run([sys.executable, HERE / "bench.py", "--build", BUILD, "--tiny", "--skip", "peers,fio,training", "--out", scratch,
                                   "--memory", scratch], capture_output=True, text=True, check=False)
            self.assertEqual(done.returncode, 0, done.stderr)
            rows = {row["id"]: row for row in json.loads(Path(scratch, "results.json").read_text(encoding="utf-8"))}
            table = Path(scratch, "results.md").read_text(encoding="utf-8")
        self.assertEqual(set(rows), OURS | NEED_PEERS | NEED_LIBTORCH)
        for name, row in rows.items():
            for field, kind in FIELDS.items():
                self.assertIsInstance(row[field], kind, f"{name}: {field}")
            self.assertIn(f"| {row['metric']} |", table)
            self.assertIsNone(row["peer"], name)
        for name in OURS:
            self.assertIsNotNone(rows[name]["ours"], name)
            self.assertEqual(rows[name]["rounds"], 1, name)
            self.assertIn("bench/", rows[name]["command"])


class Parts(unittest.TestCase):
    def test_a_missed_part_misses_the_target_and_an_unmeasured_one_leaves_it_open(self):
        hit, missed, unknown = targets.at_most(2, "s", 1), targets.at_most(2, "s", 3), targets.at_least(2, "×", None)
        self.assertIs(targets.verdict([hit, hit]), True)
        self.assertIs(targets.verdict([hit, unknown]), None)
        self.assertIs(targets.verdict([unknown, missed]), False)
        self.assertIs(targets.verdict([]), None)

    def test_the_object_is_found_behind_a_warning(self):
        self.assertEqual(runner.last_object('note: {iodepth}\n{\n "a": {\n  "b": 1\n }\n}\n'), {"a": {"b": 1}})
        self.assertEqual(runner.last_object('[launch] rank 0 pid 7\n[rank 0] {"a": 1}\n'), {"a": 1})
        with self.assertRaises(ValueError):
            runner.last_object("nothing {here}\n")

    def test_a_figure_is_the_median_of_all_rounds(self):
        samples = runner.Samples(runs={"p": [{"w": {"1": {"s": [3, 4]}, "2": {"s": [1]}}}, {"w": {"1": {"s": [8]}}}]})
        self.assertEqual(samples.median("p", "w", "1", "s"), 4)
        self.assertEqual(samples.best("p", "w", "s"), ("2", 1))
        self.assertIsNone(samples.median("q", "w"))

    def test_a_program_that_fails_is_told_and_the_others_go_on(self):
        failing, sound = runner.Program("p", ["false"]), runner.Program("s", ["echo", "{}"])
        samples = runner.run([failing, sound], {"disk": tempfile.gettempdir()}, 2, say=lambda line: None)
        self.assertIn("exit code 1", samples.failed["p"])
        self.assertEqual((samples.runs["p"], len(samples.runs["s"]), samples.skipped), ([], 2, {}))
        failing.optional = True
        samples = runner.run([failing], {"disk": tempfile.gettempdir()}, 1, say=lambda line: None)
        self.assertEqual((list(samples.skipped), samples.failed), (["p"], {}))

    def test_the_log_of_a_training_run_is_read(self):
        steps, saves = gpt_steps.read_log("step=1 loss=5.5 ms=212 tokens_per_s=301\nsave step=1 phase=write\nstep=2 loss=5.4 ms=214 tokens_per_s=300\n"
                                          "save step=1 done bytes=10 seconds=0.310 plan=0.001 write=0.300 publish=0.009 stall=0.020 rate=1.0 GiB/s\n")
        self.assertEqual((steps, saves), ({1: 212, 2: 214}, {1: {"bytes": 10, "seconds": 0.31, "stall": 0.02}}))

    def test_steps_count_as_during_a_save_until_it_was_over(self):
        steps = {step: 100.0 for step in range(1, 13)}
        self.assertEqual(len(gpt_steps.during_saves(steps, {6: {"seconds": 0.25}})), 3)
        self.assertEqual(len(gpt_steps.during_saves(steps, {6: {"seconds": 9.0}})), 6)

    def test_a_save_behind_training_is_slowed_down(self):
        with tempfile.TemporaryDirectory() as scratch:
            program = Path(scratch, "examples/gpt/gpt_train")
            program.parent.mkdir(parents=True)
            program.write_text(FAKE_TRAINING, encoding="utf-8")
            program.chmod(0o755)
            done = subprocess.run([sys.executable, HERE / "gpt_steps.py", "--build", scratch, "--dir", scratch, "--ranks", "2", "--steps", "9", "--", "--nice", "7"],
                                  capture_output=True, text=True, check=True)
        found = json.loads(done.stdout)
        self.assertEqual(found["alone_ms"], [100] * 9)
        self.assertEqual(found["during_save_ms"], [103] * 5)
        self.assertEqual((found["waited_save_s"], found["save_s"]), ([0.2], [0.5]))


# Prints what gpt_train does, and is content with nothing but the words that are meant.
FAKE_TRAINING = """#!/usr/bin/env python3
import sys
words = sys.argv[1:]
of = lambda name: words[words.index(name) + 1]
background = "--async" in words
assert not background or (of("--io-rate"), of("--nice")) == ("1000000", "7"), words  # 1 MB of 2 ranks in 2.5 times 0.2 s
for step in range(1, int(of("--steps")) + 1):
    print(f"step={step} loss=1.0 ms={103 if background else 100} tokens_per_s=1")
if "--save-every" in words:
    print(f"save step=6 done bytes=1000000 seconds={0.5 if background else 0.2} plan=0.1 stall=0.01 rate=1 MiB/s")
"""


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--build", required=True)
    known, rest = parser.parse_known_args()
    BUILD = known.build
    unittest.main(argv=[sys.argv[0], *rest])

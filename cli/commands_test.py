#!/usr/bin/env python3
"""The commands as a person runs them: exit codes, what goes to which stream, and that every failure says where and why.

Usage: commands_test.py TESSERA GOLDEN     GOLDEN is the folder of fixtures
"""
import json
import os
import shutil
import subprocess
import sys
import tempfile
import unittest
from pathlib import Path

TESSERA = GOLDEN = None


def tessera(*arguments, **options):
    return subprocess.run([TESSERA, *map(str, arguments)], capture_output=True, text=True, timeout=60, check=False, **options)


class Commands(unittest.TestCase):
    def setUp(self):
        scratch = tempfile.TemporaryDirectory()
        self.addCleanup(scratch.cleanup)
        self.scratch = Path(scratch.name)
        self.single = GOLDEN / "torch-2.13/single_process/ckpt"
        self.sharded = GOLDEN / "torch-2.13/fsdp1_sharded/ckpt"

    def copied(self, source, name):
        shutil.copytree(source, self.scratch / name)
        return self.scratch / name

    def assert_fails(self, done, code, *words):
        self.assertEqual(done.returncode, code, done.stderr)
        self.assertEqual(done.stdout, "")
        self.assertTrue(done.stderr.startswith("tessera: error: "), done.stderr)
        for word in words:
            self.assertIn(word, done.stderr)

    def test_ls_prints_a_table_with_totals(self):
        done = tessera("ls", self.sharded)
        self.assertEqual((done.returncode, done.stderr), (0, ""))
        lines = done.stdout.splitlines()
        self.assertEqual(lines[0].split(), ["key", "dtype", "shape", "chunks", "bytes"])
        self.assertEqual(lines[1].split(), ["linear.weight", "float32", "[10,", "10]", "2", "400"])
        self.assertEqual(lines[-1], "3 tensors in 6 chunks: 300 elements, 1.2 KiB; 0 objects; written by PyTorch or another tool")

    def test_ls_of_keys_lists_these_alone(self):
        ours = GOLDEN / "tessera-2/fsdp_two_ranks/ckpt"
        for place in (self.sharded, ours):
            every = json.loads(tessera("ls", "--json", "--digest", place).stdout)["entries"]
            keys = sorted(every)[:2]
            done = tessera("ls", place, *keys, "--json", "--digest")
            self.assertEqual(done.returncode, 0, done.stderr)
            self.assertEqual(json.loads(done.stdout)["entries"], {key: every[key] for key in keys})
            self.assert_fails(tessera("ls", place, "no such key"), 3, "no such key")
        root = self.scratch / "steps"
        root.mkdir()
        shutil.copytree(self.single, root / "step-00000001")
        self.assert_fails(tessera("ls", root, "key"), 2, "is a root of steps")

    def test_ls_json_without_digest_reads_no_tensor(self):
        place = self.copied(self.sharded, "without_data")
        for file in place.glob("*.distcp"):
            file.unlink()
        done = tessera("ls", "--json", place)
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertEqual(json.loads(done.stdout)["entries"]["linear.weight"], {"kind": "tensor", "dtype": "float32", "shape": [10, 10]})
        self.assert_fails(tessera("ls", "--json", "--digest", place), 3, ".distcp")

    def test_ls_of_a_root_lists_its_steps(self):
        root = self.scratch / "root"
        root.mkdir()
        for step in (12, 3):
            shutil.copytree(self.single, root / f"step-{step:08d}")
        (root / ".tessera-0123").mkdir()
        done = tessera("ls", root)
        self.assertEqual((done.returncode, done.stderr), (0, ""))
        self.assertEqual([line.split()[0] for line in done.stdout.splitlines()[1:3]], ["step-00000003", "step-00000012"])
        self.assertEqual(done.stdout.splitlines()[-1], "2 steps; the latest is step-00000012")
        self.assertEqual(list(json.loads(tessera("ls", root, "--json").stdout)["steps"]), ["step-00000003", "step-00000012"])
        self.assert_fails(tessera("ls", root, "--digest"), 2, f"hint: name a step, as in {root}/step-00000012")
        self.assert_fails(tessera("diff", root, self.single), 2, "is a root of steps")

    def test_ls_of_a_root_names_a_damaged_step_and_lists_the_others(self):
        root = self.scratch / "root"
        root.mkdir()
        for step in (1, 2):
            shutil.copytree(self.single, root / f"step-{step:08d}")
        (root / "step-00000002/.metadata").write_bytes(b"no pickle")
        done = tessera("ls", root)
        self.assertEqual(done.returncode, 1)
        self.assertRegex(done.stdout, r"(?m)^step-00000001 +\d+ +\d+ +\d+$")
        self.assertRegex(done.stdout, r"(?m)^step-00000002 .*\.metadata")

    def test_diff_of_equal_content_is_0_whatever_the_sharding(self):
        done = tessera("diff", self.sharded, GOLDEN / "torch-2.13/fsdp1_sharded_dtensor/ckpt")
        self.assertEqual((done.returncode, done.stdout), (0, "equal bit for bit: 3 keys\n"), done.stderr)

    def test_diff_of_one_changed_bit_is_1_or_damage(self):
        # The CRC sees the changed bit first: that is damage, exit code 1 as well, and says which checkpoint.
        place = self.copied(self.sharded, "flipped")
        expected = (GOLDEN / "torch-2.13/fsdp1_sharded/expected.safetensors").read_bytes()
        data = (place / "__0_0.distcp").read_bytes()
        header = int.from_bytes(expected[:8], "little")
        begin = json.loads(expected[8 : 8 + header])["linear.weight"]["data_offsets"][0] + 8 + header
        at = data.index(expected[begin : begin + 200])
        (place / "__0_0.distcp").write_bytes(data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :])
        self.assert_fails(tessera("diff", self.sharded, place), 1, str(place), "__0_0.distcp")

    def test_diff_names_keys_and_sides(self):
        done = tessera("diff", self.single, self.sharded)
        self.assertEqual((done.returncode, done.stderr), (1, ""))
        self.assertIn("only in A", done.stdout)
        self.assertIn("only in B", done.stdout)
        self.assertEqual(done.stdout.splitlines()[-1], f"6 keys differ; A is {self.single}, B is {self.sharded}")

    def root_of_steps(self, *steps):
        root = self.scratch / "runs"
        root.mkdir()
        for step in steps:
            done = tessera("convert", self.single, root / f"step-{step:08d}", "--to", "dcp", "--ranks", 2)
            self.assertEqual(done.returncode, 0, done.stderr)
        return root

    def flip(self, file, at=-1):
        data = bytearray(file.read_bytes())
        data[at] ^= 1
        file.write_bytes(data)

    def test_verify_of_a_checkpoint_ends_with_what_was_verified(self):
        place = self.root_of_steps(1) / "step-00000001"
        done = tessera("verify", place, "--threads", 2)
        self.assertEqual((done.returncode, done.stderr), (0, ""))
        self.assertRegex(done.stdout, rf"^{place}: sound; dcp, save [0-9a-f]{{32}}\n\d+ bytes verified, 0 unverified, 0 damaged\n$")
        self.assertRegex(tessera("verify", self.single).stdout, r": no damage found; dcp\n\d+ bytes verified, [1-9]\d* unverified, 0 damaged\n$")
        self.flip(place / "__1_0.distcp")
        self.assertEqual(tessera("verify", "--quick", place).returncode, 0, "names and sizes are as they were")
        done = tessera("verify", place)
        self.assertEqual((done.returncode, done.stderr), (1, ""))
        self.assertEqual(done.stdout.split()[:4], ["file", "offset", "damage", "keys"])
        self.assertRegex(done.stdout, rf"(?m)^{place}/__1_0.distcp +0 +bytes 0 to \d+ are not those that were published +b, w$")
        self.assertRegex(done.stdout, r"\d+ bytes verified, 0 unverified, [1-9]\d* damaged\n$")
        found = json.loads(tessera("verify", place, "--json").stdout)
        self.assertEqual((found["sound"], found["unverified_bytes"], found["damage"][0]["keys"]), (False, 0, ["b", "w"]))
        self.assert_fails(tessera("verify", self.scratch / "nowhere"), 3, "nowhere: no checkpoint")
        self.assert_fails(tessera("verify", place, "--threads", 0), 2, "threads")

    def test_verify_of_a_root_has_a_line_a_step(self):
        root = self.root_of_steps(1, 2, 3)
        self.flip(root / "step-00000002/.metadata")
        done = tessera("verify", root)
        self.assertEqual((done.returncode, done.stderr), (1, ""))
        self.assertRegex(done.stdout, r"(?m)^step-00000001: sound; \d+ bytes verified, 0 unverified, 0 damaged$")
        self.assertRegex(done.stdout, r"(?m)^step-00000002: damaged in 1 place; ")
        self.assertRegex(done.stdout.splitlines()[-1], r"^in all: \d+ bytes verified")
        self.assertEqual([step["sound"] for step in json.loads(tessera("verify", root, "--json").stdout)["steps"].values()], [True, False, True])

    def test_steps_lists_steps_and_leftovers(self):
        root = self.root_of_steps(1, 2)
        left = root / (".tessera-" + "0123456789abcdef" * 2)
        left.mkdir()
        (root / "step-00000001.pinned").touch()
        done = tessera("steps", root)
        self.assertEqual((done.returncode, done.stderr), (0, ""))
        self.assertRegex(done.stdout, r"(?m)^step-00000001 +\d+ +4 +[0-9a-f]{32} +pinned +sound$")
        self.assertRegex(done.stdout, r"(?m)^step-00000002 +\d+ +4 +[0-9a-f]{32} +sound$")
        self.assertIn(str(left), done.stdout)
        self.assertEqual(done.stdout.splitlines()[-1], "2 steps, 2 sound; 1 leftover; names and sizes looked at")
        self.flip(root / "step-00000002/__0_0.distcp")
        self.assertEqual(tessera("steps", "--quick", root).returncode, 0)
        done = tessera("steps", "--full", root)
        self.assertEqual(done.returncode, 1)
        self.assertRegex(done.stdout, r"(?m)^step-00000002 .* not those that were published")
        found = json.loads(tessera("steps", root, "--json").stdout)
        self.assertEqual([step["pinned"] for step in found["steps"].values()], [True, False])
        self.assertEqual([leftover["directory"] for leftover in found["leftovers"]], [left.name])
        self.assert_fails(tessera("steps", root / "step-00000001"), 2, "one checkpoint, not a root of steps")
        self.assert_fails(tessera("steps", self.scratch / "nowhere"), 3, "no such directory")
        self.assert_fails(tessera("steps", "--full", "--quick", root), 2)

    def test_gc_removes_what_is_left_over_and_what_no_rule_keeps(self):
        root = self.root_of_steps(1, 2, 3, 4)
        left = root / (".tessera-" + "0123456789abcdef" * 2)
        left.mkdir()
        (left / "__0_0.distcp").write_bytes(b"half")
        (root / ".tessera-mine").mkdir()
        (root / "step-00000002.pinned").touch()
        names = sorted(os.listdir(root))
        done = tessera("gc", root)
        self.assertEqual((done.returncode, done.stderr), (0, ""))
        self.assertIn(f"left {left}: a save may be at work there", done.stdout)
        done = tessera("gc", root, "--dry-run", "--older-than", "0", "--keep-last", 1)
        self.assertEqual(done.stdout, f"would remove {left}: 4 B\nwould remove {root}/step-00000001\nwould remove {root}/step-00000003\n")
        self.assertEqual(sorted(os.listdir(root)), names)
        done = tessera("gc", root, "--older-than", "0", "--keep-last", 1)
        self.assertEqual((done.returncode, done.stderr), (0, ""))
        self.assertEqual(sorted(os.listdir(root)), [".tessera-mine", "step-00000002", "step-00000002.pinned", "step-00000004"])
        self.assertEqual(tessera("gc", root, "--keep-last", 1).stdout, f"nothing to remove in {root}\n")
        for arguments in (["--older-than", "soon"], ["--keep-best", "loss:0"], ["--keep-last", "-1"]):
            self.assert_fails(tessera("gc", root, *arguments), 2)
        self.assert_fails(tessera("gc", self.scratch / "nowhere"), 3, "no such directory")

    def test_failures_say_where_and_why(self):
        self.assert_fails(tessera("ls", self.scratch / "nowhere"), 3, f"{self.scratch}/nowhere: no checkpoint", "hint: ", "no such directory")
        self.assert_fails(tessera("ls", self.scratch), 3, "no checkpoint", "tessera: hint: ")
        self.assert_fails(tessera("diff", self.single, self.scratch / "nowhere"), 3, "nowhere")
        self.assert_fails(tessera("ls", f"{GOLDEN}/hostile/metadata_garbage//"), 1, f"{GOLDEN}/hostile/metadata_garbage/.metadata")
        missing = self.copied(self.sharded, "missing")
        (missing / "__1_0.distcp").unlink()
        self.assert_fails(tessera("ls", "--digest", missing), 3, f"{missing}/__1_0.distcp", "ENOENT")

    def test_links_inside_a_checkpoint_are_not_followed(self):
        place = self.copied(self.sharded, "linked")
        (place / "__1_0.distcp").rename(self.scratch / "elsewhere")
        (place / "__1_0.distcp").symlink_to(self.scratch / "elsewhere")
        done = tessera("ls", "--digest", place)
        self.assertNotEqual(done.returncode, 0)
        self.assertIn("error: ", done.stderr)

    def test_usage(self):
        for arguments in ([], ["ls"], ["diff", "a"], ["verify", "a", "b"], ["lss", "a"], ["ls", "a", "--no-such"]):
            self.assert_fails(tessera(*arguments), 2, "tessera: hint: ")
        for arguments in (["--help"], ["ls", "--help"], ["diff", "--help"], ["--version"]):
            done = tessera(*arguments)
            self.assertEqual((done.returncode, done.stderr), (0, ""))
        self.assertRegex(tessera("--version").stdout, r"^tessera \d+\.\d+\.\d+\n$")

    @unittest.skipUnless(os.path.exists("/dev/full"), "no /dev/full here")
    def test_a_full_disk_under_standard_output_is_an_error(self):
        with open("/dev/full", "w", encoding="utf-8") as full:
            done = subprocess.run([TESSERA, "ls", str(self.single)], stdout=full, stderr=subprocess.PIPE, text=True, check=False)
        self.assertEqual(done.returncode, 3)
        self.assertIn("ENOSPC", done.stderr)


if __name__ == "__main__":
    TESSERA, GOLDEN = sys.argv[1], Path(sys.argv[2])
    unittest.main(argv=sys.argv[:1])

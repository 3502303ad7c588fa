"""What check_includes.py must catch, each on a small house of its own."""
import tempfile
import unittest
from pathlib import Path

import check_includes


class House:
    def __init__(self, folder):
        self.root = Path(folder)

    def room(self, name, uses="", test_uses="", tests="", **files):
        folder = self.root / "tessera" / name
        folder.mkdir(parents=True)
        (folder / "CMakeLists.txt").write_text(f"tessera_module({name}\n  USES {uses}\n  TESTS {tests}\n  TEST_USES {test_uses})  # a room\n")
        for file, text in files.items():
            (folder / file.replace("_h", ".h").replace("_cpp", ".cpp")).write_text(text)


class CheckIncludes(unittest.TestCase):
    def setUp(self):
        scratch = tempfile.TemporaryDirectory()
        self.addCleanup(scratch.cleanup)
        self.house = House(scratch.name)
        self.house.room("base", error_h="#pragma once\n#include <vector>\n")

    def problems(self):
        return check_includes.check(self.house.root)

    def test_accepts_what_uses_allows(self):
        self.house.room("layout", uses="base", box_h='#include "tessera/base/error.h"\n#include "tessera/layout/view.h"\n', view_h="")
        self.assertEqual(self.problems(), [])

    def test_refuses_a_room_that_uses_does_not_name(self):
        self.house.room("layout", box_cpp='// first\n#include "tessera/base/error.h"\n')
        self.assertEqual(self.problems(), ["tessera/layout/box.cpp:2: includes tessera/base/error.h, but base is not in the USES of layout"])

    def test_refuses_use_of_a_room_that_stands_later(self):
        self.house.room("layout", uses="base manifest")
        self.assertEqual(self.problems(), ["tessera/layout/CMakeLists.txt: layout may not use manifest"])

    def test_keeps_the_wings_apart(self):
        self.assertNotIn("checkpoint", check_includes.may_use("fsdp"))
        self.assertNotIn("collectives", check_includes.may_use("checkpoint"))
        self.assertLessEqual({"checkpoint", "fsdp"}, check_includes.may_use("libtorch"))
        self.assertNotIn("plan", check_includes.may_use("storage"))

    def test_tests_may_use_more_and_sources_may_not(self):
        text = '#include "tessera/base/error.h"\n'
        self.house.room("layout", test_uses="base", tests="box_test.cpp", box_test_cpp=text)
        self.assertEqual(self.problems(), [])
        (self.house.root / "tessera/layout/box.cpp").write_text(text)
        self.assertEqual(len(self.problems()), 1)

    def test_refuses_includes_of_what_stands_outside_the_house(self):
        self.house.room("layout", box_cpp='#include "cli/ls.h"\n')
        self.assertEqual(self.problems(), ["tessera/layout/box.cpp:1: a room includes cli/ls.h, which stands outside the house"])

    def test_refuses_relative_includes_and_missing_files(self):
        self.house.room("layout", uses="base", box_cpp='#include "../base/error.h"\n#include "tessera/base/gone.h"\n')
        self.assertEqual(len(self.problems()), 2)

    def test_refuses_a_room_that_no_line_knows(self):
        self.house.room("attic")
        self.assertEqual(self.problems(), ["tessera/attic/CMakeLists.txt: attic stands in no line of the house"])


if __name__ == "__main__":
    unittest.main()

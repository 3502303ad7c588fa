#!/usr/bin/env python3
"""Holds every #include of the house against what its CMakeLists.txt says.

A room may include itself and the rooms of its USES line; its tests may include those of TEST_USES as well. A USES line
may name only rooms that stand before the room in its line of the house. What stands outside the house (cli, tests, …)
may include rooms, and rooms may include nothing of it.

Usage: check_includes.py [ROOT]        exit code 0, or 1 with one line for each violation
"""
import re
import sys
from pathlib import Path

# The lines of the house: a room uses rooms to its left. Both wings stand on base and layout.
FILES = ["base", "layout", "manifest", "format", "plan", "storage", "comm", "transfer", "checkpoint", "exchange"]
LIBTORCH = ["base", "layout", "comm", "comm_socket", "collectives", "fsdp"]  # comm_socket: a target of its own in comm/socket
BRIDGE = FILES + ["collectives", "fsdp", "libtorch"]
# Rooms that stand side by side: neither uses the other.
ASIDE = {"storage": {"plan"}, "comm": {"plan", "storage"}}


def may_use(room):
    """The rooms that `room` may name in USES."""
    for line in (FILES, LIBTORCH, BRIDGE):
        if room in line:
            return set(line[: line.index(room)]) - ASIDE.get(room, set())
    return None


SECTIONS = ("USES", "SOURCES", "TESTS", "LINK", "TEST_USES", "TEST_LINK")


def modules(cmake_text):
    """The tessera_module() calls of a CMakeLists.txt: name → section → words."""
    found = {}
    text = re.sub(r"#[^\n]*", "", cmake_text)
    for call in re.finditer(r"tessera_module\(([^)]*)\)", text):
        words = call.group(1).split()
        sections, current = {s: [] for s in SECTIONS}, None
        for word in words[1:]:
            if word in SECTIONS:
                current = word
            elif word in ("TORCH", "ONE_THREAD"):
                current = None
            elif current is not None:
                sections[current].append(word)
        found[words[0]] = sections
    return found


def includes(path):
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        match = re.match(r'\s*#\s*include\s*[<"]([^>"]+)[>"]', line)
        if match:
            yield number, match.group(1)


# tessera/c is libtessera.so: what shows of it is a C header.
DOORS = {"c"}


def check_uses(room, module, sections):
    """`module` is the room itself, or a second target in its folder, which may use the room too."""
    allowed = may_use(room) | ({room} if module != room else set())
    where = f"tessera/{room}/CMakeLists.txt: {module}"
    wrong = [f"{where} may not use {used}" for used in sections["USES"] if used not in allowed]
    unknown = [f"{where}: TEST_USES names {used}, which is no room" for used in sections["TEST_USES"] if may_use(used) is None]
    return wrong + unknown


def check_room(root, folder):
    cmake = folder / "CMakeLists.txt"
    room = folder.name
    if not cmake.exists():
        return [f"tessera/{room}: no CMakeLists.txt"]
    found = modules(cmake.read_text(encoding="utf-8"))
    if room in DOORS:
        return []
    if room not in found:
        return [f"tessera/{room}/CMakeLists.txt: no tessera_module({room} …)"]
    if may_use(room) is None:
        return [f"tessera/{room}/CMakeLists.txt: {room} stands in no line of the house"]
    problems = []
    uses, test_uses, tests = {room}, set(), set()
    for name, sections in found.items():
        problems += check_uses(room, name, sections)
        uses |= set(sections["USES"])
        test_uses |= set(sections["TEST_USES"])
        tests |= set(sections["TESTS"])
    for path in sorted(p for p in folder.rglob("*") if p.suffix in (".h", ".cpp")):
        is_test = path.stem.endswith("_test") or str(path.relative_to(folder)) in tests
        allowed = uses | test_uses if is_test else uses
        for number, name in includes(path):
            where = f"{path.relative_to(root)}:{number}"
            parts = name.split("/")
            if parts[0] == "tessera" and len(parts) > 2 and parts[1] not in allowed:
                line = "USES or TEST_USES" if is_test else "USES"
                problems.append(f"{where}: includes {name}, but {parts[1]} is not in the {line} of {room}")
            elif parts[0] in ("cli", "examples", "bench", "fuzz") or (parts[0] == "tests" and not is_test):
                problems.append(f"{where}: a room includes {name}, which stands outside the house")
            elif name.startswith("."):
                problems.append(f"{where}: includes {name}; the include path is the file path")
            elif parts[0] == "tessera" and not (root / name).exists():
                problems.append(f"{where}: includes {name}, which does not exist")
    return problems


def check(root):
    problems = []
    for folder in sorted(p for p in (root / "tessera").iterdir() if p.is_dir()):
        problems += check_room(root, folder)
    return problems


def main():
    root = Path(sys.argv[1] if len(sys.argv) > 1 else Path(__file__).parent.parent).resolve()
    problems = check(root)
    for problem in problems:
        print(f"check_includes: {problem}", file=sys.stderr)
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())

#!/usr/bin/env python3
"""Installs a build into a folder of its own and builds what somebody would write against it: the core where no LibTorch is to be found,
C by pkg-config, the core by pkg-config, and, with --torch, a trainer and the whole program of docs/training.md.

Usage: consumers.py --build build/dev [--torch PREFIX --launch TESSERA-LAUNCH]
"""
import argparse
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).resolve().parent
PAGE = HERE.parent.parent / "docs/training.md"
CHECKPOINT = HERE.parent / "golden/data/torch-2.13/fsdp1_sharded/ckpt"


def run(*command, **options):
    done = subprocess.run([str(c) for c in command], capture_output=True, text=True, timeout=800, check=False, **options)
    if done.returncode != 0:
        print(f"FAILED {' '.join(map(str, command))}\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}")
        sys.exit(1)
    return done.stdout


def build(source, where, prefix, *definitions, program="consumer"):
    run("cmake", "-S", source, "-B", where, "-G", "Ninja", f"-DCMAKE_PREFIX_PATH={prefix}", *definitions)
    run("cmake", "--build", where)
    return where / program


def only_block(language, with_text):
    """The one block of the page that has this text."""
    blocks = re.findall(rf"^```{language}\n(.*?)^```", PAGE.read_text(encoding="utf-8"), re.M | re.S)
    (block,) = (block for block in blocks if with_text in block)
    return block


def documented_program(scratch, prefix, launch):
    """Builds the page's program as the page says, and trains alone, then on two ranks from where that ended."""
    source = scratch / "documented"
    source.mkdir()
    (source / "train.cpp").write_text(only_block("cpp", "int main("), encoding="utf-8")
    (source / "CMakeLists.txt").write_text(only_block("cmake", "add_executable(train"), encoding="utf-8")
    train = build(source, source / "build", prefix, "-DCMAKE_BUILD_TYPE=Release", program="train")
    lines = run(train, scratch / "runs", 12) + run(launch, "--ranks", 2, "--", train, scratch / "runs", 40)
    found = re.findall(r"^(?:\[rank 0\] )?step (\d+) loss ([\d.]+)$", lines, re.M)
    losses = [float(loss) for _, loss in found]
    if [int(step) for step, _ in found] != list(range(1, 41)) or not sum(losses[-10:]) < 0.5 * sum(losses[:10]):
        print(f"FAILED the program of {PAGE.name} did not train, or not go on from its last step:\n{lines}")
        sys.exit(1)
    print(f"ok     the program of {PAGE.name}: loss {losses[0]}, {losses[-1]} after 40 steps")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--build", type=Path, required=True)
    parser.add_argument("--torch", help="where LibTorch is")
    parser.add_argument("--launch", type=Path, help="tessera-launch; with --torch")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        scratch = Path(scratch)
        core = scratch / "core"
        run("cmake", "--install", options.build, "--prefix", core, "--component", "core")
        if any("torch" in p.name for p in core.rglob("*") if "torch_file" not in p.name):
            print("FAILED the component core holds something of LibTorch's")
            sys.exit(1)
        listed = run(core / "bin/tessera", "ls", CHECKPOINT)
        keys = run(build(HERE / "core", scratch / "a", core, "-DCMAKE_DISABLE_FIND_PACKAGE_Torch=ON"), CHECKPOINT)
        print("ok     core, by find_package, without LibTorch:", keys.splitlines()[-1])
        environment = {**os.environ, "PKG_CONFIG_PATH": str(next(core.rglob("pkgconfig")))}
        flags = run("pkg-config", "--cflags", "--libs", "tessera", env=environment).split()
        run("cc", "-std=c99", HERE / "c/main.c", "-o", scratch / "c", *flags)
        from_c = run(scratch / "c", CHECKPOINT, env={**environment, "LD_LIBRARY_PATH": str(next(core.rglob("libtessera.so")).parent)})
        flags = run("pkg-config", "--static", "--cflags", "--libs", "tessera-core", env=environment).split()
        run("c++", "-std=c++20", HERE / "core/main.cpp", "-o", scratch / "d", *flags)
        from_pc = run(scratch / "d", CHECKPOINT)
        names = from_c.splitlines()
        if not names or keys != from_pc or keys.splitlines()[:-1] != names or not all(name in listed for name in names):
            print(f"FAILED the consumers differ:\n{keys}\n{from_c}\n{from_pc}\n{listed}")
            sys.exit(1)
        print(f"ok     C and C++ by pkg-config: {len(names)} keys")
        if options.torch:
            run("cmake", "--install", options.build, "--prefix", scratch / "all")
            prefix = f"{scratch / 'all'};{options.torch}"
            trained = run(build(HERE / "torch", scratch / "t", prefix), scratch / "saved")
            print("ok     torch, by find_package:", trained.strip())
            documented_program(scratch, prefix, options.launch)


if __name__ == "__main__":
    main()

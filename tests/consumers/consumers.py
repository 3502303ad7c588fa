#!/usr/bin/env python3
"""Installs a build into a folder of its own and builds what somebody would write against it: the core where no LibTorch is to be found,
C by pkg-config, the core by pkg-config, and, with --torch, a trainer.

Usage: consumers.py --build build/dev [--torch PREFIX]
"""
import argparse
import os
import subprocess
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).resolve().parent
CHECKPOINT = HERE.parent / "golden/data/torch-2.13/fsdp1_sharded/ckpt"


def run(*command, **options):
    done = subprocess.run([str(c) for c in command], capture_output=True, text=True, timeout=800, check=False, **options)
    if done.returncode != 0:
        print(f"FAILED {' '.join(map(str, command))}\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}")
        sys.exit(1)
    return done.stdout


def build(source, where, prefix, *definitions):
    run("cmake", "-S", source, "-B", where, "-G", "Ninja", f"-DCMAKE_PREFIX_PATH={prefix}", *definitions)
    run("cmake", "--build", where)
    return where / "consumer"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--build", type=Path, required=True)
    parser.add_argument("--torch", help="where LibTorch is")
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
            trained = run(build(HERE / "torch", scratch / "t", f"{scratch / 'all'};{options.torch}"), scratch / "saved")
            print("ok     torch, by find_package:", trained.strip())


if __name__ == "__main__":
    main()

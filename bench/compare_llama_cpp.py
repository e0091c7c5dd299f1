#!/usr/bin/env python3
"""lewis beside llama.cpp (through llama-cpp-python): tokens a second at batch 1, models of the same
shape, weights of two bytes (bfloat16 here, an F16 GGUF there), float32 keys and values in both.

usage: bench/compare_llama_cpp.py [--size 135m|1.1b] [--rounds N] [--venv DIR] [--build DIR]

Needs a release build (cmake --preset release -DLEWIS_BENCH=ON, target generate_bench) and, for the
first run, a package index and a C++ compiler: llama.cpp is built for this machine, in a virtual
environment of its own. lewis itself never needs it.
"""
import argparse
import os
import pathlib
import re
import subprocess
import tempfile
import venv

PACKAGES = ["llama-cpp-python==0.3.36", "gguf"]
INSIDE = pathlib.Path(__file__).resolve().with_name("llama_cpp_inside.py")


def make_environment(folder):
    """The Python of the virtual environment, which is made when it is not there."""
    python = folder.resolve() / "bin" / "python"
    installed = subprocess.run([python, "-c", "import llama_cpp, gguf"], capture_output=True) \
        if python.exists() else None
    if installed is None or installed.returncode != 0:
        venv.create(folder, with_pip=True)
        subprocess.run([python, "-m", "pip", "install", "--quiet", *PACKAGES], check=True)
    return python


def lewis_rate(bench, size):
    """Of the fastest step at batch 1."""
    table = subprocess.run([bench, size, "1"], capture_output=True, text=True, check=True).stdout
    return float(re.search(r"^1 +([0-9.]+)", table, re.MULTILINE)[1])


def main():
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", choices=["135m", "1.1b"], default="135m")
    parser.add_argument("--rounds", type=int, default=3)
    cache = pathlib.Path(os.environ.get("XDG_CACHE_HOME", pathlib.Path.home() / ".cache"))
    parser.add_argument("--venv", type=pathlib.Path, default=cache / "lewis-bench-llama-cpp")
    parser.add_argument("--build", type=pathlib.Path, default=pathlib.Path("build/release"))
    args = parser.parse_args()
    python = make_environment(args.venv)
    threads = str(len(os.sched_getaffinity(0)))
    ours, theirs = [], []
    with tempfile.TemporaryDirectory() as folder:
        model = pathlib.Path(folder) / "model.gguf"
        subprocess.run([python, INSIDE, "write", args.size, model], check=True)
        for _ in range(args.rounds):  # in turn, so that other work on the machine hits both
            ours.append(lewis_rate(args.build / "generate_bench", args.size))
            run = subprocess.run([python, INSIDE, "time", model, threads], capture_output=True,
                                 text=True, check=True)
            theirs.append(float(run.stdout.split()[-1]))
    print(f"{args.size}, batch 1, {threads} threads, best of {args.rounds} rounds, tokens/s: "
          f"lewis {max(ours):.1f}, llama.cpp {max(theirs):.1f}, "
          f"ratio {max(ours) / max(theirs):.2f}")


if __name__ == "__main__":
    main()

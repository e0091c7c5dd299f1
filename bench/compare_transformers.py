#!/usr/bin/env python3
"""`lewis calibrate` beside transformers with forward hooks: tokens/s, memory, how far the sums are.

usage: bench/compare_transformers.py [--size tiny|135m|1.1b|qwen3_5_0.8b|granite4_350m]
                                     [--rounds 3] [--batch 1,5]

lewis's time is that of the whole command, from start to written file; transformers' is that of the
forward passes alone, without import, loading and head, with four hooks a block. Rounds take turns,
the fastest counts. Needs a release build and, for the first run, a package index: transformers
lives in a virtual environment of its own (as in compare_mergekit.py); lewis never needs it.
"""
import argparse
import json
import os
import pathlib
import random
import shutil
import subprocess
import sys
import tempfile
import venv

import hybrids
import merging

PACKAGES = ["torch", "transformers"]
INSIDE = pathlib.Path(__file__).resolve().with_name("transformers_inside.py")


def make_environment(folder):
    """The Python of the environment, with transformers in it."""
    python = folder.resolve() / "bin" / "python"
    if not python.exists():
        print(f"installing {' '.join(PACKAGES)} into {folder}", file=sys.stderr)
        venv.create(folder, with_pip=True)
        subprocess.run([python, "-m", "pip", "install", "--quiet", *PACKAGES], check=True)
    return python


def write_model(runner, args):
    """Random weights; says how many, and how large the vocabulary is."""
    if args.size in merging.SHAPES:
        shape = merging.SHAPES[args.size]
        merging.write_models(runner.folder, shape, shard_bytes=2_000_000_000, names=["model"])
        return shape.parameters(), shape.vocab
    config = hybrids.CONFIGS[args.size]
    path = runner.folder / "made.json"
    path.write_text(json.dumps(config))
    subprocess.run([runner.python, INSIDE, "make", path, runner.folder / "model"], check=True,
                   env=runner.environment)
    weights = (runner.folder / "model" / "model.safetensors").stat().st_size
    return weights / 2, config["vocab_size"]


def write_sequences(path, args, vocab):
    draw = random.Random(2)
    with open(path, "w") as file:
        for _ in range(args.sequences):
            json.dump({"ids": [draw.randrange(vocab) for _ in range(args.tokens)]}, file)
            file.write("\n")


class Runner:
    def __init__(self, args, folder):
        self.args, self.folder = args, folder
        self.python = make_environment(args.venv)
        self.data = folder / "ids.jsonl"
        self.environment = {**os.environ, "HF_HUB_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1",
                            "LEWIS_CACHE": str(folder / "cache")}

    def lewis(self, compute):
        out = self.folder / f"lewis-{compute}.safetensors"
        command = [self.args.build.resolve() / "lewis", "calibrate", self.folder / "model",
                   "--data", self.data, "--format", "ids", "--compute", compute, "-o", out, "-q"]
        cost = merging.measured(command, self.folder / "log", env=self.environment)
        return cost.wall, cost.peak

    def transformers(self, dtype, batch):
        out = self.folder / f"transformers-{dtype}.json"
        command = [self.python, INSIDE, self.folder / "model", self.data, dtype, str(batch), out]
        cost = merging.measured(command, self.folder / "log", env=self.environment)
        return json.loads(out.read_text())["seconds"], cost.peak


def print_table(best, tokens):
    fastest = min(seconds for (who, _), (seconds, _) in best.items() if who == "transformers")
    print(f"{'':<34}{'seconds':>10}{'tokens/s':>10}{'peak, MB':>10}{'x fastest transformers':>24}")
    for (who, how), (seconds, peak) in best.items():
        ratio = f"{fastest / seconds:>24.2f}" if who == "lewis" else ""
        print(f"{who + ' ' + how:<34}{seconds:>10.2f}{tokens / seconds:>10.0f}{peak / 1e6:>10.0f}"
              + ratio)


def print_differences(runner, computes):
    theirs = json.loads((runner.folder / "transformers-float32.json").read_text())["sums"]
    for compute in computes:
        ours = merging.read_floats(runner.folder / f"lewis-{compute}.safetensors")
        largest = max(abs(ours[f"{name}.sum_squares"][j] - v) / v
                      for name, values in theirs.items() for j, v in enumerate(values))
        totals = max(abs(sum(ours[f"{name}.sum_squares"]) / sum(values) - 1)
                     for name, values in theirs.items())
        print(f"lewis {compute} and transformers float32: sums of squares differ by {largest:.1e} "
              f"(one channel), {totals:.1e} (one layer)")


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", choices=[*merging.SHAPES, *hybrids.CONFIGS], default="135m")
    parser.add_argument("--sequences", type=int, default=15)
    parser.add_argument("--tokens", type=int, default=512, help="of one sequence")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--compute", default="f32,bf16", help="lewis's, with commas")
    parser.add_argument("--dtype", default="float32,bfloat16", help="transformers', with commas")
    parser.add_argument("--batch", default="1,5", help="transformers': sequences at once")
    parser.add_argument("--venv", type=pathlib.Path,
                        default=pathlib.Path("build/transformers-venv"))
    parser.add_argument("--build", type=pathlib.Path, default=pathlib.Path("build/release"))
    parser.add_argument("--work", type=pathlib.Path,
                        help="where to write the model, cleared again (default: temporary folder)")
    return parser.parse_args()


def main():
    args = parse_arguments()
    computes = args.compute.split(",")
    folder = pathlib.Path(tempfile.mkdtemp(prefix="lewis-transformers-", dir=args.work)).resolve()
    try:
        runner = Runner(args, folder)
        parameters, vocab = write_model(runner, args)
        write_sequences(runner.data, args, vocab)
        print(f"{parameters / 1e6:.1f} M parameters, {args.sequences} sequences of "
              f"{args.tokens} tokens, {os.cpu_count()} cores, best of {args.rounds}\n", flush=True)
        runs = {("lewis", compute): lambda c=compute: runner.lewis(c) for compute in computes}
        for dtype in args.dtype.split(","):
            for batch in args.batch.split(","):
                runs["transformers", f"{dtype}, {batch} at once"] = (
                    lambda d=dtype, b=batch: runner.transformers(d, b))
        results = {key: [] for key in runs}
        for _ in range(args.rounds):
            for key, run in runs.items():
                results[key].append(run())
        print_table({key: min(costs) for key, costs in results.items()},
                    args.sequences * args.tokens)
        print()
        print_differences(runner, computes)
    finally:
        shutil.rmtree(folder)


if __name__ == "__main__":
    main()

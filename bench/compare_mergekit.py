#!/usr/bin/env python3
"""lewis beside mergekit on the same recipes and checkpoints: wall time, CPU time, peak memory, what
the arithmetic alone costs, and how far the results differ.

usage: bench/compare_mergekit.py [--size tiny|135m|1.1b] [--methods all|ties,linear,...] ...

Needs a release build (lewis and merge_bench: cmake --preset release -DLEWIS_BENCH=ON) and, for the
first run, a package index. mergekit lives in a virtual environment of its own (6 GB where the
index's torch brings CUDA libraries, which nothing here uses; pip's own settings choose another
index); lewis itself never needs it.
"""
import argparse
import functools
import json
import os
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile
import venv
from dataclasses import dataclass, field

import merging

MERGEKIT = "mergekit==0.1.5"
INSIDE = pathlib.Path(__file__).resolve().with_name("mergekit_inside.py")


@dataclass(frozen=True)
class Case:
    method: str
    density: float = None
    base: bool = True
    models: int = 2
    weights: bool = True  # the method reads weight
    shared: dict = field(default_factory=dict)
    random: bool = False  # the result depends on random numbers

    @property
    def label(self):  # as merge_bench names it
        return self.method if self.density is None else f"{self.method} {self.density:g}"

    def per_model(self):
        """{parameter: one value a model}, as in merge_bench.cc"""
        values = {"weight": [1.0, 0.5][:self.models]} if self.weights else {}
        if self.density is not None:
            values["density"] = [self.density] * self.models
        return values

    def recipe(self, folder, dtype):
        """With whole paths: mergekit looks for short ones on a hub."""
        values = self.per_model()
        models = [{"model": str(folder / name), "parameters": {k: values[k][i] for k in values}}
                  for i, name in enumerate(merging.MODELS[1:][:self.models])]
        recipe = {"merge_method": self.method, "models": models, "dtype": dtype,
                  "out_dtype": "bfloat16"}
        if self.base:
            recipe["base_model"] = str(folder / "base")
        if self.shared:
            recipe["parameters"] = self.shared
        return json.dumps(recipe, indent=1)  # which is YAML too


CASES = [
    Case("ties", 0.2),
    Case("ties", 0.5),
    Case("linear", base=False),
    Case("task_arithmetic"),
    Case("dare_linear", 0.5, random=True),
    Case("dare_ties", 0.5, random=True),
    Case("breadcrumbs", 0.5),
    Case("breadcrumbs_ties", 0.5),
    Case("della", 0.5, random=True),
    Case("della_linear", 0.5, random=True),
    Case("slerp", models=1, weights=False, shared={"t": 0.3}),
    Case("nuslerp", base=False),
    Case("multislerp", base=False),
    Case("karcher", base=False, weights=False),
    Case("model_stock", weights=False),
    Case("sce", weights=False),
    Case("arcee_fusion", models=1, weights=False, random=True),
    Case("ram", weights=False),
    Case("ramplus_tl", weights=False),
    Case("nearswap", models=1, weights=False, shared={"t": 0.3}),
]
DEFAULT_METHODS = ("ties,linear,task_arithmetic,dare_ties,breadcrumbs,della,slerp,karcher,"
                   "model_stock,sce")


def make_environment(folder):
    """The environment's folder of programs, with mergekit in it."""
    programs = folder.resolve() / "bin"
    if not (programs / "mergekit-yaml").exists():
        print(f"installing {MERGEKIT} into {folder}", file=sys.stderr)
        venv.create(folder, with_pip=True)
        subprocess.run([programs / "pip", "install", "--quiet", MERGEKIT], check=True)
    return programs


class Runner:
    """Runs both programs in the folder of the models; nothing of mergekit runs elsewhere."""

    def __init__(self, args, folder):
        self.args, self.folder = args, folder
        self.programs = make_environment(args.venv)
        self.environment = {**os.environ, "HF_HUB_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1"}

    def best(self, runs, command, out):
        costs = []
        for _ in range(runs):
            shutil.rmtree(out, ignore_errors=True)
            costs.append(merging.measured(command, self.folder / "log", cwd=self.folder,
                                          env=self.environment))
        return min(costs, key=lambda cost: cost.wall)

    def mergekit(self, recipe, out):
        command = [self.programs / "mergekit-yaml", recipe, out, "--no-copy-tokenizer"]
        return self.best(self.args.mergekit_runs, command, out)

    def lewis(self, recipe, out):
        return self.best(self.args.runs, [self.args.lewis, "merge", recipe, out], out)

    def inside(self, *arguments):
        done = subprocess.run([self.programs / "python", INSIDE, *map(str, arguments)], check=True,
                              cwd=self.folder, env=self.environment, stdout=subprocess.PIPE)
        return json.loads(done.stdout.splitlines()[-1])


def difference(case, runner, theirs, ours):
    if case.random:
        return "random"
    d = runner.inside("compare", theirs, ours)
    if "names" in d:
        return "not the same tensors: " + " ".join(d["names"][:3])
    return (f"{100 * d['differ']:>9.3f}{100 * d['far']:>11.4f}{d['ulps']:>8.4g}"
            f"{d['largest']:>11.1e}")


def print_whole_merges(cases, runner):
    """From disk to disk: time, memory and how the results differ: entries that are not equal, those
    by more than one step of bfloat16, the most steps, the largest distance."""
    print(f"{'':<20}{'wall, s':^27}{'CPU, s':^27}{'peak, MB':^25}{'% of entries that differ':^40}")
    ratio = f"{'mergekit':>9}{'lewis':>9}{'ratio':>9}"
    print(f"{'from disk to disk':<20}{ratio}{ratio}{'mergekit':>9}{'lewis':>7}{'ratio':>9}"
          f"{'any':>9}{'> 1 ulp':>11}{'ulps':>8}{'largest':>11}")
    for case in cases:
        recipe = runner.folder / "recipe.yml"
        recipe.write_text(case.recipe(runner.folder, runner.args.dtype))
        theirs, ours = runner.folder / "out-mergekit", runner.folder / "out-lewis"
        a, b = runner.mergekit(recipe, theirs), runner.lewis(recipe, ours)
        print(f"{case.label:<20}{a.wall:>9.2f}{b.wall:>9.3f}{a.wall / b.wall:>9.1f}"
              f"{a.cpu:>9.2f}{b.cpu:>9.3f}{a.cpu / b.cpu:>9.1f}"
              f"{a.peak / 1e6:>9.0f}{b.peak / 1e6:>7.0f}{a.peak / b.peak:>9.1f}"
              f"{difference(case, runner, theirs, ours)}", flush=True)


@functools.lru_cache
def merge_bench(program, method):
    """The table of merge_bench for one method: {label: nanoseconds per parameter on two threads}"""
    text = subprocess.run([program, method], check=True, stdout=subprocess.PIPE, text=True).stdout
    rows = re.findall(r"^(\w+(?: [\d.]+)?) +[\d.]+ +([\d.]+) ", text, re.MULTILINE)
    return {label: float(nanoseconds) for label, nanoseconds in rows}


def print_arithmetic(cases, runner):
    """On tensors in memory: mergekit's methods and merge_bench."""
    entries = (4 if os.environ.get("BENCH_SIZE") == "small" else 58) << 20  # as in merge_bench.cc
    wanted = {c.label: {"method": c.method, "base": c.base, "models": c.models,
                        "parameters": {**c.per_model(), **c.shared}} for c in cases}
    theirs = runner.inside("arithmetic", json.dumps({"count": entries, "cases": wanted}),
                           runner.args.arithmetic_runs)
    print(f"\n{'ns per parameter':<20}{'mergekit':>9}{'lewis':>9}{'ratio':>9}"
          f"   (one tensor of {entries / 1e6:.1f} M parameters in memory, 2 threads)")
    for case in cases:
        ours = merge_bench(runner.args.merge_bench, case.method)[case.label]
        print(f"{case.label:<20}{theirs[case.label]:>9.1f}{ours:>9.2f}"
              f"{theirs[case.label] / ours:>9.1f}", flush=True)


def print_transformers(runner):
    recipe, out = runner.folder / "recipe.yml", runner.folder / "out-lewis"
    recipe.write_text(CASES[0].recipe(runner.folder, "bfloat16"))
    runner.best(1, [runner.args.lewis, "merge", recipe, out], out)
    print("\ntransformers on lewis's output:", json.dumps(runner.inside("forward", out)))


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", choices=merging.SHAPES, default="135m")
    parser.add_argument("--methods", default=DEFAULT_METHODS,
                        help="with commas, or all; default: %(default)s")
    parser.add_argument("--runs", type=int, default=3, help="of lewis; the fastest counts")
    parser.add_argument("--mergekit-runs", type=int, default=1)
    parser.add_argument("--arithmetic-runs", type=int, default=2, help="of mergekit's methods")
    parser.add_argument("--dtype", choices=["bfloat16", "float32"], default="bfloat16",
                        help="of mergekit's arithmetic; float32 shows which differences are only "
                        "its rounding to bfloat16 in between")
    parser.add_argument("--no-arithmetic", action="store_true", help="only from disk to disk")
    parser.add_argument("--transformers", action="store_true",
                        help="also load lewis's output with transformers and run it once")
    parser.add_argument("--venv", type=pathlib.Path, default=pathlib.Path("build/mergekit-venv"))
    parser.add_argument("--build", type=pathlib.Path, default=pathlib.Path("build/release"))
    parser.add_argument("--work", type=pathlib.Path,
                        help="where to write the models, cleared again (default: temporary folder)")
    args = parser.parse_args()
    args.lewis = args.build.resolve() / "lewis"
    args.merge_bench = args.build.resolve() / "merge_bench"
    return args


def chosen_cases(methods):
    if methods == "all":
        return CASES
    names = methods.split(",")
    unknown = set(names) - {case.method for case in CASES}
    if unknown:
        raise SystemExit(f"not known: {', '.join(sorted(unknown))}")
    return [case for case in CASES if case.method in names]


def main():
    args = parse_arguments()
    cases, shape = chosen_cases(args.methods), merging.SHAPES[args.size]
    folder = pathlib.Path(tempfile.mkdtemp(prefix="lewis-mergekit-", dir=args.work)).resolve()
    try:
        runner = Runner(args, folder)
        merging.write_models(folder, shape, shard_bytes=200_000_000)
        print(f"{MERGEKIT}, {shape.parameters() / 1e6:.1f} M parameters, bfloat16, a base and two "
              f"experts, {os.cpu_count()} cores; arithmetic in {args.dtype}; warm page cache\n")
        print_whole_merges(cases, runner)
        if not args.no_arithmetic:
            print_arithmetic(cases, runner)
        if args.transformers:
            print_transformers(runner)
    finally:
        shutil.rmtree(folder)


if __name__ == "__main__":
    main()

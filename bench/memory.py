#!/usr/bin/env python3
"""Peak memory of `lewis merge` for checkpoints of different sizes whose largest tensor is the same.

usage: bench/memory.py [--lewis build/release/lewis] [--work FOLDER] [SIZE...]

SIZE: parameters in units of 1e9 (default: 0.3 1.2 4.8); FOLDER holds 8 bytes a parameter, one size
after the other, and is cleared again. ties, bfloat16, a base and two experts. The page cache is as
it comes: warm where the models fit.
"""
import argparse
import pathlib
import shutil
import tempfile

import merging

RECIPE = """merge_method: ties
base_model: base
models:
- {model: a, parameters: {weight: 1, density: 0.3}}
- {model: b, parameters: {weight: 1, density: 0.3}}
dtype: bfloat16
"""


def shape_of(parameters):
    """Llama 3.2 1B's layers, 60.8 M parameters each, and a vocabulary of 65.5 M."""
    layers = max(1, round((parameters - 65.5e6) / 60.8e6))
    return merging.Shape(2048, 8192, layers, heads=32, kv_heads=8, vocab=32000, tied=True)


def row(lewis, folder, shape):
    merging.write_models(folder, shape, shard_bytes=2_000_000_000)
    recipe = folder / "recipe.yml"
    recipe.write_text(RECIPE)
    cost = merging.measured([lewis, "merge", recipe, folder / "out"], folder / "log")
    n = shape.parameters()
    print(f"{n / 1e9:>12.2f}{2 * n / 1e6:>12.0f}{cost.peak / 1e6:>12.0f}{cost.wall:>10.2f}"
          f"{8 * n / cost.wall / 1e9:>10.2f}{cost.cpu:>10.2f}", flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sizes", nargs="*", type=float, default=[0.3, 1.2, 4.8], metavar="SIZE")
    parser.add_argument("--lewis", type=pathlib.Path, default="build/release/lewis")
    parser.add_argument("--work", type=pathlib.Path, help="default: the temporary folder")
    args = parser.parse_args()
    shapes = [shape_of(size * 1e9) for size in args.sizes]
    largest = max(merging.count(dimensions) for _, dimensions in shapes[0].tensors())
    print(f"largest tensor: {largest / 1e6:.1f} M parameters, {2 * largest / 1e6:.0f} MB; "
          "GB/s: read and written\n")
    print(f"{'G parameters':>12}{'model, MB':>12}{'peak, MB':>12}{'wall, s':>10}{'GB/s':>10}"
          f"{'CPU, s':>10}")
    for shape in shapes:
        folder = pathlib.Path(tempfile.mkdtemp(prefix="lewis-memory-", dir=args.work))
        try:
            row(args.lewis.resolve(), folder, shape)
        finally:
            shutil.rmtree(folder)


if __name__ == "__main__":
    main()

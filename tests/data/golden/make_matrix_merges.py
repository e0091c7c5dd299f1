"""What the public programs of iso_c, tsv_m and resmerge make of the models of make_merges.py.

usage: python make_matrix_merges.py OUT FUSION_BENCH RESMERGE     needs torch, transformers, safetensors, pyyaml
OUT            the folder of make_merges.py: recipes/<name>.yml and merged/<name>.safetensors are written
FUSION_BENCH   an unpacked wheel of fusion-bench (MIT; 0.2.33 here), whose functions of Iso-C and TSV-M are called
RESMERGE       resmerge-main.py of the authors of ResMerge (MIT; commit 2d6d805 here)
Weights multiply the task vectors before, lambda the merged one after: neither program has such settings for each model.
wudi is not here: its program takes 300 steps of Adam, lewis solves the same problem in closed form.
"""
import importlib.util, os, sys, types
from contextlib import nullcontext
import torch, yaml
from safetensors.torch import load_file, save_file

MODELS = ["a", "b", "c"]
RECIPES = {
    "iso_c": dict(weights=[1, 1, 1]),
    "iso_c_weights": dict(weights=[0.7, 1.2], whole={"lambda": 0.8}),
    "tsv_m": dict(weights=[1, 1, 1]),
    "tsv_m_weights": dict(weights=[0.7, 1.2], whole={"lambda": 0.8}),
    "resmerge": dict(weights=[1, 1, 1]),
    "resmerge_settings": dict(weights=[1, 0.5], whole={"beta_min": 0.3, "beta_max": 1.5, "head_ratio": 0.6, "lambda": 1.1}),
}


def load(path, name):
    spec = importlib.util.spec_from_file_location(name, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def without_its_package(fusion_bench, path, name):
    """A module of fusion-bench alone: the package imports far more than torch."""
    for package in ("fusion_bench", "fusion_bench.utils", "fusion_bench.utils.type"):
        sys.modules[package] = types.ModuleType(package)
    sys.modules["fusion_bench.utils"].timeit_context = lambda *_: nullcontext()
    sys.modules["fusion_bench.utils.type"].StateDictType = dict
    return load(os.path.join(fusion_bench, "fusion_bench", "method", path), name)


def is_table(name):
    return "embed" in name or "lm_head" in name


def merged_vectors(name, vectors, whole, iso, tsv, resmerge):
    tables = [key for key in vectors[0] if is_table(key)]
    if name.startswith("iso_c"):
        return iso.iso_c(vectors, accelerator="cpu", exclude_keys=tables)
    if name.startswith("tsv_m"):
        return tsv.compute_and_sum_svd_mem_reduction(vectors, exclude_keys=tables, accelerator="cpu")
    return {key: resmerge.merge_one_tensor_resmerge(
        key, torch.zeros_like(vectors[0][key]), [v[key] for v in vectors], 1, torch.device("cpu"),
        whole.get("beta_min", 0.7), whole.get("beta_max", 1.0), whole.get("head_ratio", 0.2), None) for key in vectors[0]}


def main(out, fusion_bench, resmerge):
    iso = without_its_package(fusion_bench, "isotropic_merging/iso_utils.py", "iso")
    tsv = without_its_package(fusion_bench, "task_singular_vector/utils/TSVM_utils.py", "tsv")
    resmerge = load(resmerge, "resmerge")
    read = lambda model: load_file(os.path.join(out, "models", model, "model.safetensors"))
    base = read("base")
    for name, r in RECIPES.items():
        weights, whole = r["weights"], r.get("whole", {})
        # In double, so that the golden value has no rounding of its own.
        vectors = [{k: w * (v.double() - base[k].double()) for k, v in read(m).items()} for m, w in zip(MODELS, weights)]
        torch.set_default_dtype(torch.float64)
        resmerge.MERGE_DTYPE = torch.float64
        merged = merged_vectors(name, vectors, whole, iso, tsv, resmerge)
        torch.set_default_dtype(torch.float32)
        scale = whole.get("lambda", 1)
        save_file({k: (base[k].double() + scale * v.double()).float().contiguous() for k, v in merged.items()},
                  os.path.join(out, "merged", name + ".safetensors"))
        method = next(m for m in ("iso_c", "tsv_m", "resmerge") if name.startswith(m))
        recipe = {"merge_method": method, "models": [{"model": "models/" + m, "parameters": {"weight": float(w)}} for m, w in zip(MODELS, weights)],
                  "dtype": "float32", "base_model": "models/base", **({"parameters": whole} if whole else {})}
        with open(os.path.join(out, "recipes", name + ".yml"), "w") as f:
            yaml.safe_dump(recipe, f, sort_keys=False)


main(*sys.argv[1:])

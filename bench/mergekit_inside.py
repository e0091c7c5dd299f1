"""What compare_mergekit.py runs in mergekit's environment. Each verb prints one JSON object.

arithmetic CASES RUNS   nanoseconds per parameter of mergekit's methods on tensors in memory
compare A B             how the bfloat16 tensors of two checkpoints differ
forward MODEL           loads a folder with transformers and runs one forward pass
"""
import json
import pathlib
import sys
import time

import torch
from safetensors import safe_open


def tensors_in_memory(count):
    """A base and two experts, distributed as in merge_bench.cc."""
    torch.manual_seed(1)
    uniforms = lambda n: sum(torch.rand(count) - 0.5 for _ in range(n))
    base = uniforms(3) * 0.04
    experts = [base + uniforms(2) * 3e-4 for _ in range(2)]
    return [t.to(torch.bfloat16).reshape(count // 4096, 4096) for t in [base, *experts]]


def arithmetic(cases, runs):
    """cases: {"count": entries, "cases": {label: {method, base, models, parameters}}}"""
    from mergekit.merge_methods import registry
    from mergekit.merge_methods.base import TensorGroup

    torch.set_num_threads(2)  # as many as the column of merge_bench that it stands beside
    cases = json.loads(cases)
    base, *experts = tensors_in_memory(cases["count"])
    result = {}
    for label, case in cases["cases"].items():
        tensors = [base] * case["base"] + experts[:case["models"]]
        group = TensorGroup.from_tensors(tensors, base_index=0 if case["base"] else None,
                                         name="model.layers.0.mlp.up_proj.weight")
        seconds = []
        for _ in range(int(runs)):
            begin = time.perf_counter()
            registry.get(case["method"])([group], parameters=case["parameters"])
            seconds.append(time.perf_counter() - begin)
        result[label] = min(seconds) * 1e9 / cases["count"]
    return result


def open_tensors(folder):
    """{name: function that reads the tensor}"""
    files = [safe_open(path, "pt") for path in sorted(pathlib.Path(folder).glob("*.safetensors"))]
    return {name: lambda f=f, n=name: f.get_tensor(n) for f in files for name in f.keys()}


def compare(a, b):
    a, b = open_tensors(a), open_tensors(b)
    if a.keys() != b.keys():
        return {"names": sorted(a.keys() ^ b.keys())}
    entries = differ = far = 0
    ulps = largest = 0.0
    for name in a:
        x, y = a[name](), b[name]()
        if x.dtype != torch.bfloat16 or y.dtype != torch.bfloat16 or x.shape != y.shape:
            return {"names": [name]}
        x, y = x.float(), y.float()
        distance = (x - y).abs()
        # The step of bfloat16 (8 significant bits) at the larger of the two.
        exponent = torch.frexp(torch.maximum(x.abs(), y.abs())).exponent
        steps = torch.ldexp(distance, 8 - exponent)
        entries += x.numel()
        differ += int((steps > 0).sum())
        far += int((steps > 1).sum())
        ulps = max(ulps, float(steps.max()))
        largest = max(largest, float(distance.max()))
    return {"differ": differ / entries, "far": far / entries, "ulps": ulps, "largest": largest}


def forward(folder):
    from transformers import AutoModelForCausalLM

    model, info = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.bfloat16,
                                                       output_loading_info=True)
    with torch.no_grad():
        logits = model(torch.arange(1, 33).reshape(1, 32)).logits
    return {"class": type(model).__name__, "parameters": model.num_parameters(),
            "logits": list(logits.shape), "finite": bool(torch.isfinite(logits).all()),
            "missing": sorted(info["missing_keys"]), "unexpected": sorted(info["unexpected_keys"])}


if __name__ == "__main__":
    verb = {"arithmetic": arithmetic, "compare": compare, "forward": forward}[sys.argv[1]]
    print(json.dumps(verb(*sys.argv[2:])))

"""Writes output_changes.json: on the demo's models, what each linear layer's output changes from the
base to an expert on the same tokens, and the sums of |x| of its inputs in the base. Run from the
repository's root with torch and transformers installed; float64 throughout."""
import json

import torch
from transformers import AutoModelForCausalLM

IDS = [[(7 * i * i + 3 * i + 11 * k) % 1024 for i in range(24 + 9 * k)] for k in range(3)]


def run(folder):
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float64)
    seen = {}

    def hook(name):
        def keep(_, inputs, output):
            x, y = seen.setdefault(name, ([], []))
            x.append(inputs[0][0])
            y.append(output[0])
        return keep

    for name, module in model.named_modules():
        if name.endswith("_proj"):
            module.register_forward_hook(hook(name))
    with torch.no_grad():
        for ids in IDS:
            model(torch.tensor([ids]))
    return {name: (torch.cat(x), torch.cat(y)) for name, (x, y) in seen.items()}


base, expert = run("demo/models/base"), run("demo/models/math")
layers = {}
for name, (x, y) in base.items():
    difference = expert[name][1] - y
    layers[name] = {"changed": float((difference ** 2).sum()), "base": float((y ** 2).sum()),
                    "magnitude_0": float(x.abs().sum(0)[0]), "magnitudes": float(x.abs().sum())}
with open("tests/data/golden/output_changes.json", "w") as f:
    json.dump({"ids": IDS, "layers": layers}, f, indent=1)
    f.write("\n")

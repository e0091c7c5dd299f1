"""Runs in compare_transformers.py's virtual environment: calibration as one writes it with
transformers.

usage: transformers_inside.py MODEL IDS DTYPE BATCH OUT
       transformers_inside.py make CONFIG MODEL

OUT: JSON, {"seconds": of the forward passes, "sums": {linear layer: [sum of x_j^2]}}
make: writes a model of random bfloat16 weights for a config.json.
"""
import json
import sys
import time

import torch
from transformers import AutoConfig, AutoModel, AutoModelForCausalLM

# Of a dense block, of Qwen 3.5's and of Granite 4's.
TAPS = ("self_attn.q_proj", "self_attn.o_proj", "mlp.gate_proj", "mlp.down_proj",
        "linear_attn.in_proj_qkv", "linear_attn.out_proj", "mamba.in_proj", "mamba.out_proj",
        "shared_mlp.input_linear", "shared_mlp.output_linear")


def make(config, folder):
    with open(config) as file:
        settings = json.load(file)
    torch.manual_seed(1)
    model = AutoModelForCausalLM.from_config(
        AutoConfig.for_model(settings.pop("model_type"), **settings), dtype=torch.bfloat16)
    model.save_pretrained(folder)


def main(folder, data, dtype, batch, out):
    model = AutoModel.from_pretrained(folder, dtype=getattr(torch, dtype)).eval()
    with open(data) as file:
        ids = torch.tensor([json.loads(line)["ids"] for line in file])
    sums = {}

    def tap(name):
        def hook(_, inputs):
            x = inputs[0].reshape(-1, inputs[0].shape[-1]).float()
            sums[name] = sums.get(name, 0) + x.pow(2).sum(0, dtype=torch.float32).double()
        return hook

    def run(some):
        for part in some.split(int(batch)):
            model(part, use_cache=False)

    with torch.inference_mode():
        run(ids[:1])  # the first forward pass prepares
        for name, module in model.named_modules():
            if name.endswith(TAPS):
                module.register_forward_pre_hook(tap("model." + name))
        begin = time.perf_counter()
        run(ids)
        seconds = time.perf_counter() - begin
    with open(out, "w") as file:
        json.dump({"seconds": seconds, "sums": {k: v.tolist() for k, v in sums.items()}}, file)


if __name__ == "__main__":
    make(*sys.argv[2:]) if sys.argv[1] == "make" else main(*sys.argv[1:])

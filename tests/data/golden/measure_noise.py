"""How far transformers' float32 logits and sums of squares (golden.safetensors) are from its own in float64:
the largest difference of a logit, and the largest relative one of a sum.

usage: python measure_noise.py FAMILIES NAME MODULE     (NAME: a folder, MODULE: of transformers.models)
needs torch, transformers 5, safetensors
"""
import importlib, os, sys, types
import torch
import transformers as tf
from safetensors.torch import load_file


class Double(types.ModuleType):
    """torch, but float32 means float64: modelling code casts to it on the way."""
    def __getattr__(self, name):
        return torch.float64 if name == "float32" else getattr(torch, name)


def delta_rule(query, key, value, g, beta, **_):
    """The gated delta rule token by token."""
    times = value.shape[2] // key.shape[2]
    unit = lambda x: x * torch.rsqrt((x * x).sum(-1, keepdim=True) + 1e-6)
    query, key = (unit(x.repeat_interleave(times, 2)) for x in (query, key))
    query = query / query.shape[-1] ** 0.5
    state, out = torch.zeros(*key.shape[:1], *key.shape[2:], value.shape[-1], dtype=value.dtype), torch.zeros_like(value)
    for t in range(key.shape[1]):
        state = state * g[:, t].exp()[..., None, None]
        new = (value[:, t] - (state * key[:, t][..., None]).sum(-2)) * beta[:, t][..., None]
        state = state + key[:, t][..., None] * new[..., None, :]
        out[:, t] = (state * query[:, t][..., None]).sum(-2)
    return out, state


folder, name = os.path.join(sys.argv[1], sys.argv[2]), sys.argv[3]
code = importlib.import_module(f"transformers.models.{name}.modeling_{name}")
golden = load_file(os.path.join(folder, "golden.safetensors"))
sees = hasattr(tf.AutoConfig.from_pretrained(folder), "vision_config")
model = (tf.AutoModelForImageTextToText if sees else tf.AutoModelForCausalLM).from_pretrained(folder, dtype=torch.float64, attn_implementation="eager").eval()
model.set_experts_implementation("eager")
single = torch.Tensor.float
torch.Tensor.float = lambda self, *a, **k: self.double() if self.is_floating_point() else single(self, *a, **k)
code.torch = Double("torch")
if hasattr(code, "torch_chunk_gated_delta_rule"):
    code.torch_chunk_gated_delta_rule = delta_rule
sums = {}


def watch(module_name):
    def hook(_, args):
        x = args[0].reshape(-1, args[0].shape[-1])
        sums["sum_squares." + module_name] = (x * x).sum(0)
    return hook


for n, m in model.named_modules():
    if isinstance(m, torch.nn.Linear):
        m.register_forward_pre_hook(watch(n))
with torch.no_grad():
    exact = model(golden["input_ids"]).logits
difference = max(float(((v - sums[k]).abs() / v).max()) for k, v in golden.items() if k.startswith("sum_squares."))
print(sys.argv[2], float((golden["logits"].double() - exact).abs().max()), "largest logit", float(golden["logits"].abs().max()), "sums", difference)

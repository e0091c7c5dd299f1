"""Writes quantized/: small checkpoints with quantised weights, and the bfloat16 values that they stand for.

usage: python make_quantized.py   (run by hand in this folder; transformers 5.24, torch 2.15, safetensors)

The codes are random bytes without NaN, the scales random. Every checkpoint has two shards and an index; the scales
lie in the other shard than their weights. expected.safetensors is what transformers makes of the codes
(integrations/mxfp4.py, integrations/finegrained_fp8.py); for scales per tensor, per row and for blocks that end
within a matrix, which transformers leaves to other programs, it is float32(code) * scale, rounded to bfloat16 by torch.
"""
import json
import pathlib

import torch
from safetensors.torch import save_file
from transformers.integrations.finegrained_fp8 import Fp8Dequantize
from transformers.integrations.mxfp4 import _convert_moe_packed_tensors

HERE = pathlib.Path(__file__).resolve().parent / "quantized"
RANDOM = torch.Generator().manual_seed(19)
LAYER = "model.layers.0."


def codes(*shape, dtype=torch.float8_e4m3fn):
    raw = torch.randint(0, 256, shape, generator=RANDOM, dtype=torch.uint8)
    raw[(raw & 0x7f) >= (0x7f if dtype == torch.float8_e4m3fn else 0x7c)] = 0x38
    return raw.view(dtype)


def scales(*shape, dtype=torch.float32):
    return (torch.rand(shape, generator=RANDOM) * 0.01 + 1e-4).to(dtype)


def plain(*shape):
    return torch.randn(shape, generator=RANDOM).to(torch.bfloat16)


def times(weight, scale):
    return (weight.to(torch.float32) * scale.to(torch.float32)).to(torch.bfloat16)


def dequantized(weight, scale):
    return Fp8Dequantize(None)._dequantize_one(weight, scale, torch.bfloat16)


def write(name, config, weights, others, expected):
    """weights: in the first shard; others: in the second."""
    folder = HERE / name
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(config, indent=1) + "\n")
    places = {}
    for number, tensors in enumerate((weights, others), 1):
        shard = f"model-0000{number}-of-00002.safetensors"
        save_file({k: v.contiguous() for k, v in tensors.items()}, folder / shard, {"format": "pt"})
        places.update(dict.fromkeys(tensors, shard))
    (folder / "model.safetensors.index.json").write_text(json.dumps({"metadata": {"total_size": 0}, "weight_map": places}))
    save_file({k: v.contiguous() for k, v in expected.items()}, folder / "expected.safetensors")


def mxfp4():
    weights, others, expected = {}, {}, {}
    for name, rows, groups in (("gate_up_proj", 64, 3), ("down_proj", 96, 1)):  # hidden 96, inner 32
        full = LAYER + "mlp.experts." + name
        blocks = torch.randint(0, 256, (2, rows, groups, 16), generator=RANDOM, dtype=torch.uint8)
        exponents = torch.randint(100, 140, (2, rows, groups), generator=RANDOM, dtype=torch.uint8)
        exponents[0, 0, 0], exponents[1, 1, 0] = 0, 250
        weights[full + "_blocks"], others[full + "_scales"] = blocks, exponents
        others[full + "_bias"] = expected[full + "_bias"] = plain(2, rows)
        expected[full] = _convert_moe_packed_tensors(blocks, exponents)
    for name in ("self_attn.q_proj.weight", "input_layernorm.weight"):
        weights[LAYER + name] = expected[LAYER + name] = plain(4, 4) if "q_proj" in name else plain(4)
    config = {"model_type": "gpt_oss", "hidden_size": 96,
              "quantization_config": {"quant_method": "mxfp4", "modules_to_not_convert": ["model.layers.*.self_attn", "model.layers.*.mlp.router", "model.embed_tokens", "lm_head"]}}
    write("mxfp4", config, weights, others, expected)


def fp8_blocks():
    weights, others, expected = {}, {}, {}
    for name, shape in (("q_proj", (128, 256)), ("o_proj", (256, 128))):
        full = f"{LAYER}self_attn.{name}.weight"
        weights[full], others[full + "_scale_inv"] = codes(*shape), scales(shape[0] // 128, shape[1] // 128)
        expected[full] = dequantized(weights[full], others[full + "_scale_inv"])
    full = LAYER + "self_attn.kv_a_proj_with_mqa.weight"  # 1.5 blocks high, 1.2 wide
    weights[full], others[full + "_scale_inv"] = codes(192, 150), scales(2, 2)
    spread = others[full + "_scale_inv"].repeat_interleave(128, 0).repeat_interleave(128, 1)[:192, :150]
    expected[full] = times(weights[full], spread)
    full = LAYER + "mlp.gate.weight"
    others[full] = expected[full] = plain(4, 16)
    config = {"model_type": "deepseek_v3", "quantization_config": {"activation_scheme": "dynamic", "fmt": "e4m3", "quant_method": "fp8", "weight_block_size": [128, 128]}}
    write("fp8_blocks", config, weights, others, expected)


def fp8_experts():
    """Fused experts, with exponents as scales: a byte e is 2^(e - 127)."""
    weights, others, expected = {}, {}, {}
    for name, shape, grid in (("gate_up_proj", (3, 64, 64), (3, 2, 2)), ("down_proj", (3, 64, 32), (3, 2, 1))):
        full = LAYER + "mlp.experts." + name
        weights[full] = codes(*shape)
        others[full + "_scale_inv"] = torch.randint(110, 135, grid, generator=RANDOM, dtype=torch.uint8)
        expected[full] = dequantized(weights[full], others[full + "_scale_inv"])
    config = {"model_type": "qwen3_moe", "quantization_config": {"activation_scheme": "dynamic", "scale_fmt": "ue8m0", "quant_method": "fp8", "weight_block_size": [32, 32]}}
    write("fp8_experts", config, weights, others, expected)


def compressed(strategy, dtype, scale_dtype):
    weights, others, expected = {}, {}, {}
    for name, shape in (("q_proj", (20, 33)), ("k_proj", (7, 33))):
        full = f"{LAYER}self_attn.{name}.weight"
        weights[full] = codes(*shape, dtype=dtype)
        others[full + "_scale"] = scales(shape[0], 1, dtype=scale_dtype) if strategy == "channel" else scales(1, dtype=scale_dtype)
        others[f"{LAYER}self_attn.{name}.input_scale"] = scales(1)
        expected[full] = times(weights[full], others[full + "_scale"])
    others[LAYER + "self_attn.k_scale"] = scales(1)
    others["lm_head.weight"] = expected["lm_head.weight"] = plain(5, 20)
    group = {"targets": ["Linear"], "weights": {"num_bits": 8, "type": "float", "strategy": strategy, "symmetric": True, "dynamic": False},
             "input_activations": {"num_bits": 8, "type": "float", "strategy": "tensor", "dynamic": False}}
    quantization = {"quant_method": "compressed-tensors", "format": "float-quantized", "quantization_status": "compressed", "ignore": ["lm_head"],
                    "config_groups": {"group_0": group}, "kv_cache_scheme": {"num_bits": 8, "type": "float", "strategy": "tensor"}, "global_compression_ratio": 1.5}
    write("compressed_" + strategy, {"model_type": "llama", "quantization_config": quantization}, weights, others, expected)


def fbgemm():
    weights, others, expected = {}, {}, {}
    full = LAYER + "mlp.up_proj.weight"
    weights[full], others[full + "_scale"] = codes(12, 40), scales(12, 1)
    expected[full] = times(weights[full], others[full + "_scale"])
    full = LAYER + "feed_forward.experts.gate_up_proj"  # stored [experts, in, out]
    weights[full], others[full + "_scale"] = codes(2, 10, 24), scales(2, 1, 24)
    expected[full] = times(weights[full], others[full + "_scale"])
    config = {"model_type": "llama4_text", "quantization_config": {"quant_method": "fbgemm_fp8", "activation_scale_ub": 1200.0, "modules_to_not_convert": ["lm_head"]}}
    write("fbgemm", config, weights, others, expected)


mxfp4()
fp8_blocks()
fp8_experts()
compressed("tensor", torch.float8_e5m2, torch.float32)
compressed("channel", torch.float8_e4m3fn, torch.bfloat16)
fbgemm()

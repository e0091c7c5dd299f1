#!/usr/bin/env python3
"""Time and peak memory of `lewis calibrate` on mixtures of experts with published shapes.

usage: bench/mixtures.py [--lewis build/release/lewis] [--work FOLDER] [--sequences N] [NAME...]

NAME: deepseek_v3 (two layers of 256 experts, float8 in blocks, 25 GB) or qwen3_30b (four layers of
Qwen3-30B-A3B, 5.9 GB). Linear layers are holes in files, which are read as zeros and take no space
on the disk; embeddings and routers are random, so that tokens go to all experts. N: of 512 tokens
each (default: 15).
"""
import argparse
import array
import json
import pathlib
import random
import shutil
import struct
import tempfile

import merging

TOKENS = 512
USED_IDS = 2000  # the text has no others
BYTES = {"F8_E4M3": 1, "BF16": 2, "F32": 4}

CONFIGS = {
    "deepseek_v3": {
        "model_type": "deepseek_v3", "vocab_size": 129280, "hidden_size": 7168,
        "num_hidden_layers": 2, "first_k_dense_replace": 0, "num_nextn_predict_layers": 0,
        "quantization_config": {"quant_method": "fp8", "fmt": "e4m3",
                                "activation_scheme": "dynamic", "weight_block_size": [128, 128]},
    },
    "qwen3_30b": {
        "model_type": "qwen3_moe", "vocab_size": 151936, "hidden_size": 2048,
        "num_hidden_layers": 4, "num_attention_heads": 32, "num_key_value_heads": 4,
        "head_dim": 128, "num_experts": 128, "num_experts_per_tok": 8,
        "moe_intermediate_size": 768, "norm_topk_prob": True, "max_position_embeddings": 40960,
    },
}


def linear(name, rows, columns, blocks):
    """A matrix of holes, perhaps with the scales of its blocks."""
    if not blocks:
        return [(name + ".weight", "BF16", [rows, columns], None)]
    return [(name + ".weight", "F8_E4M3", [rows, columns], None),
            (name + ".weight_scale_inv", "F32", [-(-rows // 128), -(-columns // 128)], None)]


def mlp(place, hidden, inner, blocks):
    return (linear(place + "gate_proj", inner, hidden, blocks)
            + linear(place + "up_proj", inner, hidden, blocks)
            + linear(place + "down_proj", hidden, inner, blocks))


def deepseek_layer(prefix):
    attention = prefix + "self_attn."
    for name, rows, columns in [("q_a_proj", 1536, 7168), ("q_b_proj", 24576, 1536),
                                ("kv_a_proj_with_mqa", 576, 7168), ("kv_b_proj", 32768, 512),
                                ("o_proj", 7168, 16384)]:
        yield from linear(attention + name, rows, columns, True)
    yield attention + "q_a_layernorm.weight", "BF16", [1536], "ones"
    yield attention + "kv_a_layernorm.weight", "BF16", [512], "ones"
    yield prefix + "mlp.gate.weight", "BF16", [256, 7168], "random"
    yield prefix + "mlp.gate.e_score_correction_bias", "F32", [256], None
    for expert in range(256):
        yield from mlp(f"{prefix}mlp.experts.{expert}.", 7168, 2048, True)
    yield from mlp(prefix + "mlp.shared_experts.", 7168, 2048, True)


def qwen_layer(prefix):
    attention = prefix + "self_attn."
    for name, rows, columns in [("q_proj", 4096, 2048), ("k_proj", 512, 2048),
                                ("v_proj", 512, 2048), ("o_proj", 2048, 4096)]:
        yield from linear(attention + name, rows, columns, False)
    yield attention + "q_norm.weight", "BF16", [128], "ones"
    yield attention + "k_norm.weight", "BF16", [128], "ones"
    yield prefix + "mlp.gate.weight", "BF16", [128, 2048], "random"
    for expert in range(128):
        yield from mlp(f"{prefix}mlp.experts.{expert}.", 2048, 768, False)


def shards(config):
    """(name, dtype, dimensions, content) of the tensors of each file."""
    hidden, vocab = config["hidden_size"], config["vocab_size"]
    layer_tensors = deepseek_layer if config["model_type"] == "deepseek_v3" else qwen_layer
    yield [("model.embed_tokens.weight", "BF16", [vocab, hidden], "random"),
           ("model.norm.weight", "BF16", [hidden], "ones"),
           ("lm_head.weight", "BF16", [vocab, hidden], None)]
    for layer in range(config["num_hidden_layers"]):
        prefix = f"model.layers.{layer}."
        yield [(prefix + "input_layernorm.weight", "BF16", [hidden], "ones"),
               (prefix + "post_attention_layernorm.weight", "BF16", [hidden], "ones"),
               *layer_tensors(prefix)]


def content_bytes(content, dimensions):
    if content == "ones":
        return merging.to_bf16(array.array("f", [1.0] * dimensions[0]))
    draw = random.Random(len(dimensions) + dimensions[0])
    rows = min(dimensions[0], USED_IDS)
    block = merging.to_bf16(array.array("f", (draw.gauss(0, 0.02) for _ in range(1_000_003))))
    size = 2 * rows * dimensions[1]
    return (block * (size // len(block) + 1))[:size]


def write_shard(path, tensors):
    header, at = {"__metadata__": {"format": "pt"}}, 0
    for name, dtype, dimensions, _ in tensors:
        size = BYTES[dtype] * merging.count(dimensions)
        header[name] = {"dtype": dtype, "shape": dimensions, "data_offsets": [at, at + size]}
        at += size
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with open(path, "wb") as file:
        file.truncate(8 + len(text) + at)
        file.write(struct.pack("<Q", len(text)) + text)
        for name, _, dimensions, content in tensors:
            if content:
                file.seek(8 + len(text) + header[name]["data_offsets"][0])
                file.write(content_bytes(content, dimensions))
    return at


def write_model(folder, config):
    folder.mkdir()
    weight_map, size = {}, 0
    for i, tensors in enumerate(shards(config)):
        name = f"model-{i}.safetensors"
        size += write_shard(folder / name, tensors)
        weight_map.update({tensor: name for tensor, *_ in tensors})
    index = {"metadata": {"total_size": size}, "weight_map": weight_map}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    (folder / "config.json").write_text(json.dumps(config))
    return size


def write_text(path, sequences):
    draw = random.Random(2)
    with open(path, "w") as file:
        for _ in range(sequences):
            ids = [draw.randrange(USED_IDS) for _ in range(TOKENS)]
            file.write(json.dumps({"ids": ids}) + "\n")


def main():
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", default=list(CONFIGS), metavar="NAME")
    parser.add_argument("--lewis", type=pathlib.Path, default="build/release/lewis")
    parser.add_argument("--work", type=pathlib.Path, help="default: the temporary folder")
    parser.add_argument("--sequences", type=int, default=15, metavar="N")
    parser.add_argument("--compute", default="f32")
    args = parser.parse_args()
    print(f"{'model':>14}{'GB':>8}{'tokens':>8}{'peak, GB':>10}{'wall, s':>10}{'CPU, s':>10}")
    for name in args.names:
        folder = pathlib.Path(tempfile.mkdtemp(prefix="lewis-mixture-", dir=args.work))
        try:
            size = write_model(folder / "model", CONFIGS[name])
            write_text(folder / "text.jsonl", args.sequences)
            cost = merging.measured(
                [args.lewis.resolve(), "calibrate", folder / "model", "--data",
                 folder / "text.jsonl", "--format", "ids", "--samples", "0", "--compute",
                 args.compute, "-o", folder / "out.safetensors"], folder / "log")
            print(f"{name:>14}{size / 1e9:>8.1f}{args.sequences * TOKENS:>8}"
                  f"{cost.peak / 1e9:>10.2f}{cost.wall:>10.1f}{cost.cpu:>10.1f}", flush=True)
        finally:
            shutil.rmtree(folder)


if __name__ == "__main__":
    main()

"""Importance matrices as Python's gguf package (0.19.0) writes them, from the sums that transformers computed, and the
ggml names that its tensor map gives the weights of every golden family.

Run beside families/ (needs only numpy and gguf):  python make_imatrix.py
Writes imatrix/names.json: family -> {module as stored, of layer 1 (or 0): ggml name}
       imatrix/phi3.gguf, imatrix/qwen2_moe.gguf: laid out as llama-imatrix does (tools/imatrix/imatrix.cpp, 006e7ef9913f)
"""
import json
import os
import re

import gguf
import numpy as np
from gguf import MODEL_ARCH as A

HERE = os.path.dirname(os.path.abspath(__file__))
ARCH = {"llama": A.LLAMA, "mistral": A.LLAMA, "mixtral": A.LLAMA, "gemma2": A.GEMMA2, "gemma3": A.GEMMA3, "phi3": A.PHI3,
        "qwen2": A.QWEN2, "qwen2_moe": A.QWEN2MOE, "qwen3": A.QWEN3, "qwen3_moe": A.QWEN3MOE, "cohere2": A.COHERE2,
        "glm4": A.GLM4, "granite": A.GRANITE, "olmo2": A.OLMO2, "smollm3": A.SMOLLM3, "starcoder2": A.STARCODER2}
TYPES = {"F64": np.float64, "I64": np.int64, "F32": np.float32}


def header(path):
    with open(path, "rb") as f:
        size = int.from_bytes(f.read(8), "little")
        return json.loads(f.read(size)), 8 + size


def tensor(path, name):
    head, begin = header(path)
    first, last = head[name]["data_offsets"]
    with open(path, "rb") as f:
        f.seek(begin + first)
        return np.frombuffer(f.read(last - first), TYPES[head[name]["dtype"]]).reshape(head[name]["shape"])


def ggml(family, module):
    """The experts of a layer are one tensor in GGUF, named as if there were no number (conversion/llama.py, qwen.py).
    llama.cpp knows no Qwen MoE with dense layers in between: those have the names of Llama's."""
    merged = re.sub(r"experts\.\d+\.", "experts.", module)
    maps = [gguf.get_tensor_name_map(arch, 100).get_name(merged) for arch in (ARCH[family], A.LLAMA)]
    return maps[0] or maps[1]


def names(family):
    head, _ = header(f"{HERE}/families/{family}/model.safetensors")
    found = {}
    for name, entry in head.items():
        m = re.match(r"model\.layers\.1\.(.*)\.weight$", name)
        if m and len(entry["shape"]) == 2 and not re.search(r"experts\.[1-9]", name):
            found[name[:-7]] = ggml(family, name[:-7])
    return found


def write(family, tokens):
    golden = f"{HERE}/families/{family}/golden.safetensors"
    writer = gguf.GGUFWriter(f"{HERE}/imatrix/{family}.gguf", "", use_temp_file=False)
    writer.kv_data[0].pop("general.architecture", None)
    writer.add_type("imatrix")
    writer.add_array("imatrix.datasets", ["calibration.txt"])
    writer.add_uint32("imatrix.chunk_count", 2)
    writer.add_uint32("imatrix.chunk_size", tokens // 2)
    entries = {}
    for key in header(golden)[0]:
        kind, _, module = key.partition(".")
        if kind == "sum_squares":
            sums = tensor(golden, key)
            entries[ggml(family, module)] = sums, np.array([tokens])
            if module.endswith("shared_expert_gate"):  # llama-imatrix measures the router as well
                entries[ggml(family, module.replace("shared_expert_gate", "gate"))] = sums, np.array([tokens])
        elif kind in ("expert_in", "expert_mid"):
            counts = tensor(golden, "expert_tokens." + module)[:, None]
            for part in ("gate_proj", "up_proj") if kind == "expert_in" else ("down_proj",):
                entries[ggml(family, f"{module}.{part}")] = tensor(golden, key), counts
    for name, (sums, counts) in sorted(entries.items()):
        writer.add_tensor(name + ".weight.in_sum2", sums.astype(np.float32))
        writer.add_tensor(name + ".weight.counts", counts.astype(np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


os.makedirs(f"{HERE}/imatrix", exist_ok=True)
with open(f"{HERE}/imatrix/names.json", "w") as f:
    json.dump({family: names(family) for family in sorted(ARCH)}, f, indent=1)
    f.write("\n")
write("phi3", 192)
write("qwen2_moe", 192)

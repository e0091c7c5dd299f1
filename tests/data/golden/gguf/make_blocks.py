#!/usr/bin/env python3
"""A GGUF file with a tensor of every type of blocks, written by gguf-py, and the numbers that its
dequantiser makes of them.

usage: make_blocks.py      (writes blocks.gguf and blocks.safetensors beside itself; needs gguf
                            0.19.0 and numpy)
"""
import json
import pathlib
import struct

import numpy as np
from gguf import GGUFWriter
from gguf.constants import GGML_QUANT_SIZES, GGMLQuantizationType as T
from gguf.quants import dequantize

here = pathlib.Path(__file__).resolve().parent
draw = np.random.default_rng(5)
ROWS, COLUMNS = 2, 512
# Where float16 numbers lie in a block: scales, and least values.
HALVES = {T.Q4_0: [0], T.Q4_1: [0, 2], T.Q5_0: [0], T.Q5_1: [0, 2], T.Q8_0: [0], T.Q2_K: [80, 82],
          T.Q3_K: [108], T.Q4_K: [0, 2], T.Q5_K: [0, 2], T.Q6_K: [208], T.IQ4_NL: [0], T.MXFP4: []}
writer = GGUFWriter(here / "blocks.gguf", "test")
decoded = {}
for kind, halves in HALVES.items():
    block, size = GGML_QUANT_SIZES[kind]
    blocks = draw.integers(0, 256, (ROWS * COLUMNS // block, size), dtype=np.uint8)
    for at in halves:
        scale = (draw.standard_normal(len(blocks)) * 10.0 ** draw.integers(-7, 2, len(blocks)))
        blocks[:, at:at + 2] = scale.astype(np.float16).view(np.uint8).reshape(-1, 2)
    if kind == T.MXFP4:  # the exponent; also those whose scales float32 holds as denormals
        blocks[:, 0] = draw.integers(100, 150, len(blocks))
        blocks[:3, 0] = [0, 1, 2]
    rows = blocks.reshape(ROWS, -1)
    writer.add_tensor(kind.name, rows, raw_dtype=kind)
    decoded[kind.name] = dequantize(rows, kind).astype(np.float32)
    assert decoded[kind.name].shape == (ROWS, COLUMNS) and np.isfinite(decoded[kind.name]).all()
for name, kind in (("F32", np.float32), ("F16", np.float16)):
    decoded[name] = draw.standard_normal((ROWS, COLUMNS)).astype(kind)
    writer.add_tensor(name, decoded[name])
    decoded[name] = decoded[name].astype(np.float32)
writer.write_header_to_file()
writer.write_kv_data_to_file()
writer.write_tensors_to_file()
writer.close()

header, at = {}, 0
for name, values in decoded.items():
    header[name] = {"dtype": "F32", "shape": list(values.shape),
                    "data_offsets": [at, at + values.nbytes]}
    at += values.nbytes
text = json.dumps(header).encode()
text += b" " * (-len(text) % 8)
(here / "blocks.safetensors").write_bytes(
    struct.pack("<Q", len(text)) + text + b"".join(v.tobytes() for v in decoded.values()))

#!/usr/bin/env python3
"""Numbers, the blocks that ggml makes of them, without and with importances, and the SHA-256 of the
numbers (float32) that it makes of the blocks without.

usage: make_ggml_blocks.py LIBGGML_BASE     (writes ggml_blocks.safetensors beside itself; needs numpy)

LIBGGML_BASE is libggml-base.so of llama.cpp (ggml 0.26.0):
cmake -B build -DBUILD_SHARED_LIBS=ON && cmake --build build --target ggml-base
"""
import ctypes
import hashlib
import json
import pathlib
import struct
import sys

import numpy as np

TYPES = {"Q4_0": 2, "Q4_1": 3, "Q5_0": 6, "Q5_1": 7, "Q8_0": 8, "Q2_K": 10, "Q3_K": 11, "Q4_K": 12,
         "Q5_K": 13, "Q6_K": 14, "IQ4_NL": 20, "MXFP4": 39}
ROWS, COLUMNS = 8, 512

ggml = ctypes.CDLL(sys.argv[1])
floats = ctypes.POINTER(ctypes.c_float)
ggml.ggml_row_size.restype = ctypes.c_size_t
ggml.ggml_row_size.argtypes = [ctypes.c_int, ctypes.c_int64]
ggml.ggml_quantize_chunk.restype = ctypes.c_size_t
ggml.ggml_quantize_chunk.argtypes = [ctypes.c_int, floats, ctypes.c_void_p, ctypes.c_int64,
                                     ctypes.c_int64, ctypes.c_int64, floats]


class Traits(ctypes.Structure):  # ggml.h: struct ggml_type_traits
    _fields_ = [("type_name", ctypes.c_char_p), ("blck_size", ctypes.c_int64),
                ("blck_size_interleave", ctypes.c_int64), ("type_size", ctypes.c_size_t),
                ("is_quantized", ctypes.c_bool),
                ("to_float", ctypes.CFUNCTYPE(None, ctypes.c_void_p, floats, ctypes.c_int64))]


ggml.ggml_get_type_traits.restype = ctypes.POINTER(Traits)
ggml.ggml_get_type_traits.argtypes = [ctypes.c_int]


def pointer(array):
    return array.ctypes.data_as(floats)


draw = np.random.default_rng(5)
x = (draw.standard_normal((ROWS, COLUMNS)) * 0.02).astype(np.float32)
x[1] = draw.standard_t(2, COLUMNS) * 0.01   # heavy tails
x[2] = np.abs(x[2]) + 0.1                   # one sign
x[3] = np.round(x[3] * 100) / 100           # ties, and zeros of both signs
x[4, :256] = 0
x[4, 256:] = 0.5
x[5] *= 1e-6                                # scales that float16 holds as denormals
x[6, ::37] = 3                              # some that outweigh all others
x[7, :64] *= 1e-30
x[7, 64:128] = np.round(x[7, 64:128] * 4e3) / 4 * 127 / 8
importances = (draw.standard_normal(COLUMNS) ** 2 * 50).astype(np.float32)
importances[::40] = 0

tensors = {"values": x, "importances": importances}
for name, number in TYPES.items():
    size = ggml.ggml_row_size(number, COLUMNS)
    for kind, weights in {"plain": None, "weighted": pointer(importances)}.items():
        blocks = np.zeros((ROWS, size), np.uint8)
        ggml.ggml_quantize_chunk(number, pointer(x), blocks.ctypes.data, 0, ROWS, COLUMNS, weights)
        tensors[f"{name}.{kind}"] = blocks
    decoded = np.zeros((ROWS, COLUMNS), np.float32)
    ggml.ggml_get_type_traits(number).contents.to_float(
        tensors[f"{name}.plain"].ctypes.data, pointer(decoded), decoded.size)
    digest = hashlib.sha256(decoded.tobytes()).digest()
    tensors[f"{name}.decoded"] = np.frombuffer(digest, np.uint8)

header, at = {}, 0
for name, array in tensors.items():
    kind = {"float32": "F32", "uint8": "U8"}[array.dtype.name]
    header[name] = {"dtype": kind, "shape": list(array.shape),
                    "data_offsets": [at, at + array.nbytes]}
    at += array.nbytes
text = json.dumps(header).encode()
text += b" " * (-len(text) % 8)
pathlib.Path(__file__).resolve().with_name("ggml_blocks.safetensors").write_bytes(
    struct.pack("<Q", len(text)) + text + b"".join(a.tobytes() for a in tensors.values()))

#!/usr/bin/env python3
"""Numbers and their Q8_0 bytes by gguf-py, llama.cpp's library in Python.

usage: make_q8_0.py      (writes q8_0.safetensors beside itself; needs gguf 0.19.0 and numpy)
"""
import json
import pathlib
import struct

import numpy as np
from gguf.constants import GGMLQuantizationType
from gguf.quants import quantize

draw = np.random.default_rng(3)
x = draw.standard_normal((24, 64)).astype(np.float32)
x[1] *= 1e-6   # scales that float16 holds as denormals
x[2] *= 1e4
x[3] = 0
x[4, 5] = 300  # one number that outweighs all others
x[5] = np.round(x[5] * 4) / 4 * 127 / 8  # many numbers halfway between two bytes
x[5, 0] = x[5, 32] = 127
bytes_ = quantize(x, GGMLQuantizationType.Q8_0)
header = json.dumps({
    "values": {"dtype": "F32", "shape": list(x.shape), "data_offsets": [0, x.nbytes]},
    "bytes": {"dtype": "U8", "shape": list(bytes_.shape),
              "data_offsets": [x.nbytes, x.nbytes + bytes_.nbytes]}}).encode()
header += b" " * (-len(header) % 8)
pathlib.Path(__file__).resolve().with_name("q8_0.safetensors").write_bytes(
    struct.pack("<Q", len(header)) + header + x.tobytes() + bytes_.tobytes())

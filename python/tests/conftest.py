"""What the tests share: the command line as the program to compare with, and small models."""

from __future__ import annotations

import json
import os
import pathlib
import shutil
import struct
import subprocess
from collections.abc import Callable, Mapping

import numpy
import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]
DEMO = ROOT / "demo"
MODELS = {name: DEMO / "models" / name for name in ("base", "math", "code")}

TYPES = {
    "float64": "F64",
    "float32": "F32",
    "float16": "F16",
    "bfloat16": "BF16",
    "int64": "I64",
    "int32": "I32",
    "uint8": "U8",
    "bool": "BOOL",
}


@pytest.fixture(autouse=True)
def _in_root(monkeypatch: pytest.MonkeyPatch, tmp_path: pathlib.Path) -> None:
    """The demo's recipes name their models from the root; no test shares a cache with another."""
    monkeypatch.chdir(ROOT)
    monkeypatch.setenv("LEWIS_CACHE", str(tmp_path / "cache"))


@pytest.fixture(scope="session")
def program() -> str:
    """The command lewis."""
    found = os.environ.get("LEWIS_BINARY") or shutil.which("lewis")
    if not found:
        pytest.skip("the command lewis is not here (LEWIS_BINARY)")
    return found


@pytest.fixture
def cli(program: str) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Runs the command; fails the test where the command fails, unless `code` is expected."""

    def run(*arguments: object, code: int = 0) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            [program, *map(str, arguments)], capture_output=True, text=True, timeout=300
        )
        assert done.returncode == code, done.stderr
        return done

    return run


def plain_recipe(method: str = "ties", **more: object) -> dict[str, object]:
    """A recipe of the demo's models without calibration."""
    recipe: dict[str, object] = {
        "merge_method": method,
        "base_model": "demo/models/base",
        "models": [
            {"model": f"demo/models/{name}", "parameters": {"weight": 0.75}}
            for name in ("math", "code")
        ],
        "parameters": {"density": 0.5},
        "dtype": "bfloat16",
    }
    recipe.update(more)
    return recipe


def guided_recipe() -> str:
    """The demo's recipe with few samples."""
    return (DEMO / "recipe.yml").read_text().replace("samples: 15", "samples: 4")


def bytes_of(folder: pathlib.Path) -> bytes:
    return (folder / "model.safetensors").read_bytes()


def write_model(folder: pathlib.Path, tensors: Mapping[str, numpy.ndarray]) -> pathlib.Path:
    """Writes a model's folder by hand, so that no code of lewis is trusted."""
    folder.mkdir(parents=True)
    header: dict[str, object] = {}
    data = bytearray()
    for name in sorted(tensors):
        array = numpy.ascontiguousarray(tensors[name])
        begin = len(data)
        data += array.tobytes()
        header[name] = {
            "dtype": TYPES[array.dtype.name],
            "shape": list(tensors[name].shape),
            "data_offsets": [begin, len(data)],
        }
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    (folder / "model.safetensors").write_bytes(struct.pack("<Q", len(text)) + text + data)
    (folder / "config.json").write_text('{"architectures": ["X"], "model_type": "x"}')
    return folder


def read_model(folder: pathlib.Path) -> dict[str, tuple[str, list[int], bytes]]:
    """Reads model.safetensors by hand: dtype, shape and bytes of each tensor."""
    raw = bytes_of(folder)
    (length,) = struct.unpack("<Q", raw[:8])
    header = json.loads(raw[8 : 8 + length])
    data = raw[8 + length :]
    return {
        name: (entry["dtype"], entry["shape"], data[slice(*entry["data_offsets"])])
        for name, entry in header.items()
        if name != "__metadata__"
    }

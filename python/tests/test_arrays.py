"""Merging arrays, and reading models."""

from __future__ import annotations

import ctypes
import pathlib

import lewis
import ml_dtypes
import numpy
import pytest
from conftest import MODELS, bytes_of, plain_recipe, read_model, write_model

NAMES = ["base", "a", "b"]


def recipe(method: str = "ties", dtype: str = "float32", **parameters: object) -> dict[str, object]:
    return {
        "merge_method": method,
        "base_model": "base",
        "models": [
            {"model": name, "parameters": {"weight": 0.5, "density": 0.5, **parameters}}
            for name in ("a", "b")
        ],
        "dtype": dtype,
    }


def state_dicts(dtype: object = numpy.float32, seed: int = 1) -> dict[str, dict[str, numpy.ndarray]]:
    random = numpy.random.default_rng(seed)
    shapes = {"w": (37, 19), "v": (64,), "deep": (3, 5, 7)}
    return {
        name: {key: random.normal(size=shape).astype(dtype) for key, shape in shapes.items()}
        for name in NAMES
    }


def on_disk(tmp_path: pathlib.Path, models: dict, method: dict) -> dict[str, tuple]:
    """The same merge by folders, read by hand."""
    folders = {name: write_model(tmp_path / name, tensors) for name, tensors in models.items()}
    text = dict(method)
    text["base_model"] = str(folders["base"])
    text["models"] = [
        {**entry, "model": str(folders[entry["model"]])} for entry in method["models"]
    ]
    lewis.merge(text, tmp_path / "out")
    return read_model(tmp_path / "out")


def same(arrays: dict, expected: dict[str, tuple]) -> None:
    assert list(arrays) == sorted(expected)
    for name, (_, shape, raw) in expected.items():
        assert list(arrays[name].shape) == shape
        assert arrays[name].tobytes() == raw


@pytest.mark.parametrize("method", ["ties", "dare_ties", "task_arithmetic"])
@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
def test_arrays_merge_to_the_bytes_of_folders(tmp_path, method, dtype):
    models = state_dicts(ml_dtypes.bfloat16 if dtype == "bfloat16" else numpy.dtype(dtype))
    merged = lewis.merge_state_dict(models, recipe(method, dtype))
    same(merged, on_disk(tmp_path, models, recipe(method, dtype)))
    assert {array.dtype.name for array in merged.values()} == {dtype}


def test_linear_by_hand():
    models = {"a": {"w": numpy.float32([1, 2])}, "b": {"w": numpy.float32([3, 6])}}
    text = "merge_method: linear\nmodels:\n- {model: a, parameters: {weight: 1}}\n"
    text += "- {model: b, parameters: {weight: 3}}\ndtype: float32\n"
    merged = lewis.merge_state_dict(models, text)
    assert merged["w"].tolist() == [2.5, 5.0]


def test_the_command_line_writes_the_same(cli, tmp_path):
    models = {name: dict(lewis.open_model(path)) for name, path in MODELS.items()}
    method = plain_recipe()
    (tmp_path / "recipe.yml").write_text(lewis.read_recipe(method).yaml)
    cli("merge", tmp_path / "recipe.yml", tmp_path / "out", "-q")
    in_memory = {**method, "base_model": "base"}
    in_memory["models"] = [
        {"model": name, "parameters": {"weight": 0.75}} for name in ("math", "code")
    ]
    same(lewis.merge_state_dict(models, in_memory), read_model(tmp_path / "out"))


def test_inputs_are_not_copied_or_changed():
    models = state_dicts()
    before = {n: {k: v.copy() for k, v in tensors.items()} for n, tensors in models.items()}
    lewis.merge_state_dict(models, recipe())
    for name, tensors in models.items():
        for key, array in tensors.items():
            assert array.tobytes() == before[name][key].tobytes()


def peak_memory() -> int:
    """Bytes, since it was last reset."""
    status = pathlib.Path("/proc/self/status").read_text()
    return 1024 * int(status.split("VmHWM:")[1].split()[0])


def test_memory_is_that_of_the_result_and_one_tensor():
    count, size = 8, 4 << 20
    models = {
        name: {f"w{i}": numpy.full((2048, size // 4 // 2048), n + i, numpy.float32) for i in range(count)}
        for n, name in enumerate(NAMES)
    }
    pathlib.Path("/proc/self/clear_refs").write_text("5")
    before = peak_memory()
    merged = lewis.merge_state_dict(models, recipe())
    assert len(merged) == count
    # The result is 8 tensors; the three models, 24 tensors, are not copied.
    assert peak_memory() - before < (count + 8) * size


@pytest.mark.parametrize("kind", ["transposed", "every second", "reversed", "broadcast", "read-only"])
def test_strides(tmp_path, kind):
    models = state_dicts()

    def change(array: numpy.ndarray) -> numpy.ndarray:
        if kind == "transposed":
            return numpy.asfortranarray(array)
        if kind == "every second":
            wide = numpy.zeros((*array.shape[:-1], 2 * array.shape[-1]), array.dtype)
            wide[..., ::2] = array
            return wide[..., ::2]
        if kind == "reversed":
            return numpy.ascontiguousarray(array[::-1])[::-1]
        if kind == "broadcast":
            return numpy.broadcast_to(array[:1], array.shape)
        array.flags.writeable = False
        return array

    changed = {n: {k: change(v) for k, v in tensors.items()} for n, tensors in models.items()}
    expected = on_disk(
        tmp_path,
        {n: {k: numpy.array(v, order="C") for k, v in t.items()} for n, t in changed.items()},
        recipe(),
    )
    same(lewis.merge_state_dict(changed, recipe()), expected)


def test_scalars_and_empty_tensors(tmp_path):
    models = {
        name: {"scalar": numpy.float32(n).reshape(()), "none": numpy.zeros((0, 4), numpy.float32)}
        for n, name in enumerate(NAMES)
    }
    merged = lewis.merge_state_dict(models, recipe("task_arithmetic"))
    assert merged["scalar"].shape == ()
    assert float(merged["scalar"]) == 1.5
    assert merged["none"].shape == (0, 4)


class DLPackOnly:
    """An array of some other library: nothing but the protocol."""

    def __init__(self, array: numpy.ndarray) -> None:
        self.array = array

    def __dlpack__(self, **how: object) -> object:
        return self.array.__dlpack__(**how)

    def __dlpack_device__(self) -> tuple[int, int]:
        return self.array.__dlpack_device__()


def test_anything_with_dlpack():
    models = state_dicts()
    wrapped = {n: {k: DLPackOnly(v) for k, v in t.items()} for n, t in models.items()}
    expected = lewis.merge_state_dict(models, recipe())
    for name, array in lewis.merge_state_dict(wrapped, recipe()).items():
        assert array.tobytes() == expected[name].tobytes()


def test_lewis_tensors_merge_again():
    models = state_dicts(ml_dtypes.bfloat16)
    once = lewis.merge_state_dict(models, recipe(dtype="bfloat16"), framework="lewis")
    assert all(isinstance(tensor, lewis.Tensor) for tensor in once.values())
    numbers = lewis.merge_state_dict(models, recipe(dtype="bfloat16"))
    twice = {**models, "base": once}
    expected = lewis.merge_state_dict({**models, "base": numbers}, recipe(dtype="bfloat16"))
    for name, array in lewis.merge_state_dict(twice, recipe(dtype="bfloat16"), framework="numpy").items():
        assert array.tobytes() == expected[name].tobytes()


def test_models_may_be_folders_and_open_models(tmp_path):
    models = state_dicts()
    folder = write_model(tmp_path / "base", models["base"])
    expected = lewis.merge_state_dict(models, recipe())
    for base in (folder, str(folder), lewis.open_model(folder)):
        for name, array in lewis.merge_state_dict({**models, "base": base}, recipe()).items():
            assert array.tobytes() == expected[name].tobytes()


def test_results_are_writable_and_outlive_everything():
    merged = lewis.merge_state_dict(state_dicts(), recipe())
    array = merged.pop("w")
    del merged
    array += 1
    assert numpy.isfinite(array).all()


# ---- open_model ----


def test_open_model_is_a_mapping(tmp_path):
    arrays = {"b": numpy.arange(6, dtype=numpy.int64).reshape(2, 3), "a": numpy.float16([1, 2])}
    model = lewis.open_model(write_model(tmp_path / "m", arrays))
    assert list(model) == ["a", "b"]
    assert len(model) == 2
    assert "a" in model and "c" not in model
    assert model.shape("b") == (2, 3)
    assert model.dtype("b") == "I64"
    assert model["b"].tolist() == [[0, 1, 2], [3, 4, 5]]
    assert model["a"].dtype == numpy.float16
    with pytest.raises(KeyError):
        model["c"]
    assert "2 tensors" in repr(model)


@pytest.mark.parametrize("dtype", ["float64", "float32", "float16", "int32", "uint8", "bool"])
def test_types_of_numpy(tmp_path, dtype):
    array = numpy.array([[0, 1], [1, 0]]).astype(dtype)
    found = lewis.open_model(write_model(tmp_path / "m", {"w": array}))["w"]
    assert found.dtype == array.dtype
    assert found.tolist() == array.tolist()


def test_bfloat16_of_ml_dtypes():
    found = lewis.open_model(MODELS["base"])["model.norm.weight"]
    raw = read_model(MODELS["base"])["model.norm.weight"]
    assert raw[0] == "BF16"
    assert found.dtype == ml_dtypes.bfloat16
    assert found.tobytes() == raw[2]


def test_bfloat16_without_ml_dtypes_is_a_tensor(monkeypatch):
    import sys

    monkeypatch.setitem(sys.modules, "ml_dtypes", None)  # import fails
    found = lewis.open_model(MODELS["base"])["model.norm.weight"]
    assert isinstance(found, lewis.Tensor)
    assert found.dtype == "BF16"
    assert bytes(memoryview(found)) == read_model(MODELS["base"])["model.norm.weight"][2]


def test_tensor_speaks_dlpack_and_buffers(tmp_path):
    array = numpy.arange(12, dtype=numpy.float32).reshape(3, 4)
    tensor = lewis.open_model(write_model(tmp_path / "m", {"w": array})).tensor("w")
    assert (tensor.name, tensor.dtype, tensor.shape, tensor.nbytes) == ("w", "F32", (3, 4), 48)
    assert tensor.__dlpack_device__() == (1, 0)
    found = numpy.from_dlpack(tensor)
    assert found.tolist() == array.tolist()
    view = memoryview(tensor)
    assert view.nbytes == 48 and not view.readonly
    address = ctypes.addressof(ctypes.c_char.from_buffer(view))
    assert address == found.__array_interface__["data"][0]  # one memory
    del tensor, view
    assert found.tolist() == array.tolist()


def test_reading_is_what_the_file_holds():
    for name, path in MODELS.items():
        model = lewis.open_model(path)
        for key, (dtype, shape, raw) in read_model(path).items():
            assert model.dtype(key) == dtype, name
            assert list(model.shape(key)) == shape
            assert model[key].tobytes() == raw


def test_merged_folder_opens(tmp_path):
    lewis.merge(plain_recipe(), tmp_path / "out", shard_size="200K")
    model = lewis.open_model(tmp_path / "out")
    lewis.merge(plain_recipe(), tmp_path / "one")
    assert len(model) == len(read_model(tmp_path / "one"))
    assert bytes_of(tmp_path / "one")

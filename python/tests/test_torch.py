"""Tensors of torch, where torch is installed."""

from __future__ import annotations

import lewis
import numpy
import pytest
from conftest import DEMO, MODELS, read_model
from test_arrays import recipe, state_dicts

torch = pytest.importorskip("torch", reason="torch is not installed")


def tensors(dtype: object) -> dict[str, dict[str, object]]:
    return {
        name: {key: torch.from_numpy(array).to(dtype) for key, array in arrays.items()}
        for name, arrays in state_dicts().items()
    }


def raw(tensor: object) -> bytes:
    return tensor.contiguous().reshape(-1).view(torch.uint8).numpy().tobytes()


@pytest.mark.parametrize("name", ["float32", "float16", "bfloat16"])
def test_torch_merges_as_numpy(name):
    models = tensors(getattr(torch, name))
    merged = lewis.merge_state_dict(models, recipe(dtype=name))
    assert all(t.dtype == getattr(torch, name) for t in merged.values())
    import ml_dtypes

    dtype = ml_dtypes.bfloat16 if name == "bfloat16" else numpy.dtype(name)
    arrays = {
        n: {k: numpy.frombuffer(raw(t), dtype).reshape(tuple(t.shape)) for k, t in ts.items()}
        for n, ts in models.items()
    }
    expected = lewis.merge_state_dict(arrays, recipe(dtype=name))
    for key, tensor in merged.items():
        assert tuple(tensor.shape) == expected[key].shape
        assert raw(tensor) == expected[key].tobytes()


def test_parameters_transposed_and_of_a_module():
    def layer(seed: int) -> object:
        torch.manual_seed(seed)
        return torch.nn.Linear(6, 4)

    modules = {name: layer(seed) for seed, name in enumerate(("base", "a", "b"))}
    by_state = lewis.merge_state_dict({n: m.state_dict() for n, m in modules.items()}, recipe())
    by_parameter = lewis.merge_state_dict(
        {n: dict(m.named_parameters()) for n, m in modules.items()}, recipe()
    )
    turned = lewis.merge_state_dict(
        {n: {k: v.t().contiguous().t() for k, v in m.state_dict().items()} for n, m in modules.items()},
        recipe(),
    )
    for name in ("weight", "bias"):
        assert raw(by_state[name]) == raw(by_parameter[name]) == raw(turned[name])
    modules["base"].load_state_dict(by_state)


def test_torch_tensors_by_dlpack_alone():
    class Wrapped:
        def __init__(self, tensor: object) -> None:
            self.tensor = tensor

        def __dlpack__(self, **how: object) -> object:
            return self.tensor.__dlpack__(**how)

        def __dlpack_device__(self) -> object:
            return self.tensor.__dlpack_device__()

    models = tensors(torch.bfloat16)
    wrapped = {n: {k: Wrapped(t) for k, t in ts.items()} for n, ts in models.items()}
    expected = lewis.merge_state_dict(models, recipe(dtype="bfloat16"))
    merged = lewis.merge_state_dict(wrapped, recipe(dtype="bfloat16"), framework="torch")
    for name, tensor in merged.items():
        assert torch.equal(tensor, expected[name])


def test_float8(tmp_path):
    base = torch.arange(16, dtype=torch.float32).reshape(4, 4)
    models = {
        name: {"w": (base + n).to(torch.float8_e4m3fn)} for n, name in enumerate(("base", "a", "b"))
    }
    try:
        merged = lewis.merge_state_dict(models, recipe("task_arithmetic", "bfloat16"))
    except lewis.Error as error:  # refused by lewis, not by the border
        assert error.place and "w" in str(error)
        return
    assert merged["w"].dtype == torch.bfloat16


def test_open_model_as_torch():
    model = lewis.open_model(MODELS["math"], framework="torch")
    for name, (dtype, shape, data) in read_model(MODELS["math"]).items():
        tensor = model[name]
        assert list(tensor.shape) == shape
        assert raw(tensor) == data


def test_from_dlpack_shares_memory():
    tensor = lewis.open_model(MODELS["math"]).tensor("model.norm.weight")
    shared = torch.from_dlpack(tensor)
    assert shared.dtype == torch.bfloat16
    shared.zero_()
    assert bytes(memoryview(tensor)) == bytes(tensor.nbytes)


def test_calibration_beside_torch(tmp_path):
    """Templates and tokenizers work in copies of this process, which torch makes large."""
    torch.ones(1000, 1000) @ torch.ones(1000, 1000)  # its threads run
    result = lewis.calibrate(
        MODELS["math"], DEMO / "data/math_train.jsonl", format="gsm8k", samples=2
    )
    assert result.texts[0].tokens > 0

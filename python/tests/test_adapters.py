"""Adapters: out of a model, into a model, and proven, as the command line does it."""

from __future__ import annotations

import json
import pathlib
from typing import Any

import lewis
import pytest
from conftest import DEMO, MODELS, bytes_of, guided_recipe, plain_recipe


@pytest.fixture
def adapter(tmp_path: pathlib.Path) -> pathlib.Path:
    """What the demo's math model changed, at rank 4."""
    lewis.extract(MODELS["base"], MODELS["math"], tmp_path / "adapter", rank=4)
    return tmp_path / "adapter"


def files_of(folder: pathlib.Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in folder.iterdir()}


def without(values: dict[str, Any], *names: str) -> dict[str, Any]:
    return {name: value for name, value in values.items() if name not in names}


@pytest.mark.parametrize(
    "options, arguments",
    [
        (["--rank", "4"], {"rank": 4}),
        (["--rank", "2", "--dtype", "bfloat16"], {"rank": 2, "dtype": "bfloat16"}),
        (["--rank", "2", "--dora"], {"rank": 2, "dora": True}),
        (["--rank", "3", "--ranks", "uniform"], {"rank": 3, "ranks": "uniform"}),
    ],
)
def test_extract_writes_the_adapter_of_the_command_line(cli, tmp_path, options, arguments):
    models = MODELS["base"], MODELS["math"]
    done = cli("extract", *models, "-o", tmp_path / "a", *options, "-q", "--json")
    result = lewis.extract(*models, tmp_path / "b", **arguments)
    assert files_of(tmp_path / "a") == files_of(tmp_path / "b")
    assert without(lewis.to_dict(result), "out") == without(json.loads(done.stdout), "out")
    assert 0 < result.error < 1
    assert result.layers and all(layer.rank >= 0 for layer in result.layers)


def test_extract_weighs_by_a_text_as_the_command_line(cli, tmp_path):
    data = DEMO / "data/math_train.jsonl"
    models = MODELS["base"], MODELS["math"]
    options = ["--data", data, "--format", "gsm8k", "--samples", "3", "-q"]
    cli("extract", *models, "-o", tmp_path / "a", "--rank", "2", *options)
    result = lewis.extract(*models, tmp_path / "b", rank=2, data=data, format="gsm8k", samples=3)
    assert files_of(tmp_path / "a") == files_of(tmp_path / "b")
    assert all(layer.weighted for layer in result.layers)


@pytest.mark.parametrize(
    "arguments, words",
    [
        ({}, "--rank"),
        ({"rank": 4, "error": 0.1}, "--rank"),
        ({"rank": 4, "dtype": "float8"}, "float16"),
        ({"rank": 4, "ranks": "some"}, "uniform"),
    ],
)
def test_extract_refuses_what_does_not_fit(tmp_path, arguments, words):
    with pytest.raises(lewis.Error, match=words) as error:
        lewis.extract(MODELS["base"], MODELS["math"], tmp_path / "out", **arguments)
    assert error.value.code == lewis.ExitCode.USAGE
    assert not (tmp_path / "out").exists()


def test_a_recipe_of_adapters_becomes_one(tmp_path, adapter):
    recipe = {
        "merge_method": "passthrough",
        "models": [{"model": f"{MODELS['base']}+{adapter}"}],
        "dtype": "float32",
    }
    result = lewis.extract(MODELS["base"], recipe, tmp_path / "same", error=0.001)
    assert result.error < 0.001


def test_apply_writes_the_model_of_the_command_line(cli, tmp_path, adapter):
    done = cli("apply", f"{MODELS['base']}+{adapter}", tmp_path / "a", "-q", "--json")
    result = lewis.apply(MODELS["base"], adapter, tmp_path / "b")
    assert bytes_of(tmp_path / "a") == bytes_of(tmp_path / "b")
    changing = ("out", "seconds", "proofs")
    expected, found = json.loads(done.stdout), lewis.to_dict(result)
    assert without(found, *changing) == without(expected, *changing)
    (proof,) = result.proofs
    assert proof.holds and proof.proven == proof.changed > 0
    assert proof.changed == len(proof.tensors)
    assert {tensor.verdict for tensor in proof.tensors} == {lewis.AdapterVerdict.PROVEN}
    assert proof.logits.why_not == "" and proof.logits.texts == 8
    assert lewis.to_dict(proof)["tensors"] == expected["proofs"][0]["tensors"]
    assert "holds=True" in repr(proof)


def test_apply_takes_several_adapters_in_their_order(cli, tmp_path, adapter):
    lewis.extract(MODELS["base"], MODELS["code"], tmp_path / "code", rank=2)
    both = [adapter, tmp_path / "code"]
    cli("apply", "+".join(map(str, [MODELS["base"], *both])), tmp_path / "a", "-q", "--no-proof")
    result = lewis.apply(MODELS["base"], both, tmp_path / "b", proof=False, dtype="")
    assert bytes_of(tmp_path / "a") == bytes_of(tmp_path / "b")
    assert result.proofs == []


def test_a_type_that_loses_the_change_is_an_error_unless_forced(tmp_path):
    lewis.merge(
        {
            "merge_method": "linear",
            "models": [
                {"model": str(MODELS["base"]), "parameters": {"weight": 0.9995}},
                {"model": str(MODELS["math"]), "parameters": {"weight": 0.0005}},
            ],
            "dtype": "float32",
        },
        tmp_path / "near",
    )
    small = tmp_path / "small"
    lewis.extract(MODELS["base"], tmp_path / "near", small, rank=8)
    with pytest.raises(lewis.Error, match="round") as error:
        lewis.apply(MODELS["base"], small, tmp_path / "out", dtype="bfloat16", logits=False)
    assert error.value.code == lewis.ExitCode.VERIFY
    assert not (tmp_path / "out").exists()
    lewis.apply(
        MODELS["base"], small, tmp_path / "out", dtype="bfloat16", logits=False, force_rounding=True
    )
    assert (tmp_path / "out").exists()


def test_verify_says_whether_a_model_holds_an_adapter(cli, tmp_path, adapter):
    lewis.apply(MODELS["base"], adapter, tmp_path / "out", proof=False)
    how = ["--adapter", adapter, "--base", MODELS["base"], "-q", "--json"]
    for model, code in ((tmp_path / "out", 0), (MODELS["base"], int(lewis.ExitCode.VERIFY))):
        expected = json.loads(cli("verify", model, *how, code=code).stdout)
        proof = lewis.verify(model, adapter=adapter, base=MODELS["base"])
        assert lewis.to_dict(proof) == expected
        assert proof.holds == (code == 0)
    assert {tensor.verdict for tensor in proof.tensors} == {lewis.AdapterVerdict.ABSENT}


def test_verify_of_several_adapters(cli, tmp_path, adapter):
    lewis.extract(MODELS["base"], MODELS["code"], tmp_path / "second", rank=4)
    both = [adapter, tmp_path / "second"]
    lewis.apply(MODELS["base"], both, tmp_path / "both", dtype="float32", proof=False)
    lewis.apply(MODELS["base"], adapter, tmp_path / "one", dtype="float32", proof=False)
    how = ["--adapter", both[0], "--adapter", both[1], "--base", MODELS["base"], "-q", "--json"]
    for model, code in ((tmp_path / "both", 0), (tmp_path / "one", int(lewis.ExitCode.VERIFY))):
        expected = json.loads(cli("verify", model, *how, code=code).stdout)
        proof = lewis.verify(model, adapter=both, base=MODELS["base"])
        assert lewis.to_dict(proof) == expected
        assert proof.holds == (code == 0)
    assert f"it holds the others without {both[1]}" in proof.lines[0]
    with pytest.raises(lewis.Error, match="no adapter") as error:
        lewis.verify(tmp_path / "one", adapter=[], base=MODELS["base"])
    assert error.value.code == lewis.ExitCode.USAGE


def test_verify_needs_adapter_and_base(tmp_path, adapter):
    with pytest.raises(lewis.Error, match="belong together"):
        lewis.verify(MODELS["base"], adapter=adapter)  # type: ignore[call-overload]


def test_merge_proves_adapters(tmp_path, adapter):
    recipe = plain_recipe("task_arithmetic")
    recipe["models"] = [{"model": f"{MODELS['base']}+{adapter}", "parameters": {"weight": 1}}]
    del recipe["parameters"]
    assert [p.holds for p in lewis.merge(recipe, tmp_path / "out", prove=True).proofs] == [True]
    with pytest.raises(lewis.Error) as error:
        lewis.merge(plain_recipe(), tmp_path / "none", prove=True)
    assert error.value.code == lewis.ExitCode.USAGE


class Stop(Exception):
    pass


@pytest.mark.parametrize("stop", [Stop, KeyboardInterrupt])
@pytest.mark.parametrize("verb", ["extract", "apply", "convert", "verify"])
def test_an_exception_of_progress_ends_the_work(tmp_path, adapter, verb, stop):
    def progress(p: lewis.Progress) -> None:
        raise stop(p.what)

    # The work runs beside Python, so it must last longer than the first call takes.
    out, data = tmp_path / "out.gguf", DEMO / "data/math_train.jsonl"
    calls = {
        "extract": lambda: lewis.extract(
            MODELS["base"],
            MODELS["code"],
            out,
            rank=4,
            data=data,
            format="gsm8k",
            samples=20,
            progress=progress,
        ),
        "apply": lambda: lewis.apply(MODELS["base"], adapter, out, progress=progress),
        "convert": lambda: lewis.convert(guided_recipe(), out, progress=progress),
        "verify": lambda: lewis.verify(
            MODELS["math"], adapter=adapter, base=MODELS["base"], progress=progress
        ),
    }
    with pytest.raises(stop):
        calls[verb]()
    assert not out.exists()

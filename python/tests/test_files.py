"""GGUF files, manifests, and work in parts, as the command line has them."""

from __future__ import annotations

import json
import pathlib

import lewis
import pytest
from conftest import DEMO, MODELS, bytes_of, guided_recipe, plain_recipe


@pytest.mark.parametrize("kind", ["f16", "q4_k"])
def test_convert_writes_the_file_of_the_command_line(cli, tmp_path, kind):
    done = cli("convert", MODELS["math"], tmp_path / "a.gguf", "--type", kind, "-q", "--json")
    result = lewis.convert(MODELS["math"], tmp_path / "b.gguf", type=kind)
    assert (tmp_path / "a.gguf").read_bytes() == (tmp_path / "b.gguf").read_bytes()
    assert result.bytes == (tmp_path / "b.gguf").stat().st_size
    assert result.architecture == "llama"
    expected = json.loads(done.stdout)
    assert {**lewis.to_dict(result), **{k: expected[k] for k in ("out", "files")}} == expected
    assert result.files == [tmp_path / "b.gguf"]


def test_convert_in_files_of_a_size(cli, tmp_path):
    size = ["--out-shard-size", "200K", "-q"]
    cli("convert", MODELS["math"], tmp_path / "a.gguf", *size)
    result = lewis.convert(MODELS["math"], tmp_path / "b.gguf", part_size="200K")
    assert len(result.files) > 1
    for file in result.files:
        same = file.with_name(file.name.replace("b-", "a-", 1))
        assert file.read_bytes() == same.read_bytes()


def test_convert_takes_a_recipe_and_writes_a_modelfile(cli, tmp_path):
    file = tmp_path / "recipe.yml"
    file.write_text(json.dumps(plain_recipe()))
    cli("convert", file, tmp_path / "a.gguf", "-q")
    modelfile = tmp_path / "Modelfile"
    lewis.convert(plain_recipe(), tmp_path / "b.gguf", modelfile=modelfile)
    assert (tmp_path / "a.gguf").read_bytes() == (tmp_path / "b.gguf").read_bytes()
    assert modelfile.read_text() == "FROM ./b.gguf\n"


def test_convert_refuses_a_type_and_a_file_that_exists(tmp_path):
    out = tmp_path / "out.gguf"
    with pytest.raises(lewis.Error, match="q8_0") as error:
        lewis.convert(MODELS["math"], out, type="q8")
    assert error.value.code == lewis.ExitCode.USAGE
    assert not out.exists()
    out.write_bytes(b"mine")
    with pytest.raises(lewis.Error, match="exists"):
        lewis.convert(MODELS["math"], out)
    assert out.read_bytes() == b"mine"
    lewis.convert(MODELS["math"], out, force=True)
    assert out.read_bytes()[:4] == b"GGUF"


def test_verify_reads_every_byte(cli, tmp_path):
    out = tmp_path / "out"
    lewis.merge(plain_recipe(), out)
    result = lewis.verify(out)
    assert lewis.to_dict(result) == json.loads(cli("verify", out, "-q", "--json").stdout)
    assert result.bytes >= len(bytes_of(out))
    broken = bytearray(bytes_of(out))
    broken[-3] ^= 1
    (out / "model.safetensors").write_bytes(broken)
    with pytest.raises(lewis.Error) as error:
        lewis.verify(out)
    assert error.value.code == lewis.ExitCode.VERIFY
    assert str(error.value) in cli("verify", out, "-q", code=5).stderr


def test_status_is_the_object_of_the_command_line(cli, tmp_path):
    out = tmp_path / "out"
    with pytest.raises(lewis.Error) as error:
        lewis.status(out)
    assert error.value.code == lewis.ExitCode.INPUT
    lewis.merge(plain_recipe(), out)
    found = lewis.status(out)
    assert found == json.loads(cli("status", out, "-q", "--json").stdout)
    assert found["complete"] and found["bytes"] == found["bytes_done"] == len(bytes_of(out))


def shards(folder: pathlib.Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in folder.glob("*.safetensors*")}


def test_a_merge_in_parts_has_the_bytes_of_one_call(tmp_path):
    lewis.merge(plain_recipe(), tmp_path / "whole", shard_size="300K")
    out = tmp_path / "out"
    first = lewis.merge(plain_recipe(), out, shard_size="300K", part="0/2")
    assert not first.tensors.complete and 0 < first.tensors.shards_left < first.tensors.all_shards
    status = lewis.status(out, wait=0)
    assert status["state"] == "workers" and 0 < status["shards_done"] < status["shards"]
    last = lewis.merge(plain_recipe(), out, shard_size="300K", part="1/2")
    assert last.tensors.complete and last.tensors.shards_left == 0
    assert shards(out) == shards(tmp_path / "whole")


@pytest.mark.parametrize("part", ["2/2", "half", "-1/2"])
def test_a_part_that_is_none_is_refused(tmp_path, part):
    with pytest.raises(lewis.Error) as error:
        lewis.merge(plain_recipe(), tmp_path / "out", part=part)
    assert error.value.code == lewis.ExitCode.USAGE


def test_a_calibration_in_parts_has_the_bytes_of_one_call(tmp_path):
    whole, cache = tmp_path / "whole", tmp_path / "shared"
    expected = lewis.calibrate(guided_recipe(), cache=whole).texts
    first = lewis.calibrate(guided_recipe(), cache=cache, part="0/2")
    assert 0 < first.pieces_measured and first.pieces == first.pieces_measured + first.pieces_left
    if first.pieces_left:
        with pytest.raises(lewis.Error):
            lewis.calibrate(guided_recipe(), cache=cache, finish=True)
    last = lewis.calibrate(guided_recipe(), cache=cache, part="1/2")
    assert last.pieces_left == 0
    done = lewis.calibrate(guided_recipe(), cache=cache, finish=True)
    assert done.pieces_left == 0
    found = {text.file.name: text.file.read_bytes() for text in done.texts}
    assert found == {text.file.name: text.file.read_bytes() for text in expected}


def test_an_evaluation_in_parts_has_the_scores_of_one_call(tmp_path):
    task = f"loss:{DEMO / 'data/math_test.jsonl'}:gsm8k"
    models = [MODELS["base"], MODELS["math"]]
    output = tmp_path / "eval"
    parts = [lewis.evaluate(models, task, limit=6, output=output, part=f"{i}/2") for i in (0, 1)]
    assert sum(part.part_items for part in parts) == 12
    assert all(part.part_items_run == part.part_items for part in parts)
    status = lewis.status(output, wait=0)
    assert status["state"] == "evaluation"
    assert [(work["done"], work["total"]) for work in status["works"]] == [(6, 6), (6, 6)]
    joined = lewis.evaluate(models, task, limit=6, output=output, finish=True)
    whole = lewis.evaluate(models, task, limit=6)
    assert [(s.model, s.value) for s in joined.scores] == [(s.model, s.value) for s in whole.scores]


def test_outputs_are_models_of_one_pass(tmp_path):
    recipe = {
        "merge_method": "linear",
        "models": [{"model": f"demo/models/{name}"} for name in ("base", "math", "code")],
        "outputs": [
            {"name": "mean", "average": "uniform"},
            {"name": "last", "average": "lawa", "last": 2},
        ],
        "dtype": "bfloat16",
    }
    forecast = lewis.forecast(recipe, tmp_path / "out")
    assert [weights.name for weights in forecast.outputs] == ["mean", "last"]
    result = lewis.merge(recipe, tmp_path / "out")
    mean, last = result.outputs
    assert mean.out == tmp_path / "out" / "mean"
    assert [share for _, share in last.weights.shares] == [0.5, 0.5]
    assert {pathlib.Path(name).name for name, _ in last.weights.shares} == {"math", "code"}
    assert last.tensors.merged > 0 and last.tensors.complete
    models = [{"model": f"demo/models/{name}", "parameters": {"weight": 1}} for name in ("math", "code")]
    alone = {
        "merge_method": "linear",
        "models": models,
        "parameters": {"double_sums": True},
        "dtype": "bfloat16",
    }
    lewis.merge(alone, tmp_path / "alone")
    assert bytes_of(last.out) == bytes_of(tmp_path / "alone")

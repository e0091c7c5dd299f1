"""The verbs give what the command line gives."""

from __future__ import annotations

import json
import pathlib
import struct

import lewis
import pytest
from conftest import DEMO, MODELS, bytes_of, guided_recipe, plain_recipe


@pytest.fixture
def recipe_file(tmp_path: pathlib.Path) -> pathlib.Path:
    file = tmp_path / "recipe.yml"
    file.write_text(json.dumps(plain_recipe()))
    return file


@pytest.fixture
def guided_file(tmp_path: pathlib.Path) -> pathlib.Path:
    file = tmp_path / "guided.yml"
    file.write_text(guided_recipe())
    return file


def test_version(cli):
    assert cli("--version").stdout.split()[1] == lewis.__version__


@pytest.mark.parametrize("method", ["ties", "linear", "task_arithmetic", "dare_ties", "breadcrumbs"])
def test_merge_writes_the_bytes_of_the_command_line(cli, tmp_path, method):
    recipe = plain_recipe(method)
    if method == "linear":
        del recipe["base_model"], recipe["parameters"]
    file = tmp_path / "recipe.yml"
    file.write_text(json.dumps(recipe))
    cli("merge", file, tmp_path / "expected", "-q", "--seed", "7")
    result = lewis.merge(recipe, tmp_path / "out", seed=7)
    assert bytes_of(tmp_path / "out") == bytes_of(tmp_path / "expected")
    assert result.out == tmp_path / "out"
    assert result.tensors.merged > 0


@pytest.mark.parametrize("kind", ["path", "str path", "text", "dict", "Recipe"])
def test_recipes_of_every_kind(cli, tmp_path, recipe_file, kind):
    cli("merge", recipe_file, tmp_path / "expected", "-q")
    recipe = {
        "path": recipe_file,
        "str path": str(recipe_file),
        "text": recipe_file.read_text(),
        "dict": plain_recipe(),
        "Recipe": lewis.read_recipe(recipe_file),
    }[kind]
    lewis.merge(recipe, str(tmp_path / "out"))
    assert bytes_of(tmp_path / "out") == bytes_of(tmp_path / "expected")


def test_dict_with_paths_and_numbers_of_numpy(tmp_path):
    import numpy

    recipe = plain_recipe()
    recipe["base_model"] = MODELS["base"]
    recipe["parameters"] = {"density": numpy.float32(0.5)}
    lewis.merge(recipe, tmp_path / "a")
    lewis.merge(plain_recipe(), tmp_path / "b")
    assert bytes_of(tmp_path / "a") == bytes_of(tmp_path / "b")


def test_small_numbers_of_a_dict_stay_numbers():
    recipe = plain_recipe()
    recipe["models"][0]["parameters"]["weight"] = 1e-05
    weight = lewis.read_recipe(recipe).yaml.split("weight: ")[1].split()[0]
    assert float(weight) == 1e-05


def test_guided_merge_writes_the_bytes_of_the_command_line(cli, tmp_path, guided_file):
    cli("merge", guided_file, tmp_path / "expected", "-q", "--cache", tmp_path / "cache_cli")
    result = lewis.merge(guided_file, tmp_path / "out", cache=tmp_path / "cache_py")
    assert bytes_of(tmp_path / "out") == bytes_of(tmp_path / "expected")
    assert result.guided_models == 2
    assert result.compute == "f32"


def test_guidance_false_ignores_the_section(cli, tmp_path, guided_file):
    cli("merge", guided_file, tmp_path / "expected", "-q", "--no-guidance")
    lewis.merge(guided_file, tmp_path / "out", guidance=False)
    assert bytes_of(tmp_path / "out") == bytes_of(tmp_path / "expected")


def test_shards_and_force(tmp_path, recipe_file):
    out = tmp_path / "out"
    lewis.merge(recipe_file, out)
    result = lewis.merge(recipe_file, out, force=True, shard_size="300K")
    assert result.tensors.shards > 1
    assert len(list(out.glob("model-*.safetensors"))) == result.tensors.shards


def test_tokenizer_false_copies_none(tmp_path, recipe_file):
    lewis.merge(recipe_file, tmp_path / "out", tokenizer=False)
    assert not (tmp_path / "out/tokenizer.json").exists()


def test_merge_as_json_is_that_of_the_command_line(cli, tmp_path, recipe_file):
    expected = json.loads(cli("merge", recipe_file, tmp_path / "a", "-q", "--json").stdout)
    found = lewis.to_dict(lewis.merge(recipe_file, tmp_path / "b"))
    for changing in ("seconds", "out"):
        expected.pop(changing), found.pop(changing)
    assert found == expected


def test_repr_names_the_fields(tmp_path, recipe_file):
    result = lewis.merge(recipe_file, tmp_path / "out")
    assert repr(result).startswith("MergeResult(out=")
    assert "merged=" in repr(result.tensors)


def test_forecast(cli, tmp_path, recipe_file):
    expected = json.loads(cli("merge", recipe_file, tmp_path / "a", "--dry-run", "--json").stdout)
    found = lewis.forecast(recipe_file, tmp_path / "a")
    assert found.cost.tensors == expected["tensors"]
    assert found.cost.bytes_written == expected["bytes_written"]
    assert found.cost.peak_memory == expected["peak_memory"]
    assert found.refinement is None
    assert not (tmp_path / "a").exists()


def test_explain(cli, tmp_path, recipe_file):
    tensor = "model.layers.0.mlp.down_proj.weight"
    lines = cli("merge", "--explain", tensor, recipe_file, tmp_path / "a").stdout.splitlines()
    assert lewis.explain(recipe_file, tensor) == lines


def test_plan(cli, tmp_path, guided_file):
    cli("plan", guided_file, "-o", tmp_path / "expected.yml", "-q")
    expected = json.loads(cli("plan", guided_file, "-q", "--json").stdout)
    result = lewis.plan(guided_file, tmp_path / "planned.yml")
    assert (tmp_path / "planned.yml").read_text() == (tmp_path / "expected.yml").read_text()
    assert result.yaml == (tmp_path / "expected.yml").read_text()
    assert lewis.to_dict(result) == expected
    density = result.models[0].layers.density
    assert density and all(0 < value <= 1 for value in density.values())


def test_a_planned_recipe_merges(cli, tmp_path, guided_file):
    cli("merge", guided_file, tmp_path / "expected", "-q")
    planned = lewis.plan(guided_file).planned
    lewis.merge(planned, tmp_path / "out", guidance=False)
    assert bytes_of(tmp_path / "out") == bytes_of(tmp_path / "expected")


def test_calibrate(cli, tmp_path):
    data = DEMO / "data/math_train.jsonl"
    options = ["--format", "gsm8k", "--samples", "3", "-q"]
    cli("calibrate", MODELS["math"], "--data", data, "-o", tmp_path / "a.safetensors", *options)
    result = lewis.calibrate(
        MODELS["math"], data, out=tmp_path / "b.safetensors", format="gsm8k", samples=3
    )
    assert len(result.texts) == 1
    assert result.texts[0].sequences == 3
    assert result.texts[0].tokens > 0

    def tensors(file: pathlib.Path) -> bytes:
        raw = file.read_bytes()
        return raw[8 + struct.unpack("<Q", raw[:8])[0] :]

    assert tensors(tmp_path / "a.safetensors") == tensors(tmp_path / "b.safetensors")


def test_calibrate_a_recipe_that_is_text(tmp_path):
    result = lewis.calibrate(guided_recipe())
    assert result.texts and not any(text.reused for text in result.texts)
    assert all(text.reused for text in lewis.calibrate(guided_recipe()).texts)


def test_evaluate(cli):
    arguments = ["--limit", "4", "-q", "--json"]
    task = f"loss:{DEMO / 'data/math_test.jsonl'}:gsm8k"
    models = [MODELS["base"], MODELS["math"]]
    expected = json.loads(
        cli("eval", *models, "--task", task, "--baseline", models[0], *arguments).stdout
    )
    result = lewis.evaluate(models, task, baseline=models[0], limit=4)
    found = lewis.to_dict(result)
    assert [m["results"] for m in found["models"]] == [m["results"] for m in expected["models"]]
    assert [score.model for score in result.scores] == ["base", "math"]
    assert result.scores[1].items == 4
    assert result.scores[0].difference is None
    assert result.scores[1].difference is not None
    assert result.scores[1].difference.difference < 0


def test_evaluate_a_recipe_as_the_merge_that_it_makes(tmp_path):
    task = f"loss:{DEMO / 'data/math_test.jsonl'}:gsm8k"
    lewis.merge(plain_recipe(), tmp_path / "out")
    merged, streamed = lewis.evaluate([tmp_path / "out", plain_recipe()], [task], limit=3).scores
    assert merged.value == streamed.value


def test_report(cli, tmp_path, recipe_file):
    lewis.merge(recipe_file, tmp_path / "out")
    cli("report", tmp_path / "out", "-o", tmp_path / "expected.html", "--no-diagnostics", "-q")
    result = lewis.report(tmp_path / "out", tmp_path / "page.html", diagnostics=False)
    assert result.bytes == (tmp_path / "page.html").stat().st_size
    assert result.report == tmp_path / "page.html"
    assert (tmp_path / "page.html").read_bytes() == (tmp_path / "expected.html").read_bytes()


def test_tune(cli, tmp_path):
    text = guided_recipe().replace("gamma: 0.3", "gamma: {search: [0.1, 0.6]}")
    file = tmp_path / "open.yml"
    file.write_text(text)
    options = ["--evaluations", "1", "--samples", "4", "-q"]
    cli("tune", file, "-o", tmp_path / "expected.yml", *options)
    result = lewis.tune(text, tmp_path / "found.yml", evaluations=1, samples=4)
    assert result.evaluations == 1
    assert [value.path for value in result.values] == ["lewis.gamma"]

    def plain(path: pathlib.Path) -> list[str]:
        return [line for line in path.read_text().splitlines() if not line.startswith("#")]

    assert plain(tmp_path / "found.yml") == plain(tmp_path / "expected.yml")
    again = lewis.tune(text, tmp_path / "found.yml", evaluations=1, samples=4)
    assert again.taken_over > 0


def test_lenient_takes_what_mergekit_ignores(tmp_path):
    recipe = plain_recipe(unknown_key=1)
    with pytest.raises(lewis.Error):
        lewis.merge(recipe, tmp_path / "out")
    lewis.merge(recipe, tmp_path / "out", lenient=True)
    assert (tmp_path / "out").exists()


def test_lenient_holds_for_every_verb(tmp_path):
    text = guided_recipe() + "\nunknown_key: 1\n"
    with pytest.raises(lewis.Error, match="unknown_key"):
        lewis.calibrate(text)
    assert lewis.calibrate(text, lenient=True).texts
    task = f"loss:{DEMO / 'data/math_test.jsonl'}:gsm8k"
    assert lewis.evaluate(text, task, limit=2, lenient=True).scores
    assert any("unknown_key" in line for line in lewis.plan(text, lenient=True).warnings)

"""Errors: the line of the command line, its parts, and that nothing is half-made."""

from __future__ import annotations

import copy
import os
import pickle

import lewis
import numpy
import pytest
from conftest import MODELS, plain_recipe, write_model
from test_arrays import recipe, state_dicts


def test_the_line_and_code_of_the_command_line(cli, tmp_path):
    file = tmp_path / "recipe.yml"
    file.write_text("merge_method: linear\nmodells: [{model: demo/models/base}]\n")
    done = cli("merge", file, tmp_path / "out", code=2)
    with pytest.raises(lewis.Error) as caught:
        lewis.merge(file, tmp_path / "out")
    assert done.stderr.strip() == f"lewis: error: {caught.value}"
    assert caught.value.code == 2 == lewis.ExitCode.USAGE
    assert caught.value.place == f"{file}:2"


@pytest.mark.parametrize(
    ("message", "place", "expected", "found"),
    [
        ("m/model.safetensors: tensor w is I8, expected F32, F16 or BF16",
         "m/model.safetensors: tensor w", "F32, F16 or BF16", "I8"),
        ("recipe.yml:3: expected a mapping, found a text", "recipe.yml:3", "a mapping", "a text"),
        ("a b/config.json: hidden_size is -1, expected a positive integer",
         "a b/config.json", "a positive integer", "-1"),
        ("--held-out 2: expected a share between 0 and 1", "--held-out 2", "a share between 0 and 1", None),
        ("out: the folder exists; use --force", "out", None, None),
        ("interrupted", None, None, None),
        ("x: expected a JSON object", "x", "a JSON object", None),
    ],
)
def test_parts_of_a_line(message, place, expected, found):
    error = lewis.Error(message, 3)
    assert (error.place, error.expected, error.found) == (place, expected, found)
    assert str(error) == message


def test_errors_survive_copies():
    error = lewis.Error("a: tensor w is 1, expected 2", 3)
    for again in (pickle.loads(pickle.dumps(error)), copy.copy(error)):
        assert (str(again), again.code, again.place) == (str(error), error.code, error.place)


def test_out_exists(tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out/mine").write_text("x")
    with pytest.raises(lewis.Error) as caught:
        lewis.merge(plain_recipe(), tmp_path / "out")
    assert caught.value.code == lewis.ExitCode.USAGE
    assert [p.name for p in (tmp_path / "out").iterdir()] == ["mine"]


def test_a_value_that_is_not_finite(tmp_path):
    models = state_dicts()
    models["a"]["w"][3, 4] = numpy.nan
    with pytest.raises(lewis.Error) as caught:
        lewis.merge_state_dict(models, recipe())
    assert caught.value.code == lewis.ExitCode.INPUT
    assert "w" in str(caught.value)


def test_shapes_that_differ():
    models = state_dicts()
    models["a"]["w"] = models["a"]["w"][:5]
    with pytest.raises(lewis.Error) as caught:
        lewis.merge_state_dict(models, recipe())
    assert caught.value.code == lewis.ExitCode.INPUT


def test_a_tensor_that_one_side_lacks():
    models = state_dicts()
    del models["b"]["v"]
    with pytest.raises(lewis.Error) as caught:
        lewis.merge_state_dict(models, recipe())
    assert "v" in str(caught.value)


@pytest.mark.parametrize("value", [None, [1.0, 2.0], "text", 3.5, object()])
def test_no_arrays(value):
    models = state_dicts()
    models["a"]["w"] = value
    with pytest.raises(lewis.Error) as caught:
        lewis.merge_state_dict(models, recipe())
    assert caught.value.code == lewis.ExitCode.USAGE
    assert caught.value.place == "a: tensor w"
    assert caught.value.found == f"of the type {type(value).__name__}"


@pytest.mark.parametrize(
    "array", [numpy.array(["a"]), numpy.array([object()]), numpy.zeros(3, ">f4"), numpy.zeros(3, "c16")]
)
def test_arrays_of_types_that_safetensors_lacks(array):
    models = state_dicts()
    models["a"]["v"] = array
    with pytest.raises(lewis.Error) as caught:
        lewis.merge_state_dict(models, recipe())
    assert caught.value.place == "a: tensor v"


def test_a_model_that_the_recipe_does_not_name():
    with pytest.raises(lewis.Error) as caught:
        lewis.merge_state_dict({**state_dicts(), "c": {}}, recipe())
    assert caught.value.expected == "a, b, base"
    assert caught.value.place == "models"


def test_a_missing_model():
    models = state_dicts()
    del models["b"]
    with pytest.raises(lewis.Error):
        lewis.merge_state_dict(models, recipe())


def test_swapped_arguments():
    with pytest.raises(TypeError, match="first argument"):
        lewis.merge_state_dict(recipe(), state_dicts())


@pytest.mark.parametrize("wrong", [3, None, ["a"]])
def test_no_recipe(tmp_path, wrong):
    with pytest.raises(TypeError, match="recipe"):
        lewis.merge(wrong, tmp_path / "out")


@pytest.mark.parametrize(
    ("name", "value"),
    [("compute", "f16"), ("max_memory", "much"), ("max_memory", -1), ("shard_size", "5XB"), ("threads", -1)],
)
def test_options_that_do_not_fit(tmp_path, name, value):
    with pytest.raises(lewis.Error) as caught:
        lewis.merge(plain_recipe(), tmp_path / "out", **{name: value})
    assert caught.value.code == lewis.ExitCode.USAGE
    assert caught.value.place == name
    assert caught.value.expected
    assert not (tmp_path / "out").exists()


def test_memory_that_does_not_suffice(tmp_path):
    with pytest.raises(lewis.Error) as caught:
        lewis.merge(plain_recipe(), tmp_path / "out", max_memory=1000)
    assert caught.value.code == lewis.ExitCode.RESOURCE


def test_models_that_cannot_be_opened(tmp_path):
    with pytest.raises(lewis.Error) as caught:
        lewis.open_model(tmp_path / "none")
    assert caught.value.code == lewis.ExitCode.INPUT
    folder = write_model(tmp_path / "m", {"w": numpy.zeros(8, numpy.float32)})
    file = folder / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-4])
    with pytest.raises(lewis.Error) as caught:
        lewis.open_model(folder)
    assert caught.value.place == str(file) or str(file) in str(caught.value)


def test_an_unknown_task_and_baseline():
    for arguments in ({"tasks": "losss:x"}, {"tasks": [], "baseline": "x"}):
        with pytest.raises(lewis.Error) as caught:
            lewis.evaluate(MODELS["base"], **arguments)
        assert caught.value.code == lewis.ExitCode.USAGE


def test_a_file_name_that_is_not_utf8(tmp_path):
    folder = os.fsdecode(os.fsencode(tmp_path) + b"/\xff")
    with pytest.raises(lewis.Error) as caught:
        lewis.open_model(folder)
    assert str(caught.value).isprintable()


def test_unknown_framework():
    with pytest.raises(lewis.Error) as caught:
        lewis.open_model(MODELS["base"], framework="tensorflow")
    assert caught.value.found == "'tensorflow'"


def test_what_no_recipe_can_hold(tmp_path):
    with pytest.raises(lewis.Error) as caught:
        lewis.merge(plain_recipe(extra=object()), tmp_path / "out")
    assert caught.value.code == lewis.ExitCode.USAGE

"""Models and data that are ids of the hub: downloaded before a verb begins, or streamed."""

from __future__ import annotations

import json
import os
import pathlib
import shutil
import subprocess
from collections.abc import Iterator

import pytest

import lewis
from conftest import DEMO, MODELS

RECIPE = {
    "merge_method": "ties",
    "base_model": "tiny/base",
    "models": [
        {"model": "tiny/math", "parameters": {"weight": 0.7, "density": 0.5}},
        {"model": "tiny/code", "parameters": {"weight": 0.6, "density": 0.4}},
    ],
    "dtype": "bfloat16",
}


@pytest.fixture
def hub(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[pathlib.Path]:
    """A server with the demo's models, and an empty cache, which is the value."""
    program = os.environ.get("LEWIS_HUB_SERVER")
    if not program:
        pytest.skip("the server of the tests is not here (LEWIS_HUB_SERVER)")
    served, cache = tmp_path / "served", tmp_path / "hub"
    for name, folder in MODELS.items():
        shutil.copytree(folder, served / "tiny" / name)
    with subprocess.Popen(
        [program, str(served)], text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as server:
        assert server.stdin and server.stdout
        monkeypatch.setenv("HF_ENDPOINT", server.stdout.readline().strip())
        monkeypatch.setenv("HF_HUB_CACHE", str(cache))
        monkeypatch.setenv("HF_HUB_OFFLINE", "0")
        yield cache
        server.stdin.close()


def weights(out: pathlib.Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in out.glob("*.safetensors")}


def expected(out: pathlib.Path) -> dict[str, bytes]:
    """The same merge of the folders."""
    models = [{**m, "model": str(DEMO / "models" / m["model"][5:])} for m in RECIPE["models"]]  # type: ignore[index]
    lewis.merge({**RECIPE, "base_model": str(MODELS["base"]), "models": models}, out)
    return weights(out)


def stored(cache: pathlib.Path) -> list[pathlib.Path]:
    return list(cache.rglob("*.safetensors"))


def test_a_recipe_of_ids_is_downloaded_and_merged(hub: pathlib.Path, tmp_path: pathlib.Path) -> None:
    seen: list[str] = []
    lewis.merge(RECIPE, tmp_path / "out", progress=lambda p: seen.append(p.what))
    assert weights(tmp_path / "out") == expected(tmp_path / "same")
    assert len(stored(hub)) == 3
    assert any("download" in what for what in seen), seen


def test_a_file_of_ids_is_downloaded_and_merged(hub: pathlib.Path, tmp_path: pathlib.Path) -> None:
    file = tmp_path / "recipe.yml"
    file.write_text(json.dumps(RECIPE))  # JSON is YAML
    lewis.merge(file, tmp_path / "out")
    assert weights(tmp_path / "out") == expected(tmp_path / "same")


def test_a_streamed_merge_stores_no_weights(hub: pathlib.Path, tmp_path: pathlib.Path) -> None:
    lewis.merge(RECIPE, tmp_path / "out", stream=True)
    assert stored(hub) == []
    assert weights(tmp_path / "out") == expected(tmp_path / "same")


def test_a_model_of_the_hub_is_opened(hub: pathlib.Path) -> None:
    model, same = lewis.open_model("tiny/base"), lewis.open_model(MODELS["base"])
    assert list(model) == list(same)
    name = next(iter(model))
    assert (model[name] == same[name]).all()


def test_a_model_of_the_hub_is_evaluated(hub: pathlib.Path) -> None:
    task = f"loss:{DEMO / 'data/math_test.jsonl'}:gsm8k"
    result = lewis.evaluate(["tiny/math", MODELS["math"]], task, limit=2)
    assert result.scores[0].value == result.scores[1].value


@pytest.mark.parametrize("stream", [False, True])
def test_an_id_that_is_not_there_is_an_error_with_its_place(
    hub: pathlib.Path, tmp_path: pathlib.Path, stream: bool
) -> None:
    with pytest.raises(lewis.Error) as error:
        lewis.merge({**RECIPE, "base_model": "tiny/nothing"}, tmp_path / "out", stream=stream)
    assert error.value.code == lewis.ExitCode.USAGE
    assert "tiny/nothing" in str(error.value)
    assert not (tmp_path / "out").exists()


def test_without_a_network_nothing_is_asked(
    hub: pathlib.Path, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(lewis.Error) as error:
        lewis.merge(RECIPE, tmp_path / "out")
    assert error.value.code == lewis.ExitCode.USAGE


def test_pull_downloads_once(hub: pathlib.Path) -> None:
    seen: list[str] = []
    (pulled,) = lewis.pull("tiny/math", progress=lambda p: seen.append(p.what)).models
    assert pulled.id == "tiny/math"
    assert pulled.folder.is_relative_to(hub)
    assert (pulled.folder / "model.safetensors").read_bytes() == (
        MODELS["math"] / "model.safetensors"
    ).read_bytes()
    assert pulled.files > 0 and pulled.bytes >= (MODELS["math"] / "model.safetensors").stat().st_size
    assert any("download" in what for what in seen), seen
    (again,) = lewis.pull(["tiny/math"]).models
    assert again.commit == pulled.commit and again.files == 0
    assert len(lewis.pull(RECIPE).models) == 3
    with pytest.raises(lewis.Error) as error:
        lewis.pull("tiny/nothing")
    assert error.value.code == lewis.ExitCode.USAGE


def test_push_uploads_what_pull_gives_back(
    hub: pathlib.Path, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"
    lewis.merge(RECIPE, out)
    with pytest.raises(lewis.Error) as error:
        lewis.push(out, "me/merge")
    assert error.value.code == lewis.ExitCode.USAGE  # no token
    monkeypatch.setenv("HF_TOKEN", "writer")  # the server's write_token
    pushed = lewis.push(out, "me/merge")
    assert pushed.url.endswith("/me/merge") and pushed.files > 0 and pushed.bytes > 0
    (pulled,) = lewis.pull("me/merge").models
    assert weights(pulled.folder) == weights(out)
    assert lewis.to_dict(lewis.push(out, "me/merge"))["bytes"] < pushed.bytes
    (out / "config.json").write_text("{}")
    with pytest.raises(lewis.Error) as error:
        lewis.push(out, "me/merge")
    assert error.value.code == lewis.ExitCode.VERIFY

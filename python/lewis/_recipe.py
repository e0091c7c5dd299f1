"""Recipes: a dict, YAML text, or a file."""

from __future__ import annotations

import contextlib
import json
import os
import pathlib
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Optional, Union

from . import _lewis
from ._error import Error, ExitCode
from ._lewis import Recipe
from ._progress import ProgressOption, notice, reporter

RecipeLike = Union[Recipe, Mapping[str, Any], str, "os.PathLike[str]"]


def _plain(value: object) -> object:
    """What JSON does not know: paths, and numbers of numpy and torch."""
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    if isinstance(value, Mapping):
        return dict(value)
    if hasattr(value, "tolist"):
        return value.tolist()
    if isinstance(value, (set, frozenset, Sequence)):
        return list(value)
    raise Error(
        f"recipe: a value is a {type(value).__name__}, expected a text, a number, a list or a dict",
        ExitCode.USAGE,
    )


def _text_of(recipe: Mapping[str, Any]) -> str:
    # JSON is YAML.
    return json.dumps(recipe, default=_plain, indent=1, ensure_ascii=False)


def _is_text(recipe: str) -> bool:
    """Whether a str is a recipe, not the name of its file: a recipe has more than one line, or is
    one line of YAML's {}."""
    return "\n" in recipe or recipe.lstrip().startswith("{")


def local_model(model: "os.PathLike[str]", progress: ProgressOption = None) -> pathlib.Path:
    """The folder of a model that may be an id of the hub, which is downloaded where the cache lacks
    it. A recipe's file stays as it is; the models and data that it names are downloaded."""
    with reporter(progress) as report_progress:
        return _lewis.local_model(model, report_progress, notice)


def read_recipe(
    recipe: RecipeLike,
    *,
    lenient: bool = False,
    in_memory: Sequence[str] = (),
    progress: ProgressOption = None,
) -> Recipe:
    """Reads a recipe and checks it.

    Args:
        recipe: a dict as YAML would give it, YAML text, or the path of a file. A ``str`` of several
            lines (or in braces) is text, any other ``str`` is a path. A :class:`Recipe` is
            returned as it is.
        lenient: keys that mergekit ignores become notes beside the result, not errors.
        in_memory: names of models that :func:`merge_state_dict` gets as arrays.
        progress: of downloads; as for :func:`merge`.

    Returns:
        The recipe, with ``yaml``, ``mergekit_yaml`` and ``model_names``.

    Raises:
        Error: ``USAGE``; its place is the file and line. ``INPUT`` and ``RESOURCE``: the hub's
            answers, the network or the disk.

    Relative paths start from the working directory, then from the recipe's folder. What is no
    folder is an id of the Hugging Face hub (``owner/name@revision``): models and data that its
    cache lacks are downloaded, unless some models are in memory.

    Source: docs/recipes.md and docs/mergekit.md of lewis.
    """
    if isinstance(recipe, Recipe):
        return recipe
    text = _file_text(recipe)
    if text is not None:
        if not in_memory:
            _download(text, progress)
        return _lewis.make_recipe(text, "", list(in_memory), lenient)
    if not isinstance(recipe, (str, os.PathLike)):
        raise TypeError(f"recipe is a {type(recipe).__name__}, expected a dict, a str or a path")
    if in_memory:
        path = pathlib.Path(recipe)
        try:
            text = path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as e:
            raise Error(f"{path}: {e}", ExitCode.INPUT) from e
        return _lewis.make_recipe(text, path, list(in_memory), lenient)
    return _lewis.open_recipe(local_model(pathlib.Path(recipe), progress), lenient)


def _download(text: str, progress: ProgressOption) -> None:
    """The models and data that a recipe names, where the hub's cache lacks them."""
    with recipe_files([text]) as (file,):
        local_model(file, progress)


def _file_text(recipe: object) -> Optional[str]:
    """The text of a recipe that is no file; None for a path."""
    if isinstance(recipe, Recipe):
        return recipe.yaml
    if isinstance(recipe, Mapping):
        return _text_of(recipe)
    if isinstance(recipe, str) and _is_text(recipe):
        return recipe
    return None


@contextlib.contextmanager
def recipe_files(recipes: Sequence[object]) -> Iterator[list[pathlib.Path]]:
    """The recipes and model folders as paths. Those that are no files are written into a temporary
    folder; errors name them "recipe"."""
    paths: list[pathlib.Path] = []
    written: list[pathlib.Path] = []
    with contextlib.ExitStack() as stack:
        for number, recipe in enumerate(recipes):
            text = _file_text(recipe)
            if text is None:
                paths.append(pathlib.Path(recipe))  # type: ignore[arg-type]
                continue
            folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="lewis-recipe-"))
            name = "recipe.yml" if len(recipes) == 1 else f"recipe{number + 1}.yml"
            paths.append(pathlib.Path(folder, name))
            paths[-1].write_text(text, encoding="utf-8")
            written.append(paths[-1])
        try:
            yield paths
        except Error as e:
            message = e.message
            for path in written:
                message = message.replace(str(path), path.stem)
            if message == e.message:
                raise
            raise Error(message, e.code) from None

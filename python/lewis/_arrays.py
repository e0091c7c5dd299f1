"""Arrays: merging in memory, and reading a model."""

from __future__ import annotations

import importlib
import os
import pathlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal, Optional, Union

from . import _lewis
from ._error import Error, ExitCode
from ._lewis import Tensor
from ._progress import ProgressOption, notice, reporter
from ._recipe import RecipeLike, local_model, read_recipe

Framework = Literal["numpy", "torch", "lewis"]

# safetensors' name -> the names in numpy (or ml_dtypes) and in torch.
_NAMES = {
    "F64": ("float64", "float64"),
    "F32": ("float32", "float32"),
    "F16": ("float16", "float16"),
    "BF16": ("bfloat16", "bfloat16"),
    "F8_E4M3": ("float8_e4m3fn", "float8_e4m3fn"),
    "F8_E5M2": ("float8_e5m2", "float8_e5m2"),
    "F8_E4M3FNUZ": ("float8_e4m3fnuz", "float8_e4m3fnuz"),
    "F8_E5M2FNUZ": ("float8_e5m2fnuz", "float8_e5m2fnuz"),
    "F8_E8M0": ("float8_e8m0fnu", "float8_e8m0fnu"),
    "I64": ("int64", "int64"),
    "I32": ("int32", "int32"),
    "I16": ("int16", "int16"),
    "I8": ("int8", "int8"),
    "U64": ("uint64", "uint64"),
    "U32": ("uint32", "uint32"),
    "U16": ("uint16", "uint16"),
    "U8": ("uint8", "uint8"),
    "BOOL": ("bool", "bool"),
    "C64": ("complex64", "complex64"),
}
# Types that only ml_dtypes gives to numpy, by their names there.
_ML_DTYPES = {
    numpy: name for name, (numpy, _) in _NAMES.items() if numpy.startswith(("bfloat", "float8"))
}


def _optional(module: str) -> Any:
    try:
        return importlib.import_module(module)
    except ImportError:
        return None


def _is_torch(array: object) -> bool:
    return any(t.__module__ == "torch" and t.__name__ == "Tensor" for t in type(array).__mro__)


def _as_input(array: Any) -> tuple[Any, str]:
    """The array as the module takes it, and safetensors' name of its type where it must be said."""
    if _is_torch(array):
        array = array.detach()
        name = str(array.dtype).removeprefix("torch.")
        if name.startswith("float8") and name in _ML_DTYPES:  # older torch has no DLPack for it
            torch = importlib.import_module("torch")
            return array.view(torch.uint8), _ML_DTYPES[name]
        return array, ""
    if type(array).__module__ == "numpy":
        name = array.dtype.name
        if name in _ML_DTYPES:
            numpy = importlib.import_module("numpy")
            return array.view(numpy.uint8 if array.itemsize == 1 else numpy.uint16), _ML_DTYPES[name]
    return array, ""


def _arrays_of(label: str, tensors: Mapping[str, Any]) -> _lewis.Arrays:
    arrays = _lewis.Arrays(label)
    for name, array in tensors.items():
        arrays.add(name, *_as_input(array))
    return arrays


def _framework_of(models: Mapping[str, Any]) -> Framework:
    """torch if a model holds its tensors, else numpy."""
    for tensors in models.values():
        if isinstance(tensors, Mapping):
            for array in tensors.values():
                return "torch" if _is_torch(array) else "numpy"
    return "numpy"


def _check_framework(framework: str) -> None:
    if framework not in ("numpy", "torch", "lewis"):
        raise Error(
            f"framework: is {framework!r}, expected 'numpy', 'torch' or 'lewis'", ExitCode.USAGE
        )
    if framework == "torch" and _optional("torch") is None:
        raise Error("framework: torch is not installed", ExitCode.USAGE)


def _numpy_type(numpy: Any, dtype: str) -> Any:
    """numpy's type, None where there is none."""
    if dtype not in _NAMES:
        return None
    name = _NAMES[dtype][0]
    if name not in _ML_DTYPES:
        return numpy.dtype(name)
    ml_dtypes = _optional("ml_dtypes")
    return numpy.dtype(getattr(ml_dtypes, name)) if hasattr(ml_dtypes, name) else None


def _to_framework(tensor: Tensor, framework: str) -> Any:
    """The tensor's memory as an array, without a copy."""
    if framework == "torch":
        torch = importlib.import_module("torch")
        dtype = getattr(torch, _NAMES.get(tensor.dtype, ("", ""))[1] or "none", None)
        if dtype is None:
            return tensor
        if tensor.nbytes == 0:
            return torch.empty(tensor.shape, dtype=dtype)
        return torch.frombuffer(tensor, dtype=dtype).reshape(tensor.shape)
    numpy = _optional("numpy") if framework == "numpy" else None
    dtype = None if numpy is None else _numpy_type(numpy, tensor.dtype)
    if numpy is None or dtype is None:
        return tensor
    if tensor.nbytes == 0:
        return numpy.empty(tensor.shape, dtype=dtype)
    return numpy.frombuffer(tensor, dtype=dtype).reshape(tensor.shape)


def merge_state_dict(
    models: Mapping[str, Union[Mapping[str, Any], str, "os.PathLike[str]"]],
    recipe: RecipeLike,
    *,
    framework: Optional[Framework] = None,
    seed: int = 0,
    lenient: bool = False,
    threads: int = 0,
    progress: ProgressOption = None,
) -> dict[str, Any]:
    """Merges arrays that are in memory. No folder is read, none is written.

    Args:
        models: by the name that the recipe uses, ``{tensor's name: array}``. An array is numpy's
            (``bfloat16`` and ``float8`` of ml_dtypes too), torch's, or any object with
            ``__dlpack__``, in the processor's memory. It may have any strides and be read-only. It
            is read where it is; only the inputs of the tensor that is merged at the time, and of the
            next one, are copied.
            Instead of a dict, the folder of a model may be given, or what :func:`open_model`
            returns, which are read tensor by tensor. Models of the recipe that are
            missing here are opened as folders.
        recipe: a dict, YAML text or a file; see :func:`read_recipe`. It may need no more than
            tensors: no calibration, refinement or tokenizer settings.
        framework: of the result: ``"numpy"``, ``"torch"`` or ``"lewis"``; None: torch if the
            first array is torch's, else numpy.
        seed: of random masks (dare).
        lenient, threads, progress: as for :func:`merge`.

    Returns:
        ``{tensor's name: array}``, sorted by name, with the shapes and bytes that :func:`merge`
        would write. The type is the recipe's ``dtype``. An array of a type that numpy lacks
        (``bfloat16`` without the package ml_dtypes) is a :class:`Tensor`.

    Raises:
        Error: ``USAGE``: the recipe; an object that is no array, with its model and name; ``INPUT``:
            tensors that do not fit together, a value that is not finite.
        KeyboardInterrupt: within a second or so after Ctrl-C.

    The GIL is free while this works. Do not change the arrays meanwhile.

    Source: docs/methods.md has the formulas.
    """
    if not isinstance(models, Mapping) or "merge_method" in models or "modules" in models:
        raise TypeError(
            "the first argument of merge_state_dict is {model's name: {tensor's name: array}}, "
            "the second the recipe"
        )
    wanted = _framework_of(models) if framework is None else framework
    _check_framework(wanted)
    parsed = read_recipe(recipe, lenient=lenient, in_memory=list(models))
    for name in models:
        if name not in parsed.model_names:
            raise Error(
                f"models: {name} is not a model of the recipe, expected "
                + ", ".join(parsed.model_names),
                ExitCode.USAGE,
            )
    sources: dict[str, Union[_lewis.Arrays, _lewis.Model]] = {}
    for name, tensors in models.items():
        if isinstance(tensors, (str, os.PathLike)):
            sources[name] = _lewis.open_model(pathlib.Path(tensors))
        elif isinstance(tensors, Model):
            sources[name] = tensors._model
        elif isinstance(tensors, Mapping):
            sources[name] = _arrays_of(name, tensors)
        else:
            raise TypeError(
                f"models[{name!r}] is a {type(tensors).__name__}, expected a dict or a folder"
            )
    with reporter(progress) as report_progress:
        if threads < 0:
            raise Error(f"threads: is {threads}, expected a number from 0 on", ExitCode.USAGE)
        merged = _lewis.merge_tensors(parsed, sources, seed, threads, report_progress, notice)
    return {tensor.name: _to_framework(tensor, wanted) for tensor in merged}


class Model(Mapping[str, Any]):
    """The tensors of a model's folder by name. Each is read when it is asked for."""

    def __init__(
        self, folder: Union[str, "os.PathLike[str]"], framework: Framework = "numpy"
    ) -> None:
        _check_framework(framework)
        self._folder = local_model(pathlib.Path(folder))
        self._model = _lewis.open_model(self._folder)
        self._names = self._model.names()
        self._framework = framework

    def __getitem__(self, name: str) -> Any:
        """Reads a tensor: an array of its own, which may be written to.

        Raises:
            KeyError: the model has no such tensor.
            Error: ``INPUT``: the bytes cannot be had.
        """
        return _to_framework(self.tensor(name), self._framework)

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and self._model.has(name)

    def tensor(self, name: str) -> Tensor:
        """Reads a tensor as a :class:`Tensor`, which needs neither numpy nor torch."""
        self._known(name)
        return self._model.read(name)

    def shape(self, name: str) -> tuple[int, ...]:
        """The sizes, outermost first. Nothing is read."""
        self._known(name)
        return self._model.shape(name)

    def dtype(self, name: str) -> str:
        """The type as safetensors names it: "F32", "BF16", "F8_E4M3". Nothing is read."""
        self._known(name)
        return self._model.dtype(name)

    def _known(self, name: str) -> None:
        if name not in self:
            raise KeyError(name)

    def __repr__(self) -> str:
        return f"<lewis model {self._folder}: {len(self)} tensors>"


def open_model(
    path: Union[str, "os.PathLike[str]"], *, framework: Framework = "numpy"
) -> Model:
    """Opens a model: a folder as Hugging Face writes it, or an id of the hub.

    The headers of all shards are proven; no weight is read yet. ``open_model(path)[name]`` reads
    one tensor into memory of its own.

    Args:
        path: the folder, or ``owner/name@revision``, which is downloaded where the hub's cache lacks
            it.
        framework: of the arrays: ``"numpy"``, ``"torch"`` or ``"lewis"`` (:class:`Tensor`). numpy
            has no ``bfloat16`` and ``float8``: they are types of the package ml_dtypes. Where it is
            not installed, such a tensor is a :class:`Tensor`.

    Returns:
        A mapping of names to arrays.

    Raises:
        Error: ``INPUT`` that names the file: no such folder, a missing or truncated shard, an index
            and shards that contradict each other.
    """
    return Model(path, framework)

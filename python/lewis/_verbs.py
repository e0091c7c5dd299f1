"""The verbs of lewis as functions."""

from __future__ import annotations

import json
import os
import pathlib
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, Optional, TypeVar, Union, overload

from . import _lewis
from ._error import Error, ExitCode
from ._lewis import (
    AdapterProof,
    CalibrateResult,
    ConvertResult,
    EvaluateResult,
    ExtractResult,
    MergeForecast,
    MergeResult,
    PlanResult,
    PullResult,
    PushResult,
    ReportResult,
    TuneResult,
    VerifyResult,
)
from ._progress import ProgressOption, notice, reporter
from ._recipe import RecipeLike, local_model, read_recipe, recipe_files

PathLike = Union[str, "os.PathLike[str]"]
Compute = Literal["f32", "bf16", "auto"]
Bytes = Union[int, str]
ModelLike = Union[RecipeLike, PathLike]

_Job = TypeVar("_Job")
_Result = TypeVar("_Result")


def _path(path: Optional[PathLike]) -> PathLike:
    """An unset path is the empty one, which pathlib does not have."""
    return "" if path is None else path


_UNITS = {"": 1, "k": 10**3, "m": 10**6, "b": 10**9, "g": 10**9}


def _bytes(value: Optional[Bytes], option: str) -> int:
    """Bytes of 5000000000, "500M" or "5GB"; the units are decimal. 0 for None."""
    if value is None:
        return 0
    if isinstance(value, str):
        match = re.fullmatch(r"\s*([0-9.]+(?:e[0-9]+)?)\s*([kmbg]?)b?\s*", value.lower())
        try:
            number = float(match[1]) * _UNITS[match[2]] if match else 0.0
        except ValueError:
            number = 0.0
    else:
        number = value
    if not 1 <= number < 1e18:
        raise Error(
            f"{option}: {value!r} is not a size, expected a number of bytes, as 5000000000 or '5GB'",
            ExitCode.USAGE,
        )
    return int(number)


def _choice(value: str, option: str, choices: Sequence[str]) -> str:
    if value not in choices:
        expected = ", ".join(choices[:-1]) + " or " + choices[-1]
        raise Error(f"{option}: is {value!r}, expected {expected}", ExitCode.USAGE)
    return value


def _guidance(
    compute: str, cache: Union[None, Literal[False], PathLike], max_memory: Optional[Bytes]
) -> _lewis.GuidanceOptions:
    options = _lewis.GuidanceOptions()
    if cache is False:
        options.cache = ""
    elif cache is not None:
        options.cache = pathlib.Path(cache)
    options.compute = {
        "f32": lambda: _lewis.ComputeType.F32,
        "bf16": lambda: _lewis.ComputeType.BF16,
        "auto": _lewis.faster_compute_type,
    }[_choice(compute, "compute", ("f32", "bf16", "auto"))]()
    options.max_memory = _bytes(max_memory, "max_memory")
    return options


def _threads(threads: int) -> int:
    if threads < 0:
        raise Error(f"threads: is {threads}, expected a number from 0 on", ExitCode.USAGE)
    return threads


def _run(
    verb: Callable[[Any, int, Any, Any], _Result], job: object, threads: int, progress: ProgressOption
) -> _Result:
    with reporter(progress) as report_progress:
        return verb(job, _threads(threads), report_progress, notice)


def _tell(warnings: Sequence[str]) -> None:
    for warning in warnings:
        notice(True, warning)


def _paths(paths: Union[PathLike, Sequence[PathLike]]) -> list[pathlib.Path]:
    if isinstance(paths, (str, os.PathLike)):
        return [pathlib.Path(paths)]
    return [pathlib.Path(path) for path in paths]


def _merge_job(
    out: PathLike,
    guidance: bool,
    compute: str,
    cache: Union[None, Literal[False], PathLike],
    max_memory: Optional[Bytes],
    seed: int,
) -> _lewis.MergeJob:
    job = _lewis.MergeJob()
    job.out = pathlib.Path(out)
    job.no_guidance = not guidance
    job.seed = seed
    job.guidance = _guidance(compute, cache, max_memory)
    return job


def _proof(wanted: bool, logits: bool, force_rounding: bool) -> _lewis.ProofOptions:
    options = _lewis.ProofOptions()
    options.wanted = wanted
    options.logits = logits
    options.force_rounding = force_rounding
    return options


def merge(
    recipe: RecipeLike,
    out: PathLike,
    *,
    force: bool = False,
    resume: bool = False,
    part: str = "",
    finish: bool = False,
    guidance: bool = True,
    tokenizer: bool = True,
    shard_size: Bytes = 5_000_000_000,
    report: Union[bool, PathLike] = False,
    base_model_id: str = "",
    model_ids: Optional[Mapping[str, str]] = None,
    prove: bool = False,
    stream: bool = False,
    max_disk: Optional[Bytes] = None,
    compute: Compute = "f32",
    cache: Union[None, Literal[False], PathLike] = None,
    max_memory: Optional[Bytes] = None,
    seed: int = 0,
    lenient: bool = False,
    threads: int = 0,
    progress: ProgressOption = None,
) -> MergeResult:
    """Merges the models of a recipe into the folder ``out``: what ``lewis merge`` does.

    Calibrates, plans and refines if the recipe asks for it. The merged model has the bytes that
    the command line writes.

    Args:
        recipe: a dict, YAML text or a file; see :func:`read_recipe`.
        out: the folder of the merged model. It appears when it is complete.
        force: replace ``out`` if it exists.
        resume: go on with ``OUT.partial``, which an interrupted call has left; an ``out`` that the
            same call has completed stays as it is (``was_complete``).
        part: ``"3/8"`` writes only share 3 (from 0) of 8 into ``OUT.partial``, beside other
            workers; ``"auto"`` takes both numbers from Slurm, MPI or Kubernetes. The last worker
            completes ``out`` (``tensors.complete``). Source: docs/clusters.md.
        finish: write no shard: check those of all parts, and complete ``out``.
        guidance: False ignores the section ``lewis:`` of the recipe: densities as written.
        tokenizer: False does not copy the tokenizer's files.
        shard_size: the largest shard in bytes, or ``"5GB"`` (decimal).
        report: True writes ``OUT/report.html``, a path another file.
        base_model_id: the hub's id of base_model, which stands in ``out`` for its folder.
        model_ids: the same for other models and adapters, by their names in the recipe.
        prove: an adapter whose change is not in the merge is an error (``VERIFY``) before ``out``
            has its name; see :func:`apply`.
        stream: read the weights of the hub's models while they are merged, and store none.
        max_disk: with ``stream``, bytes of weights that may be stored where the recipe reads its
            models several times.
        compute: type of the inputs and weights of linear layers in calibration: ``"f32"`` (the
            same numbers on every machine), ``"bf16"``, or ``"auto"``, which is faster here.
        cache: the folder of statistics; None: as the command line; False: no cache.
        max_memory: bytes, or ``"8GB"``: kept, or refused before any work. None: no limit.
        seed: of random masks (dare).
        lenient: keys that mergekit ignores become notes.
        threads: 0 means one per core.
        progress: a function that gets a :class:`Progress`; True: a bar of tqdm; False: nothing;
            None: a bar in notebooks and terminals where tqdm is installed.

    Returns:
        ``out``, ``tensors`` (numbers and names of merged and copied tensors, and warnings),
        ``seconds`` and more. Of a recipe with ``outputs``, a model in each ``outputs[i].out``, with
        its weights and tensors.

    Raises:
        Error: ``USAGE``: a wrong recipe, ``out`` exists; ``INPUT``: models that do not fit
            together, a value that is not finite; ``RESOURCE``: disk or ``max_memory`` is too
            little. Nothing named ``out`` has changed.
        KeyboardInterrupt: within a second or so after Ctrl-C. ``OUT.partial`` stays for
            ``resume=True``. So it does after an exception of ``progress``, which is raised.

    The GIL is free while this works. Warnings go to the logger ``lewis``.

    Source: docs/methods.md has the formulas of the methods, docs/lewis.md those of the guidance.
    """
    job = _merge_job(out, guidance, compute, cache, max_memory, seed)
    job.force = force
    job.resume = resume
    job.part = part
    job.finish = finish
    job.no_tokenizer = not tokenizer
    job.shard_bytes = _bytes(shard_size, "shard_size")
    job.report = None if report is False else "" if report is True else report
    job.base_model_id = base_model_id
    job.model_ids = dict(model_ids or {})
    job.prove = _proof(prove, True, False)
    if stream:
        disk = _bytes(max_disk, "max_disk")
        with recipe_files([recipe]) as (file,), reporter(progress) as report_progress:
            result = _lewis.merge_streamed(
                job, file, lenient, disk, _threads(threads), report_progress, notice
            )
    else:
        job.recipe = read_recipe(recipe, lenient=lenient, progress=progress)
        result = _run(_lewis.merge, job, threads, progress)
    _tell(result.tensors.warnings)
    return result


def forecast(
    recipe: RecipeLike,
    out: PathLike,
    *,
    guidance: bool = True,
    max_memory: Optional[Bytes] = None,
    seed: int = 0,
    lenient: bool = False,
    threads: int = 0,
) -> MergeForecast:
    """Says what :func:`merge` would take, and checks all that it can check before it reads weights:
    ``lewis merge --dry-run``.

    Returns:
        ``cost`` (bytes, tensors, parameters), ``seconds``, ``disk_free`` in bytes, and the speed of
        this disk in bytes per second.

    Raises:
        Error: as :func:`merge`.
    """
    job = _merge_job(out, guidance, "f32", None, max_memory, seed)
    job.recipe = read_recipe(recipe, lenient=lenient)
    result = _run(_lewis.forecast, job, threads, False)
    _tell(result.warnings)
    return result


def explain(
    recipe: RecipeLike,
    tensor: str,
    *,
    compute: Compute = "f32",
    cache: Union[None, Literal[False], PathLike] = None,
    seed: int = 0,
    lenient: bool = False,
    threads: int = 0,
    progress: ProgressOption = None,
) -> list[str]:
    """The value of each parameter for one tensor of the merge, and the line of the recipe that says
    so: ``lewis merge --explain``. Runs the calibrations that the recipe asks for.

    Returns:
        One line per parameter.

    Raises:
        Error: as :func:`merge`, and where the merge has no such tensor.
    """
    job = _merge_job("explained", True, compute, cache, None, seed)
    job.recipe = read_recipe(recipe, lenient=lenient, progress=progress)
    with reporter(progress) as report_progress:
        return _lewis.explain(job, tensor, _threads(threads), report_progress, notice)


def plan(
    recipe: RecipeLike,
    out: Optional[PathLike] = None,
    *,
    diagnostics: bool = False,
    compute: Compute = "f32",
    cache: Union[None, Literal[False], PathLike] = None,
    max_memory: Optional[Bytes] = None,
    lenient: bool = False,
    threads: int = 0,
    progress: ProgressOption = None,
) -> PlanResult:
    """Finds a density for every layer, as the section ``lewis:`` of the recipe says: ``lewis plan``.

    Args:
        recipe: a dict, YAML text or a file; see :func:`read_recipe`.
        out: a file for the recipe with densities, which mergekit reads; None: nowhere.
        diagnostics: read all weights and run the merge: size, share kept and conflict of task
            vectors, and activation errors. They are in ``to_dict(result)``.
        compute, cache, max_memory, lenient, threads, progress: as for :func:`merge`.

    Returns:
        ``planned``: the recipe with densities, which :func:`merge` takes; ``yaml``: its text;
        ``models``: for each calibrated model ``layers.importance`` and ``layers.density`` (a share,
        0 to 1) by the layer's name; ``cost`` of the merge.

    Raises:
        Error: ``USAGE``: settings that do not fit together; ``INPUT``: a model or text that cannot
            be read.

    Source: docs/lewis.md.
    """
    job = _lewis.PlanJob()
    job.recipe = read_recipe(recipe, lenient=lenient, progress=progress)
    job.out = _path(out)
    job.diagnostics = diagnostics
    job.guidance = _guidance(compute, cache, max_memory)
    result = _run(_lewis.plan, job, threads, progress)
    _tell(result.warnings)
    return result


def calibrate(
    model: ModelLike,
    data: Optional[PathLike] = None,
    *,
    out: Optional[PathLike] = None,
    format: str = "",
    prompt_field: str = "",
    answer_field: str = "",
    samples: int = 0,
    seed: int = 42,
    max_tokens: int = 0,
    protocol: Literal["clean", "reference"] = "clean",
    skip_first_token: bool = False,
    part: str = "",
    finish: bool = False,
    compute: Compute = "f32",
    cache: Union[None, Literal[False], PathLike] = None,
    max_memory: Optional[Bytes] = None,
    lenient: bool = False,
    threads: int = 0,
    progress: ProgressOption = None,
) -> CalibrateResult:
    """Runs a text through a model and keeps the sums of squares of its layers' inputs and outputs:
    ``lewis calibrate``.

    Args:
        model: a model's folder; or a recipe: its own models on the texts of its section ``lewis:``,
            or with ``data`` the merge, which is not written.
        data: the text.
        out: the file of the statistics (safetensors; ``.gguf``: an importance matrix of llama.cpp);
            None: the cache.
        format: gsm8k, mbpp, chat, jsonl, text or ids; "": by the file's ending.
        prompt_field, answer_field: names of the fields (format jsonl).
        samples: 0 means all.
        seed: of the choice of samples.
        max_tokens: the longest sequence; 0: 512 of text, no limit for ids.
        protocol: ``"reference"`` feeds and counts as the paper's program.
        skip_first_token: do not count the first token of a sequence.
        part: ``"1/4"``: of a recipe's own texts, measure only share 1 (from 0) of 4, beside other
            workers that see the same ``cache``; ``"auto"`` takes both numbers from Slurm, MPI or
            Kubernetes. Source: docs/clusters.md.
        finish: measure nothing: add up what the workers have measured.
        compute, cache, max_memory, lenient, threads, progress: as for :func:`merge`.

    Returns:
        ``texts``: for each ``file``, ``tokens``, ``sequences`` and ``origin``. In parts, those that
        are complete, and ``pieces``, ``pieces_measured`` (by this call) and ``pieces_left``.

    Raises:
        Error: ``USAGE``: no data, a format that cannot be told; ``INPUT``: a model or data that
            cannot be read; ``RESOURCE``: ``max_memory`` is too little.

    Source: docs/lewis.md.
    """
    job = _lewis.CalibrateJob()
    job.lenient = lenient
    job.data = _path(data)
    job.out = _path(out)
    job.format = format
    job.prompt_field = prompt_field
    job.answer_field = answer_field
    job.samples = samples
    job.seed = seed
    job.max_tokens = max_tokens
    job.reference_protocol = (
        _choice(protocol, "protocol", ("clean", "reference")) == "reference"
    )
    job.skip_first_token = skip_first_token
    job.part = part
    job.finish = finish
    job.guidance = _guidance(compute, cache, max_memory)
    with recipe_files([model]) as (path,):
        job.model = local_model(path, progress)
        with reporter(progress) as report_progress:
            _lewis.pull_data(job.data, report_progress, notice)
        return _run(_lewis.calibrate, job, threads, progress)


def evaluate(
    models: Union[ModelLike, Sequence[ModelLike]],
    tasks: Union[str, Sequence[str]] = (),
    *,
    baseline: Optional[ModelLike] = None,
    output: Optional[PathLike] = None,
    results: Union[PathLike, Sequence[PathLike]] = (),
    kl_to: Optional[PathLike] = None,
    layers: Optional[RecipeLike] = None,
    data: Optional[PathLike] = None,
    data_folder: Optional[PathLike] = None,
    format: str = "",
    prompt_field: str = "",
    answer_field: str = "",
    limit: int = 0,
    shots: Optional[int] = None,
    shots_data: Optional[PathLike] = None,
    max_new_tokens: Optional[int] = None,
    temperature: float = 0.0,
    top_p: float = 1.0,
    seed: int = 0,
    window: Optional[int] = None,
    stride: Optional[int] = None,
    log_samples: bool = False,
    resume: bool = True,
    part: str = "",
    finish: bool = False,
    allow_unsandboxed: bool = False,
    compute: Compute = "f32",
    cache: Union[None, Literal[False], PathLike] = None,
    max_memory: Optional[Bytes] = None,
    lenient: bool = False,
    threads: int = 0,
    progress: ProgressOption = None,
) -> EvaluateResult:
    """Runs tasks on models, with standard errors and paired differences to a baseline: ``lewis
    eval``.

    Args:
        models: one or several model folders or recipes; a recipe is merged while it is read, and
            no merge is written. A recipe that is no file has a temporary name in the results.
        tasks: one or several of ``NAME``, ``NAME:FILE`` or ``NAME:FILE:FORMAT`` of loss,
            perplexity, kl, gsm8k, gsm8k_cot, mbpp, humaneval, ifeval; or ``FILE.yaml``.
        baseline: one of ``models`` or ``results``, which the others are compared with.
        output: a folder for the results, in lm-evaluation-harness's shape. A call that was stopped
            goes on there.
        results: results of other runs to compare with.
        kl_to: the model whose distributions are the reference of the task kl.
        layers: a recipe with ``lewis.calibration``: activation errors against its experts, which
            ``to_dict(result)`` has.
        data, data_folder, format, prompt_field, answer_field: where the tasks' items are.
        limit: the first items only; 0: all.
        shots, shots_data: examples before each question.
        max_new_tokens, temperature, top_p, seed: of generation.
        window, stride: of perplexity, in tokens.
        log_samples: write every item into ``output`` as well.
        resume: False runs all items, whatever an earlier call has finished.
        part: ``"1/4"`` runs only share 1 (from 0) of 4 of the items, beside other workers with the
            same ``output``, and writes no results; ``"auto"`` as for :func:`calibrate`. Any later
            call takes the items over.
        finish: run nothing: write the results of what the workers have run.
        allow_unsandboxed: run programs even where a layer of the sandbox is missing.
        compute, cache, max_memory, lenient, threads, progress: as for :func:`merge`.

    Returns:
        ``scores``: for each model, task and metric ``value``, ``standard_error``, ``items`` and
        ``difference`` to the baseline (with a 95 % interval); ``files`` that were written; of a
        part ``part_items``, and ``part_items_run`` by this call. Values are in the metric's own unit; losses are in nats per token.

    Raises:
        Error: ``USAGE``: nothing to do, an unknown task or baseline, programs without a sandbox;
            ``INPUT``: a model, data or results that cannot be read.

    Source: docs/evaluation.md and docs/tasks.md.
    """
    given: list[Any] = (
        list(models)
        if isinstance(models, Sequence) and not isinstance(models, str)
        else [models]
    )
    job = _lewis.EvaluateJob()
    job.lenient = lenient
    job.tasks = [tasks] if isinstance(tasks, str) else list(tasks)
    job.other_results = _paths(results)
    job.output = _path(output)
    job.log_samples = log_samples
    job.no_resume = not resume
    job.part = part
    job.finish = finish
    job.allow_unsandboxed = allow_unsandboxed
    job.guidance = _guidance(compute, cache, max_memory)
    settings = _lewis.TaskSettings()
    settings.data = _path(data)
    settings.data_folder = _path(data_folder)
    settings.format = format
    settings.prompt_field = prompt_field
    settings.answer_field = answer_field
    settings.limit = limit
    settings.shots = shots
    settings.shots_data = _path(shots_data)
    settings.max_new_tokens = max_new_tokens
    settings.temperature = temperature
    settings.top_p = top_p
    settings.seed = seed
    settings.window = window
    settings.stride = stride
    job.settings = settings
    with recipe_files(given) as paths, recipe_files([] if layers is None else [layers]) as extra:
        job.models = [local_model(path, progress) for path in paths]
        if kl_to is not None:
            job.expert = local_model(pathlib.Path(kl_to), progress)
        if extra:
            job.layers = local_model(extra[0], progress)
        if baseline is not None:
            same = [path for path, model in zip(job.models, given) if model is baseline]
            job.baseline = str(same[0] if same else baseline)
        with reporter(progress) as report_progress:
            _lewis.pull_task_data(job, report_progress, notice)
        return _run(_lewis.evaluate, job, threads, progress)


def report(
    out: PathLike,
    file: Optional[PathLike] = None,
    *,
    figures: Optional[PathLike] = None,
    eval: Union[PathLike, Sequence[PathLike]] = (),
    card: bool = False,
    diagnostics: bool = True,
    recipe: Optional[RecipeLike] = None,
    compute: Compute = "f32",
    cache: Union[None, Literal[False], PathLike] = None,
    max_memory: Optional[Bytes] = None,
    threads: int = 0,
    progress: ProgressOption = None,
) -> ReportResult:
    """Writes one HTML page about a merge: ``lewis report``.

    Args:
        out: the merged model.
        file: of the page; None: ``OUT/report.html``.
        figures: a folder for the figures as SVG.
        eval: results of :func:`evaluate` or of lm-evaluation-harness.
        card: write the scores into ``OUT/README.md``, too.
        diagnostics: read the weights and run the models once more.
        recipe: that was merged, since ``out`` names no folders of this machine; None: its models
            are looked for by their names in ``out``.
        compute, cache, max_memory, threads, progress: as for :func:`merge`.

    Returns:
        ``report`` (the page), its ``bytes``, ``figures``, and ``missing``: what the page cannot
        show, and why.

    Raises:
        Error: ``INPUT``: ``out`` was not written by lewis, or a file is not what it must be.

    Source: docs/report.md.
    """
    job = _lewis.ReportJob()
    job.out = pathlib.Path(out)
    job.file = _path(file)
    job.figures = _path(figures)
    job.eval = _paths(eval)
    job.card = card
    job.diagnostics = diagnostics
    if recipe is not None:
        job.recipe = read_recipe(recipe, lenient=True, progress=progress)
    job.guidance = _guidance(compute, cache, max_memory)
    return _run(_lewis.report, job, threads, progress)


def tune(
    recipe: RecipeLike,
    out: PathLike,
    *,
    evaluations: int = 24,
    samples: int = 96,
    held_out: float = 1.0 / 3,
    seed: int = 0,
    objective: Literal["relative", "mean"] = "relative",
    force: bool = False,
    compute: Compute = "f32",
    cache: Union[None, Literal[False], PathLike] = None,
    max_memory: Optional[Bytes] = None,
    lenient: bool = False,
    threads: int = 0,
    progress: ProgressOption = None,
) -> TuneResult:
    """Searches the numbers that a recipe leaves open, written ``{search: [LOW, HIGH]}``: ``lewis
    tune``.

    Args:
        recipe: a dict, YAML text or a file with ranges and ``lewis.calibration``.
        out: the recipe with plain values; ``OUT.journal.jsonl`` beside it keeps the answers, from
            which the same call goes on after an interrupt.
        evaluations: merges that are scored while searching.
        samples: items of each calibration text; 0: all.
        held_out: the share of them that the search does not see.
        seed: decides which items those are.
        objective: ``"relative"``: loss between each expert's (0) and the base's (1); ``"mean"``.
        force: take data that is named as a test set.
        compute, cache, max_memory, lenient, threads, progress: as for :func:`merge`.

    Returns:
        ``values`` that were found, ``losses`` on held-out items in nats per token, and ``gain``
        with its 95 % interval (below 0 is better).

    Raises:
        Error: ``USAGE``: no range, no calibration data, data that is named as a test set, an
            expert that is no better than the base on its own text.

    Source: docs/recipes.md.
    """
    job = _lewis.TuneJob()
    job.lenient = lenient
    job.out = pathlib.Path(out)
    options = _lewis.TuneOptions()
    options.evaluations = evaluations
    options.samples = samples
    options.held_out = held_out
    options.seed = seed
    options.plain_mean = _choice(objective, "objective", ("relative", "mean")) == "mean"
    options.force = force
    options.guidance = _guidance(compute, cache, max_memory)
    job.options = options
    with recipe_files([recipe]) as (path,):
        job.recipe = local_model(path, progress)
        result = _run(_lewis.tune, job, threads, progress)
    _tell(result.warnings)
    return result


def _local(model: PathLike, progress: ProgressOption) -> pathlib.Path:
    return local_model(pathlib.Path(model), progress)


def apply(
    model: PathLike,
    adapters: Union[PathLike, Sequence[PathLike]],
    out: PathLike,
    *,
    dtype: str = "",
    force: bool = False,
    resume: bool = False,
    proof: bool = True,
    logits: bool = True,
    force_rounding: bool = False,
    shard_size: Bytes = 5_000_000_000,
    report: Union[bool, PathLike] = False,
    max_memory: Optional[Bytes] = None,
    threads: int = 0,
    progress: ProgressOption = None,
) -> MergeResult:
    """Writes a model with its LoRA adapters merged, and proves that they are in it: ``lewis apply``.

    Args:
        model: the model's folder, or its id on the hub.
        adapters: one or several folders or ids, applied one after the other.
        out: the folder of the model that is written. It appears when it is complete and proven.
        dtype: float32, bfloat16, float16, or fp8_block where the model has such matrices; "": as
            the weights are stored, quantised ones as bfloat16.
        force: replace ``out`` if it exists.
        resume: go on with ``OUT.partial``; begin where there is none.
        proof: False writes the model without proving it.
        logits: False proves the tensors alone, and runs no model.
        force_rounding: write a model whose type loses half of a change, too.
        shard_size: the largest shard in bytes, or ``"5GB"`` (decimal).
        report: True writes ``OUT/report.html``, a path another file.
        max_memory, threads, progress: as for :func:`merge`.

    Returns:
        As :func:`merge`; ``proofs`` has one :class:`AdapterProof`: ``holds``, ``lines`` for people,
        and each tensor with its relative error.

    Raises:
        Error: ``VERIFY``: a change is not in the model, or rounding loses half of it; ``USAGE``:
            ``out`` exists; ``INPUT``: an adapter that does not fit the model, or cannot be read.
            Nothing named ``out`` has changed.

    Source: docs/adapters.md.
    """
    job = _merge_job(out, True, "f32", None, max_memory, 0)
    names = [str(_local(adapter, progress)) for adapter in _paths(adapters)]
    job.recipe = _lewis.adapter_recipe(str(_local(model, progress)), names, dtype)
    job.force = force
    job.resume = resume
    job.shard_bytes = _bytes(shard_size, "shard_size")
    job.report = None if report is False else "" if report is True else report
    job.prove = _proof(proof, logits, force_rounding)
    result = _run(_lewis.merge, job, threads, progress)
    _tell(result.tensors.warnings)
    return result


def extract(
    base: ModelLike,
    model: ModelLike,
    out: PathLike,
    *,
    rank: int = 0,
    error: float = 0.0,
    ranks: Literal["auto", "uniform"] = "auto",
    dtype: Literal["float32", "bfloat16", "float16"] = "float32",
    statistics: Optional[PathLike] = None,
    data: Optional[PathLike] = None,
    format: str = "",
    samples: int = 0,
    seed: int = 0,
    base_model_id: str = "",
    dora: bool = False,
    expert_parameters: bool = False,
    partial: bool = False,
    force: bool = False,
    compute: Compute = "f32",
    cache: Union[None, Literal[False], PathLike] = None,
    max_memory: Optional[Bytes] = None,
    lenient: bool = False,
    threads: int = 0,
    progress: ProgressOption = None,
) -> ExtractResult:
    """Writes a LoRA adapter that makes one model of another, as PEFT loads it: ``lewis extract``.

    Args:
        base: the model's folder, its id, or a recipe.
        model: a model that was fine-tuned from it, or a recipe, perhaps of adapters on ``base``.
        out: the folder of the adapter. It appears when it is complete.
        rank: the size: that of this rank in every linear layer.
        error: or the largest error, as a share of the change (0 to 1).
        ranks: ``"auto"``: where they lessen the error most; ``"uniform"``: one rank.
        dtype: of the factors.
        statistics: a file of :func:`calibrate`, so that the error of outputs is least.
        data, format, samples: or a text that ``model`` is calibrated on.
        seed: of the random start.
        base_model_id: what the adapter calls its base; "": its id, or the folder's last part.
        dora: with the magnitudes of DoRA: norms of the rows of ``model`` beside the factors.
        expert_parameters: routed experts as PEFT's ``target_parameters``, though ``base`` stores
            them one by one.
        partial: leave out changed tensors that an adapter cannot hold.
        force: replace an adapter at ``out``.
        compute, cache, max_memory: of the calibration; as for :func:`calibrate`.
        lenient, threads, progress: as for :func:`merge`.

    Returns:
        ``layers`` (``rank``, ``change`` and relative ``error`` of each), modules ``saved`` whole,
        ``bytes``, and the ``error`` of the whole as a share of the change.

    Raises:
        Error: ``USAGE``: neither or both of ``rank`` and ``error``, ``out`` exists; ``INPUT``:
            models that are equal or do not fit together, changed tensors that an adapter cannot
            hold.

    Source: docs/adapters.md.
    """
    job = _lewis.ExtractJob()
    job.lenient = lenient
    job.out = pathlib.Path(out)
    job.rank = rank
    job.error = error
    job.uniform_ranks = _choice(ranks, "ranks", ("auto", "uniform")) == "uniform"
    job.dtype = dtype
    job.seed = seed
    job.dora = dora
    job.expert_parameters = expert_parameters
    job.partial = partial
    job.force = force
    job.statistics = _path(statistics)
    text = _lewis.CalibrateJob()
    text.lenient = lenient
    text.data = _path(data)
    text.format = format
    text.samples = samples
    text.guidance = _guidance(compute, cache, max_memory)
    job.text = text
    with recipe_files([base, model]) as (base_path, model_path):
        job.base_name = base_model_id or ("" if base_path.exists() else str(base_path))
        job.base = local_model(base_path, progress)
        job.model = local_model(model_path, progress)
        with reporter(progress) as report_progress:
            _lewis.pull_data(text.data, report_progress, notice)
        return _run(_lewis.extract, job, threads, progress)


def convert(
    model: ModelLike,
    out: PathLike,
    *,
    type: str = "f16",
    imatrix: Optional[PathLike] = None,
    pre: str = "",
    modelfile: Optional[PathLike] = None,
    part_size: Optional[Bytes] = None,
    force: bool = False,
    compute: Compute = "f32",
    cache: Union[None, Literal[False], PathLike] = None,
    max_memory: Optional[Bytes] = None,
    lenient: bool = False,
    threads: int = 0,
    progress: ProgressOption = None,
) -> ConvertResult:
    """Writes a model, or what a recipe merges, as a GGUF file for llama.cpp and Ollama: ``lewis
    convert``.

    Args:
        model: a folder, a GGUF file, an id of the hub, or a recipe, which is guided and refined as it asks.
        out: a file that ends in ``.gguf``. It appears when it is complete.
        type: of matrices: f16, bf16, f32, q8_0, q6_k, q5_k_m, q4_k_m, iq4_nl and more.
        imatrix: statistics of :func:`calibrate`, or an importance matrix, that weigh the rounding;
            None: what a recipe measures.
        pre: llama.cpp's name for how the tokenizer splits a text; "": recognised.
        modelfile: write this Modelfile for Ollama as well.
        part_size: write files of at most so many bytes of tensors (``"5GB"``),
            ``OUT-00001-of-00003.gguf`` and so on; None: one file.
        force: replace ``out``.
        compute, cache, max_memory, lenient, threads, progress: as for :func:`merge`.

    Returns:
        ``files`` that were written, their ``bytes`` and ``tensors``, ``type`` and ``architecture``.

    Raises:
        Error: ``USAGE``: ``out`` exists, a type that is not known; ``INPUT``: a family or tokenizer
            that the file cannot hold; ``RESOURCE``: the disk is too small.

    Source: docs/gguf.md.
    """
    job = _lewis.ConvertJob()
    job.lenient = lenient
    job.out = pathlib.Path(out)
    job.type = type
    job.imatrix = _path(imatrix)
    job.pre = pre
    job.modelfile = _path(modelfile)
    job.part_bytes = _bytes(part_size, "part_size")
    job.force = force
    job.guidance = _guidance(compute, cache, max_memory)
    with recipe_files([model]) as (path,):
        job.model = local_model(path, progress)
        return _run(_lewis.convert, job, threads, progress)


@overload
def verify(
    out: PathLike, *, threads: int = 0, progress: ProgressOption = None
) -> VerifyResult: ...
@overload
def verify(
    out: PathLike,
    *,
    adapter: Union[PathLike, Sequence[PathLike]],
    base: PathLike,
    logits: bool = True,
    threads: int = 0,
    progress: ProgressOption = None,
) -> AdapterProof: ...
def verify(
    out: PathLike,
    *,
    adapter: Union[None, PathLike, Sequence[PathLike]] = None,
    base: Optional[PathLike] = None,
    logits: bool = True,
    threads: int = 0,
    progress: ProgressOption = None,
) -> Union[VerifyResult, AdapterProof]:
    """Compares a merged model's bytes with its manifest; or says whether a model, whoever merged it,
    holds an adapter, or several: ``lewis verify``.

    Args:
        out: a folder that :func:`merge` has written; with ``adapter`` any model or id.
        adapter: the adapter's folder or id, or several in the order of merging, whose change is
            looked for together.
        base: the model that they were merged into.
        logits: False compares the tensors alone.
        threads, progress: as for :func:`merge`.

    Returns:
        Without ``adapter``: ``bytes`` that are right. With it: an :class:`AdapterProof`, whose
        ``holds`` is the answer: a model that does not hold the adapter is no error.

    Raises:
        Error: ``VERIFY``: a byte of ``out`` is not what was written; ``INPUT``: no manifest, or a
            model or adapter that cannot be read; ``USAGE``: ``adapter`` without ``base``.

    Source: docs/adapters.md.
    """
    if adapter is None and base is None:
        plain = _lewis.VerifyJob()
        plain.out = pathlib.Path(out)
        return _run(_lewis.verify, plain, threads, progress)
    if adapter is None or base is None:
        raise Error(
            "adapter and base belong together: what was merged, and into what", ExitCode.USAGE
        )
    job = _lewis.ProveJob()
    job.model = _local(out, progress)
    job.base = _local(base, progress)
    job.adapters = [_local(path, progress) for path in _paths(adapter)]
    job.logits = logits
    return _run(_lewis.prove, job, threads, progress)


def status(
    out: PathLike, *, wait: int = 25, progress: ProgressOption = False
) -> dict[str, Any]:
    """How far a merge is, or an evaluation or calibration in parts, and who is at work on it:
    ``lewis status``.

    Args:
        out: the folder that :func:`merge` writes or will write, the ``output`` of an evaluation in
            parts, or the ``cache`` of a calibration in parts.
        wait: seconds in which a worker of another machine must count up to be taken for alive; 0:
            it is not watched.
        progress: as for :func:`merge`.

    Returns:
        The object that ``lewis status --json`` prints. Of a merge: ``state``, ``complete``,
        ``bytes`` and ``bytes_done``, ``workers``, ``seconds_left`` and more; else ``works`` with
        ``done`` and ``total``, and of an evaluation ``seconds_left``.

    Raises:
        Error: ``INPUT``: there is no such work; ``VERIFY``: a complete model whose files have not
            the sizes of its manifest.

    Source: docs/clusters.md.
    """
    if wait < 0:
        raise Error(f"wait: is {wait}, expected seconds from 0 on", ExitCode.USAGE)
    job = _lewis.StatusJob()
    job.out = pathlib.Path(out)
    job.wait = wait
    value: dict[str, Any] = json.loads(_run(_lewis.status, job, 1, progress).json())
    return value


def pull(
    models: Union[ModelLike, Sequence[ModelLike]] = (),
    *,
    data: Union[str, Sequence[str]] = (),
    progress: ProgressOption = None,
) -> PullResult:
    """Downloads models and data sets of the hub into its cache: ``lewis pull``.

    Args:
        models: one or several ids (``owner/name``, ``owner/name@revision``), or recipes: all models
            and data that they name.
        data: one or several ids of data sets, with ``#SPLIT`` or ``#CONFIG/SPLIT`` if a part is
            meant.
        progress: as for :func:`merge`.

    Returns:
        ``models``: for each ``id``, ``commit``, ``folder`` in the cache, and ``files`` and
        ``bytes`` that came over the network.

    Raises:
        Error: ``USAGE``: no such model or revision, access that the token does not have; ``INPUT``:
            other bytes than the hub states; ``RESOURCE``: the network, the hub or the disk. What
            was complete stays in the cache.

    Source: docs/hub.md.
    """
    given: list[Any] = (
        list(models) if isinstance(models, Sequence) and not isinstance(models, str) else [models]
    )
    job = _lewis.PullJob()
    job.data = [data] if isinstance(data, str) else list(data)
    if not given and not job.data:
        raise Error("pull: name a model, a recipe, or data", ExitCode.USAGE)
    with recipe_files(given) as paths:
        job.names = [str(path) for path in paths]
        return _run(_lewis.pull, job, 1, progress)


def push(
    out: PathLike,
    id: str,
    *,
    private: bool = False,
    revision: str = "",
    force: bool = False,
    threads: int = 0,
    progress: ProgressOption = None,
) -> PushResult:
    """Verifies a merged model and uploads it to the hub as one commit: ``lewis push``.

    Args:
        out: a folder that :func:`merge` has written.
        id: ``owner/name``; it is created if it does not exist.
        private: create it as one that only its owner reads.
        revision: the branch, created if it does not exist; "": main.
        force: also when a text in ``out`` names a folder of this machine.
        threads, progress: as for :func:`merge`.

    Returns:
        ``url``, ``commit``, ``files``, and the ``bytes`` that went over the network.

    Raises:
        Error: ``VERIFY``: ``out`` is not what was written; ``USAGE``: no token, or no right to
            write, or a text that names a folder of this machine; ``RESOURCE``: the network or the
            hub. The same call again goes on: large files that have arrived are not sent again.

    Source: docs/hub.md.
    """
    job = _lewis.PushJob()
    job.out = pathlib.Path(out)
    job.id = f"{id}@{revision}" if revision else id
    job.is_private = private
    job.force = force
    return _run(_lewis.push, job, threads, progress)


def to_dict(
    result: Union[
        AdapterProof,
        CalibrateResult,
        ConvertResult,
        EvaluateResult,
        ExtractResult,
        MergeForecast,
        MergeResult,
        PlanResult,
        PullResult,
        PushResult,
        ReportResult,
        TuneResult,
        VerifyResult,
    ],
) -> dict[str, Any]:
    """A result as the object that ``lewis VERB --json`` prints."""
    value: dict[str, Any] = json.loads(result.json())
    return value

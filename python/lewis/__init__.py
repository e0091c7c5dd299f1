"""lewis merges fine-tuned language models, guided by data.

    import lewis

    result = lewis.merge("recipe.yml", "merged")

The verbs of the command ``lewis`` are functions: :func:`calibrate`, :func:`plan`, :func:`merge`,
:func:`evaluate`, :func:`report`, :func:`tune`; :func:`apply` and :func:`extract` of adapters,
:func:`convert` to GGUF, :func:`verify`, :func:`status`, :func:`pull`, :func:`push`.
:func:`merge_state_dict` merges arrays in memory, :func:`open_model` reads tensors. What goes wrong
is an :class:`Error`.
"""

from __future__ import annotations

from . import _lewis
from ._arrays import Model, merge_state_dict, open_model
from ._error import Error, ExitCode
from ._lewis import (
    AdaptedTensor,
    AdapterProof,
    AdapterVerdict,
    CalibratedText,
    CalibrateResult,
    ConvertResult,
    EvaluateResult,
    ExtractedModule,
    ExtractResult,
    LayerPlan,
    LogitProof,
    MergeCost,
    MergedOutput,
    MergeForecast,
    MergeReport,
    MergeResult,
    OutputWeights,
    PlannedModel,
    PlanResult,
    Progress,
    PulledModel,
    PullResult,
    PushResult,
    Recipe,
    RefineCost,
    ReportResult,
    ScoreDifference,
    TaskScore,
    Tensor,
    TunedLoss,
    TunedValue,
    TuneResult,
    VerifyResult,
)
from ._recipe import read_recipe
from ._verbs import (
    apply,
    calibrate,
    convert,
    evaluate,
    explain,
    extract,
    forecast,
    merge,
    plan,
    pull,
    push,
    report,
    status,
    to_dict,
    tune,
    verify,
)

__version__: str = _lewis.version()

__all__ = [
    "AdaptedTensor",
    "AdapterProof",
    "AdapterVerdict",
    "CalibrateResult",
    "CalibratedText",
    "ConvertResult",
    "Error",
    "EvaluateResult",
    "ExitCode",
    "ExtractResult",
    "ExtractedModule",
    "LayerPlan",
    "LogitProof",
    "MergeCost",
    "MergeForecast",
    "MergeReport",
    "MergeResult",
    "MergedOutput",
    "Model",
    "OutputWeights",
    "PlanResult",
    "PlannedModel",
    "Progress",
    "PullResult",
    "PulledModel",
    "PushResult",
    "Recipe",
    "RefineCost",
    "ReportResult",
    "ScoreDifference",
    "TaskScore",
    "Tensor",
    "TuneResult",
    "TunedLoss",
    "TunedValue",
    "VerifyResult",
    "apply",
    "calibrate",
    "convert",
    "evaluate",
    "explain",
    "extract",
    "forecast",
    "merge",
    "merge_state_dict",
    "open_model",
    "plan",
    "pull",
    "push",
    "read_recipe",
    "report",
    "status",
    "to_dict",
    "tune",
    "verify",
]

"""lewis merges fine-tuned language models, guided by data.

    import lewis

    result = lewis.merge("recipe.yml", "merged")

The verbs of the command ``lewis`` are functions: :func:`calibrate`, :func:`plan`, :func:`merge`,
:func:`evaluate`, :func:`report`, :func:`tune`. :func:`merge_state_dict` merges arrays in memory,
:func:`open_model` reads tensors. What goes wrong is an :class:`Error`.
"""

from __future__ import annotations

from . import _lewis
from ._arrays import Model, merge_state_dict, open_model
from ._error import Error, ExitCode
from ._lewis import (
    CalibratedText,
    CalibrateResult,
    EvaluateResult,
    LayerPlan,
    MergeCost,
    MergeForecast,
    MergeReport,
    MergeResult,
    PlannedModel,
    PlanResult,
    Progress,
    Recipe,
    RefineCost,
    ReportResult,
    ScoreDifference,
    TaskScore,
    Tensor,
    TunedLoss,
    TunedValue,
    TuneResult,
)
from ._recipe import read_recipe
from ._verbs import calibrate, evaluate, explain, forecast, merge, plan, report, to_dict, tune

__version__: str = _lewis.version()

__all__ = [
    "CalibrateResult",
    "CalibratedText",
    "Error",
    "EvaluateResult",
    "ExitCode",
    "LayerPlan",
    "MergeCost",
    "MergeForecast",
    "MergeReport",
    "MergeResult",
    "Model",
    "PlanResult",
    "PlannedModel",
    "Progress",
    "Recipe",
    "RefineCost",
    "ReportResult",
    "ScoreDifference",
    "TaskScore",
    "Tensor",
    "TuneResult",
    "TunedLoss",
    "TunedValue",
    "calibrate",
    "evaluate",
    "explain",
    "forecast",
    "merge",
    "merge_state_dict",
    "open_model",
    "plan",
    "read_recipe",
    "report",
    "to_dict",
    "tune",
]

"""Records tests/data/eval/statistics.json: standard errors, paired bootstraps, McNemar's test, Holm's
correction and normal quantiles as scipy and statsmodels give them.
usage: python3 tools/record_statistics.py > tests/data/eval/statistics.json   (scipy 1.17.1, statsmodels 0.15.0)"""
import json

import numpy as np
import scipy
import statsmodels
from scipy import stats
from statsmodels.stats.multitest import multipletests

RESAMPLES = 200_000


def paired(name, a, b, weights=None):
    """Two lists of scores of the same items; percentiles of RESAMPLES resamples of the items."""
    a, b = np.asarray(a, float), np.asarray(b, float)
    d = b - a
    if weights is None:
        result = stats.bootstrap((d,), np.mean, n_resamples=RESAMPLES, method="percentile",
                                 rng=np.random.default_rng(1), batch=1000)
        error = stats.sem(d)
    else:
        w = np.asarray(weights, float)
        ratio = lambda x, y, axis: np.sum(x * y, axis) / np.sum(y, axis)
        result = stats.bootstrap((d, w), ratio, n_resamples=RESAMPLES, method="percentile", paired=True,
                                 rng=np.random.default_rng(1), batch=1000)
        error = None
    means = result.bootstrap_distribution
    tail = min((means <= 0).sum(), (means >= 0).sum()) + 1
    # Means of right (1) and wrong (0) come in steps.
    step = 1 / len(d) if set(a) | set(b) <= {0, 1} else 0
    return {"name": name, "step": step, "a": a.tolist(), "b": b.tolist(), "weights": weights,
            "standard_error": error, "spread": means.std(ddof=1),
            "low": result.confidence_interval.low, "high": result.confidence_interval.high,
            "p": min(1.0, 2 * tail / (RESAMPLES + 1))}


random = np.random.default_rng(20260101)
n = 150
loss = random.gamma(2, 0.1, n)
right = random.random(n) < 0.4
pairs = [(0, 0), (0, 1), (1, 0), (1, 1), (0, 5), (0, 6), (3, 12), (12, 3), (10, 10), (7, 8), (40, 61), (200, 260),
         (1000, 1100), (0, 1319), (5000, 5300)]
p_lists = [[0.03], [0.01, 0.04], [0.04, 0.01], [0.01, 0.01, 0.01], [0.04, 0.03, 0.02, 0.01], [0.9, 0.6, 0.7],
           [0.0002, 0.013, 0.5, 0.011, 0.0002, 1.0, 0.049], random.random(20).round(4).tolist()]
print(json.dumps({
    "made_by": f"tools/record_statistics.py with scipy {scipy.__version__}, statsmodels {statsmodels.__version__}",
    "paired": [
        paired("small losses", loss.round(4), (loss + random.normal(0.02, 0.08, n)).round(4)),
        paired("right or wrong", right.astype(int), (right ^ (random.random(n) < 0.15)).astype(int)),
        paired("a clear gain", right.astype(int), (right | (random.random(n) < 0.3)).astype(int)),
        paired("windows", loss.round(4), (loss + random.normal(0.03, 0.1, n)).round(4),
               random.integers(1, 512, n).tolist()),
    ],
    "mcnemar": [{"a": a, "b": b, "p": stats.binomtest(min(a, b), a + b, 0.5).pvalue if a + b else 1.0}
                for a, b in pairs],
    "holm": [{"p": p, "corrected": multipletests(p, method="holm")[1].tolist()} for p in p_lists],
    "z": {"0.975": stats.norm.ppf(0.975), "0.8": stats.norm.ppf(0.8)},
}))

"""How often the 95 % intervals hold the true value, by simulation of answers from known models.

python -m pytest -m long tests/unit/test_interval_coverage.py
"""

import numpy as np
import pandas as pd
import pytest

from inference.metrics.bootstrap import Cells, resampled
from inference.metrics.calibration import GAP_METRICS, Tally, accuracy, brier_score
from inference.metrics.corrected import NOISE, metric_interval, opposites, tally_of
from inference.metrics.ranking import area_under_risk_coverage

DATA_SETS = 200  # per case; 0.90 less 2.5 standard errors is 0.85
N_RESAMPLES = 300
FEW, MANY = np.array([0.6, 0.7, 0.8, 0.9, 0.95]), np.linspace(0.05, 0.95, 19)
FEW_SHARES, MANY_SHARES = np.array([0.1, 0.2, 0.3, 0.3, 0.1]), np.full(19, 1 / 19)


def shifted(value, share, ece):
    """Overconfident by the same everywhere."""
    return np.clip(value - ece, 0, 1)


def alternating(value, share, ece):
    """Overconfident and underconfident in turns."""
    return np.clip(value + np.where(np.arange(len(value)) % 2, ece, -ece), 0, 1)


def in_one_bin(value, share, ece):
    """Overconfident at the most frequent confidence alone."""
    right = value.copy()
    most = int(np.argmax(share * value))
    right[most] -= min(ece / share[most], value[most])
    return right


# name → (confidences, their shares, chance of being right at each)
MODELS = {
    f"{kind}, {shift.__name__}, {ece}": (value, share, shift(value, share, ece))
    for kind, value, share in (("few", FEW, FEW_SHARES), ("many", MANY, MANY_SHARES))
    for shift in (shifted, alternating, in_one_bin)
    for ece in (0.0, 0.03, 0.13)
    if ece or shift is shifted
}
METRICS = {name: error.of for name, error in GAP_METRICS.items()}
METRICS |= {"accuracy": accuracy, "brier": brier_score, "aurc": area_under_risk_coverage}


def answers(value, share, right, n, random):
    """n answers with their images, as ``estimate`` takes them to cells."""
    at = random.choice(len(value), n, p=share)
    label = np.where(random.random(n) < right[at], "positive", "negative")
    return pd.DataFrame({"task": "FI-2", "truth": "positive", "label": label, "confidence": value[at]})


def intervals(rows, images, seed, metrics):
    """metric → (low, high) by the functions that ``estimate`` uses."""
    cells = Cells.of(rows, images)

    def tally(part, weights):
        right = (part.columns["label"] == part.columns["truth"]).to_numpy(dtype=float)
        return tally_of(part.columns["confidence"].to_numpy(), right, weights)

    def metrics_of(part, weights):
        drawn, seen = tally(part, weights), tally(part, part.weights)
        found = {name: METRICS[name](drawn) for name in metrics}
        for name in metrics & GAP_METRICS.keys():
            found[NOISE + name] = GAP_METRICS[name].size(GAP_METRICS[name].parts(drawn) - GAP_METRICS[name].parts(seen))
        return found

    point, drawn = resampled(cells, N_RESAMPLES, seed, metrics_of, opposites)
    return {name: metric_interval(name, point[name], drawn[name], drawn.get(NOISE + name)) for name in metrics}


def held(value, share, right, n, metrics, data_sets=DATA_SETS):
    """metric → share of the data sets whose interval holds the true value."""
    population = Tally(value, share * 1e9, share * right * 1e9)
    truth = {name: float(METRICS[name](population)) for name in metrics}
    random = np.random.default_rng(n)
    counts = dict.fromkeys(metrics, 0)
    for seed in range(data_sets):
        rows = answers(value, share, right, n, random)
        for name, (low, high) in intervals(rows, None, seed, metrics).items():
            counts[name] += low - 1e-6 <= truth[name] <= high + 1e-6
    return {name: count / data_sets for name, count in counts.items()}


@pytest.mark.parametrize("metric", ["accuracy", "ece", "brier"])
def test_intervals_hold_the_true_value_of_a_slightly_overconfident_model(metric):
    assert held(*MODELS["few, shifted, 0.03"], 300, {metric}, data_sets=60)[metric] >= 0.88


@pytest.mark.long
@pytest.mark.parametrize("n", [60, 200, 1000])
@pytest.mark.parametrize("model", MODELS)
def test_the_interval_of_ece_holds_the_true_value(model, n):
    assert held(*MODELS[model], n, {"ece"})["ece"] >= 0.88, model


@pytest.mark.long
@pytest.mark.parametrize("n", [60, 200, 1000])
@pytest.mark.parametrize("model", [model for model in MODELS if model.startswith("few")])
def test_the_intervals_of_the_other_errors_hold_the_true_value(model, n):
    for metric, share in held(*MODELS[model], n, GAP_METRICS.keys() - {"ece"}).items():
        assert share >= 0.88, (model, metric)


@pytest.mark.long
@pytest.mark.parametrize("rows_per_image", [1, 3])
@pytest.mark.parametrize("n", [60, 300])
@pytest.mark.parametrize("chance", [0.5, 0.9, 0.98, 0.995])
def test_the_interval_of_an_accuracy_holds_the_true_value_near_100_percent(chance, n, rows_per_image):
    """With three rows per image, all three are right or all wrong: 60 images say no more than 60 rows."""
    random = np.random.default_rng(round(1000 * chance) + n)
    counted = 0
    for seed in range(DATA_SETS):
        rows = answers(np.array([0.9]), np.array([1.0]), np.array([chance]), n, random)
        rows = rows.loc[np.repeat(np.arange(n), rows_per_image)]
        images = pd.Series(np.repeat(np.arange(n), rows_per_image).astype(str))
        low, high = intervals(rows, images, seed, {"accuracy"})["accuracy"]
        assert high - low > 0.5 / n
        counted += low - 1e-9 <= chance <= high + 1e-9
    assert counted / DATA_SETS >= 0.88

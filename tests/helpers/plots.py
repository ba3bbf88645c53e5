"""Results to draw, the files that come of them, and whether there is ink."""

import matplotlib.image
import numpy as np

from inference.data.vecbench import TASKS
from inference.metrics.prediction_table import prediction_table
from tests.helpers.results import a_result, answer

NOTICE = "made-up results: they say nothing of any model"
ONE_A_GROUP = ("FI-2", "EmoSet-8", "UnbiasedEmo-6")
STEMS = ["confidence_thresholds", "calibration_curves", "reliability", "risk_coverage", "confidence_histograms"]


def some_results(n=20, tasks=ONE_A_GROUP):
    """n answers per task, 70 % of them right, some unknown, some without a confidence."""
    generator = np.random.default_rng(0)
    results = []
    for task in (TASKS[name] for name in tasks):
        for _ in range(n):
            truth = str(generator.choice(task.labels))
            label = truth if generator.random() < 0.7 else str(generator.choice([*task.labels, "hm"]))
            confidence = generator.choice([None, 0.6, 0.7, 0.85, 0.9, 0.95, 1.0])
            results.append(a_result(task.name, truth, answer(label, confidence), notice=NOTICE))
    return results


def is_drawn(png):
    """Whether there is ink: pixels far from white, and not one colour only."""
    grey = matplotlib.image.imread(png)[..., :3].mean(axis=2)
    return grey.min() < 0.4 and grey.std() > 0.02


def a_table(*rows):
    """(task, truth, label, confidence) rows."""
    return prediction_table([a_result(task, truth, answer(label, c)) for task, truth, label, c in rows])

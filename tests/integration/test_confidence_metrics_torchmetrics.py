"""Calibration errors against torchmetrics."""

import pytest
import torch
from torchmetrics.functional.classification import binary_calibration_error

from inference.metrics import calibration as cm
from inference.metrics.calibration import Tally
from tests.helpers.results import calibrated_sample as sample


@pytest.mark.parametrize("bias", [0.0, 0.1, -0.2])
def test_ece_and_mce_agree_with_torchmetrics(bias):
    confidence, correctness = sample(3000, bias)
    for norm, figure in (("l1", cm.expected_calibration_error), ("max", cm.maximum_calibration_error)):
        # torchmetrics takes the confidence for the positive class: the same thing for one event.
        expected = binary_calibration_error(torch.tensor(confidence), torch.tensor(correctness), n_bins=10, norm=norm)
        assert figure(Tally.of(confidence, correctness)) == pytest.approx(float(expected), abs=1e-6)

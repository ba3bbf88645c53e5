"""The pixel budget against the processor that it stands for."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers.models.qwen2_vl.image_processing_qwen2_vl import smart_resize

from inference.data.images import FACTOR, ImageError, PixelBudget

PUBLISHED = PixelBudget()


@settings(max_examples=400)
@given(st.integers(1, 6000), st.integers(1, 6000), st.sampled_from([PUBLISHED, PixelBudget(3136, 12544)]))
def test_the_budget_chooses_the_size_that_the_processor_would(width, height, budget):
    try:
        expected = smart_resize(height, width, FACTOR, budget.min_pixels, budget.max_pixels)
    except ValueError:
        with pytest.raises(ImageError, match="aspect ratio"):
            budget.fit(width, height)
    else:
        assert budget.fit(width, height) == expected[::-1]

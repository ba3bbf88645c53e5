"""The texts of a real tokenizer's tokens."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from transformers import AutoTokenizer

from inference.engines.token_probabilities import token_texts
from tests.helpers.commands import TOY_CHECKPOINT


@pytest.fixture(scope="module")
def tokenizer():
    return AutoTokenizer.from_pretrained(TOY_CHECKPOINT)


@given(text=st.text(max_size=40))
def test_texts_of_tokens_add_up_to_what_the_tokenizer_decodes(tokenizer, text):
    ids = tokenizer(text, add_special_tokens=False)["input_ids"]
    texts = token_texts(tokenizer, [*ids, tokenizer.eos_token_id])
    assert texts[-1] is None
    assert "".join(filter(None, texts)) == tokenizer.decode(ids, skip_special_tokens=True)


@given(data=st.data())
def test_any_tokens_in_any_order_get_a_text_each(tokenizer, data):
    """What a model can sample at a high temperature: bytes that are no UTF-8 among them."""
    ids = data.draw(st.lists(st.integers(0, len(tokenizer) - 1), max_size=30))
    texts = token_texts(tokenizer, ids)
    special = set(tokenizer.all_special_ids)
    assert [text is None for text in texts] == [token in special for token in ids]

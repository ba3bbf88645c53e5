"""Secrets do not get into what is written."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from inference.redaction import HIDDEN, redact


@pytest.mark.parametrize("name", ["OPENAI_API_KEY", "HF_TOKEN", "WANDB_API_KEY", "CLIENT_SECRET", "db_password"])
def test_value_of_a_secret_variable_is_hidden(monkeypatch, name):
    monkeypatch.setenv(name, "sk-abcdef123456")
    assert redact("401: Incorrect API key provided: sk-abcdef123456.") == f"401: Incorrect API key provided: {HIDDEN}."


def test_other_variables_and_short_values_are_left_alone(monkeypatch):
    monkeypatch.setenv("DEBUG_KEY", "toy")
    monkeypatch.setenv("KEYBOARD", "toy_world_toy_world")
    assert redact("toy_world_toy_world") == "toy_world_toy_world"


def test_longer_secret_is_hidden_whole_when_another_is_its_beginning(monkeypatch):
    monkeypatch.setenv("A_TOKEN", "abcdefgh")
    monkeypatch.setenv("B_TOKEN", "abcdefghijkl")
    assert redact("abcdefghijkl") == HIDDEN


def test_secret_is_hidden_in_every_spelling(monkeypatch):
    monkeypatch.setenv("MY_SECRET", 'p"ss/w rd\\é')
    assert redact(r'{"key": "p\"ss/w rd\\\u00e9"}') == f'{{"key": "{HIDDEN}"}}'
    assert redact("?key=p%22ss%2Fw%20rd%5C%C3%A9") == f"?key={HIDDEN}"


@pytest.mark.parametrize(
    ("text", "hidden"),
    [
        ("http://me:pw@host:8000/v1", "http://***@host:8000/v1"),
        ("of https://me@host", "of https://***@host"),
        ("redis://:p@ss@10.0.0.1/0?x=a@b", "redis://***@10.0.0.1/0?x=a@b"),
        ("two: http://a:b@c and http://d:e@f.", "two: http://***@c and http://***@f."),
        ("http://host/path@v2 mail a@b.c", "http://host/path@v2 mail a@b.c"),
    ],
)
def test_user_and_password_of_an_address_are_hidden(text, hidden):
    assert redact(text) == hidden


@given(st.text(), st.text(alphabet=st.characters(exclude_characters="/?#\"'<>", exclude_categories=["Z", "C"])))
def test_no_password_of_an_address_survives(before, password):
    assert redact(f"{before}http://user:{password}@host/") == redact(before + "http://") + f"{HIDDEN}@host/"


@given(st.text())
def test_text_without_a_secret_is_untouched(text):
    if "@" not in text:
        assert redact(text) == text

"""How likely a response was by its tokens: one number for the whole text, one for the answer; and each candidate there.

The first two are confidences that cost no second inference, to compare with the one that the model states. The third,
the probability of each candidate, has the model read the response again up to its answer, or up to where it first
names that answer, once per candidate (``candidate_texts``), and compares how likely it finds them
(``candidate_probabilities``). The log-probabilities are natural logarithms of the model's own distribution (raw
logits, temperature 1), whatever temperature the tokens were sampled at: so numbers of greedy and sampled runs compare.

    from inference.engines.token_probabilities import response_log_probabilities
    response_log_probabilities(["<answer>", "a", "we", "</answer>", None], [-0.1, -0.2, -0.3, 0.0, 0.0])
    # (-0.12, -0.5)

A token's text is what decoding could add once it was there (``token_texts``): "" for a token that
ends inside a character, whose bytes come out with a later token's; None for a special token (the
end of the turn), which is no part of the text.
"""

from __future__ import annotations

import codecs
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import NamedTuple

from inference.data.response import ANSWER, answer_span, first_mention, label_places, normal_label

CLOSING = "</answer>"
DECIMALS = 6  # float32 gives no more; the engines' last bits depend on the batch


def response_log_probabilities(
    texts: Sequence[str | None], log_probabilities: Sequence[float]
) -> tuple[float | None, float | None]:
    """(mean over all tokens, sum over the answer's tokens), in nats; None for what does not exist.

    The mean counts every sampled token, special ones included. The sum counts the tokens whose text
    overlaps the text inside the first ``<answer>…</answer>`` outside the reasoning: a token that holds the
    tag's last or first character as well counts whole, and so does each token of a character that several
    share. It is None without such a pair of tags and when they are empty. A response without tokens, or
    with a log-probability that is not finite, has neither.

    Args:
        texts: one item per token, in order; together they are the response.
        log_probabilities: one number per token, in nats.

    Raises:
        ValueError: when the two differ in length.
    """
    if len(texts) != len(log_probabilities):
        raise ValueError(f"expected one log-probability per token, got {len(log_probabilities)} for {len(texts)}")
    if not texts or not all(map(math.isfinite, log_probabilities)):
        return None, None
    mean = round(math.fsum(log_probabilities) / len(texts), DECIMALS)
    answer = answer_span("".join(filter(None, texts)))
    if answer is None or answer[0] == answer[1]:
        return mean, None
    return mean, round(math.fsum(_inside(texts, log_probabilities, *answer)), DECIMALS)


def _inside(texts: Sequence[str | None], values: Sequence[float], start: int, end: int) -> list[float]:
    """The values of the tokens that overlap ``start`` to ``end`` of the joined text."""
    spans = zip(_spans(texts), values, strict=True)
    return [value for span, value in spans if span is not None and span[0] < end and span[1] > start]


class CandidateText(NamedTuple):
    """A response up to the place where candidates are scored, with one of them there.

    Attributes:
        head: the response before it.
        name: the candidate as it is written there.
        closing: what follows, so that the tokenizer cuts the name as it would in a response.
        place: one of ``inference.data.response.PLACES``.
        ends: whether the name has to end there, too: of "joy" and "joy of life" the shorter one would else be as
            likely as both together.
    """

    head: str
    name: str
    closing: str
    place: str
    ends: bool = False

    @property
    def text(self) -> str:
        return self.head + self.name + self.closing


def _capitalised(name: str) -> str:
    return name[:1].upper() + name[1:]


def _style(written: str, candidate: str) -> Callable[[str], str]:
    """How a response writes labels: as it has written this candidate; as the list has them where that is not known."""
    styles = (str, str.lower, str.upper, _capitalised, str.capitalize, str.title)
    return next((style for style in styles if style(candidate.strip()) == written), str)


def candidate_texts(response: str, candidates: Sequence[str], place: str = ANSWER) -> dict[str, CandidateText]:
    """candidate → the text to score it in; empty for a response that has no such place.

    ``answer``: inside ``<answer>``, after all of the reasoning. ``first_mention``: where the response first names what
    it answers (``first_mention``), which is where the reasoning decides. The candidates are written as the response
    writes its answer there: in lower case where a list in capitals is answered in lower case, with a capital at the
    beginning of a sentence.
    """
    names = tuple(candidates)
    span = answer_span(response) if place == ANSWER else first_mention(response, names)
    if span is None:
        return {}
    start, end = span
    closing = CLOSING if place == ANSWER else response[end : end + 1]
    places = list(label_places(response[start:end], names))
    style = str
    if len({label for *_, label in places}) == 1:
        first, last, label = places[0]
        written = response[start + first : start + last]
        style = _style(written, next((name for name in names if normal_label(name) == label), ""))
    spelled = {name: style(name.strip()) for name in names}
    forms = {form.lower() for form in spelled.values()}
    ends = any(longer != form and longer.startswith(form) for form in forms for longer in forms)
    return {name: CandidateText(response[:start], form, closing, place, ends) for name, form in spelled.items()}


def candidate_tail(scored: CandidateText) -> int:
    """How many last tokens of the text hold the candidate for sure, whatever precedes it."""
    return len((scored.name + scored.closing).encode("utf-8", "surrogatepass")) + 8


def candidate_score(
    texts: Sequence[str | None], log_probabilities: Sequence[float], scored: CandidateText
) -> float | None:
    """Log-probability of a candidate's tokens at the end of a text, in nats: their mean in the answer, else their sum.

    In the answer it is normalised by length (Brown et al., 2020, section 2.4), so that a label of many tokens is not
    less likely for that alone; where the reasoning decides, the sum is the probability that it names the candidate.
    A token that holds the last character before it as well counts whole. Where the name ``ends`` there, the first
    character behind it counts with it. None where the tokens do not spell the candidate, as when the tokenizer writes
    it otherwise, or a number is not finite.

    Args:
        texts, log_probabilities: one item per token of the text's end, ``candidate_tail`` of them at least.
    """
    joined = "".join(filter(None, texts))
    end = len(joined) - len(scored.closing)
    inside = _inside(texts, log_probabilities, end - len(scored.name), end + (scored.ends and bool(scored.closing)))
    if not joined.endswith(scored.name + scored.closing) or not inside or not all(map(math.isfinite, inside)):
        return None
    return math.fsum(inside) / (len(inside) if scored.place == ANSWER else 1)


def candidate_probabilities(scores: Mapping[str, float | None]) -> dict[str, float] | None:
    """candidate → its share of exp(score), the softmax over the candidates; None where one has no score."""
    if not scores or None in scores.values():
        return None
    largest = max(scores.values())
    weights = {candidate: math.exp(score - largest) for candidate, score in scores.items()}
    total = math.fsum(weights.values())
    return {candidate: round(weight / total, DECIMALS) for candidate, weight in weights.items()}


def _spans(texts: Sequence[str | None]) -> list[tuple[int, int] | None]:
    """Each token's place in the joined text; an unfinished character's tokens have its last token's place."""
    spans: list[tuple[int, int] | None] = [None] * len(texts)
    unfinished: list[int] = []
    start = 0
    for index, text in enumerate(texts):
        if text is None:
            continue
        unfinished.append(index)
        if text:
            for place in unfinished:
                spans[place] = (start, start + len(text))
            unfinished = []
            start += len(text)
    return spans


def token_texts(tokenizer, token_ids: Iterable[int]) -> list[str | None]:
    """The text that each token adds, as vLLM decodes it step by step; special tokens are None.

    Args:
        tokenizer: a fast tokenizer of transformers.
        token_ids: the sampled tokens.
    """
    from tokenizers.decoders import DecodeStream

    special = set(tokenizer.all_special_ids)
    stream = DecodeStream(skip_special_tokens=True)
    texts: list[str | None] = []
    for token in token_ids:
        if token in special:
            texts.append(None)
            continue
        try:
            texts.append(stream.step(tokenizer.backend_tokenizer, token) or "")
        except Exception as error:
            # Bytes that are no UTF-8 can confuse the stream (vLLM issue 17448): start anew from here.
            if not str(error).startswith("Invalid prefix encountered"):
                raise
            stream = DecodeStream(skip_special_tokens=True)
            texts.append(stream.step(tokenizer.backend_tokenizer, token) or "")
    return texts


def texts_of_bytes(tokens: Iterable[bytes]) -> list[str]:
    """The text that each token adds, from the tokens' bytes; a broken byte becomes U+FFFD."""
    decoder = codecs.getincrementaldecoder("utf-8")("replace")
    texts, held = [], ""
    for token in tokens:
        held += decoder.decode(token)
        unfinished = bool(decoder.getstate()[0])
        texts.append("" if unfinished else held)
        held = held if unfinished else ""
    return texts

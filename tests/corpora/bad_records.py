"""Lines of a data file, good and bad: what every reader of records is tried on.

Each case is the bytes of one line, and the field that its error must name, or None when it is a usable
record. ``RECORD_CASES`` holds all; the names are unique.
"""

import json
from copy import deepcopy
from typing import NamedTuple

IMAGE = "good.png"  # who infers the cases puts an image under this name beside the file


class RecordCase(NamedTuple):
    name: str
    line: bytes
    field: str | None  # None: a usable record


def a_record(**changes):
    """A usable record with changes; a change to ``...`` takes the key away."""
    content = [{"type": "image", "image": IMAGE}, {"type": "text", "text": "Which emotion?"}]
    raw = {
        "id": "x1",
        "conversations": [{"role": "user", "content": content}],
        "ground_truth": "awe",
        "candidates": ["awe", "fear"],
        "task": "EmoSet-8",
    }
    raw.update(changes)
    return {key: value for key, value in raw.items() if value is not ...}


def as_line(record):
    return json.dumps(record).encode("utf-8")


def with_json(record, path, text):
    """The record's line with the JSON ``text`` (which json.dumps may be unable to write) at a path of keys."""
    record = deepcopy(record)
    inner = record
    for key in path[:-1]:
        inner = inner[key]
    inner[path[-1]] = "here"
    return json.dumps(record).replace('"here"', text, 1).encode("utf-8")


# As JSON text, one of each kind that a field may hold.
VALUES = {
    "null": "null", "true": "true", "7": "7", "0.5": "0.5", "NaN": "NaN", "Infinity": "Infinity", "1e400": "1e400",
    "minus 1e400": "-1e400", "2^70": str(2**70), "empty text": '""', "text": '"awe"', "empty list": "[]",
    "list of text": '["awe"]', "list of null": "[null]", "list of lists": "[[[]]]", "empty object": "{}",
    "object": '{"a": 1}',
}  # fmt: skip

CONTENT = ("conversations", 0, "content")
# path → (the field that a bad value is reported at, values that are good there, other fields for some values)
PLACES = {
    ("task",): ("task", {"text"}, {}),
    ("ground_truth",): ("ground_truth", {"text"}, {}),
    ("candidates",): ("candidates", {"list of text"}, {}),
    ("candidates", 1): ("candidates", {"text"}, {}),
    ("id",): ("id", {"null", "7", "2^70", "text", "empty text"}, {}),
    ("conversations",): ("conversations", set(), {
        "null": "image", "list of text": "conversations[0]", "list of null": "conversations[0]",
        "list of lists": "conversations[0]",
    }),
    ("conversations", 0): ("conversations[0]", set(), {}),
    ("conversations", 0, "role"): ("conversations[0]", set(), dict.fromkeys(
        ["text", "empty text"], "conversations[0].role"
    )),
    CONTENT: ("conversations[0].content", set(), dict.fromkeys(["text", "empty text", "empty list"], "conversations")),
    (*CONTENT, 0): ("conversations[0].content", set(), dict.fromkeys(
        ["empty object", "object"], "conversations[0].content[0]"
    )),
    (*CONTENT, 0, "image"): ("image", {"text"}, dict.fromkeys(["null", "empty object", "object"], "conversations")),
    (*CONTENT, 1, "text"): ("conversations[0].content[1]", {"text", "empty text"}, {}),
}  # fmt: skip


def wrong_types():
    for path, (field, good, others) in PLACES.items():
        for name, text in VALUES.items():
            expected = None if name in good else others.get(name, field)
            base = a_record(id="..." if path == ("id",) else f"{path} {name}")
            line = with_json(base, path, '"good.png"' if path[-1] == "image" and name == "text" else text)
            yield RecordCase(f"{'.'.join(map(str, path))} is {name}", line, expected)
    for name, text in VALUES.items():  # without turns, the record's own image counts
        good = {"text": '"good.png"', "list of text": '["good.png"]'}
        line = with_json(a_record(conversations=..., id=f"lone {name}"), ("image",), good.get(name, text))
        yield RecordCase(f"lone image is {name}", line, None if name in good else "image")
        whole = text.encode("utf-8")
        yield RecordCase(f"the line is {name}", whole, "task" if name in ("empty object", "object") else "(line)")


def missing():
    for key, field in (("task",) * 2, ("candidates",) * 2, ("ground_truth",) * 2, ("conversations", "image")):
        yield RecordCase(f"no {key}", as_line(a_record(**{key: ...})), field)
    yield RecordCase("no id", as_line(a_record(id=...)), None)
    for key in ("role", "content"):
        record = a_record()
        del record["conversations"][0][key]
        yield RecordCase(f"no {key}", as_line(record), "conversations[0]" + (".content" if key == "content" else ""))
    record = a_record(id="two images")
    record["conversations"][0]["content"] *= 2
    yield RecordCase("two images", as_line(record), "conversations")


def torn():
    line = as_line(a_record())
    for length in range(1, len(line), 12):
        yield RecordCase(f"cut off at byte {length}", line[:length], "(line)")


def sizes():
    long = 2**20 + 1
    yield RecordCase("id of 5,000 digits", with_json(a_record(), ("id",), "1" * 5000), "(line)")
    yield RecordCase("id of 4,000 digits", with_json(a_record(), ("id",), "1" * 4000), "id")
    yield RecordCase("weight of 5,000 digits", with_json(a_record(), ("weight",), "1" * 5000), "(line)")
    yield RecordCase("weight of 400 digits", with_json(a_record(id="digits"), ("weight",), "1" * 400), None)
    yield RecordCase("weight is NaN", with_json(a_record(id="nan"), ("weight",), "NaN"), None)
    for key in ("task", "ground_truth", "id"):
        yield RecordCase(f"{key} of 1 MB", as_line(a_record(**{key: "x" * long})), key)
        yield RecordCase(f"{key} is a list of 1 MB", as_line(a_record(**{key: ["x" * long]})), key)
    yield RecordCase("task of 10 MB", as_line(a_record(task="x" * 10 * long)), "task")
    yield RecordCase("a candidate of 1 MB", as_line(a_record(candidates=["awe", "x" * long])), "candidates")
    for key, value in (("candidates", ["awe", "Unknown"]), ("ground_truth", "unknown")):
        yield RecordCase(f"the label of no answer in {key}", as_line(a_record(**{key: value})), key)
    yield RecordCase("100,000 candidates", as_line(a_record(candidates=["awe"] * 10**5)), "candidates")
    yield RecordCase(
        "candidates of control characters", as_line(a_record(candidates="\r\n\x1b[31m" * 99)), "candidates"
    )
    items = [{"type": "image", "image": IMAGE}, {"type": "text", "text": "x" * long}]
    turns = [{"role": "user", "content": items}]
    yield RecordCase("a question of 1 MB", as_line(a_record(conversations=turns)), "conversations[0].content[1]")
    yield RecordCase("another key of 10 MB", as_line(a_record(id="long", note="x" * 10 * long)), None)
    for depth, field in (
        (50, None),
        (95, None),
        (101, "(line)"),
        (500, "(line)"),
        (990, "(line)"),
        (100_000, "(line)"),
    ):
        line = with_json(a_record(id=f"deep {depth}"), ("note",), "[" * depth + "]" * depth)
        yield RecordCase(f"another key of {depth:,} levels", line, field)
        objects = with_json(a_record(id=f"deep objects {depth}"), ("note",), '{"a":' * depth + "1" + "}" * depth)
        yield RecordCase(f"another key of {depth:,} objects", objects, field)
    yield RecordCase("100,000 levels", b"[" * 100_000, "(line)")
    yield RecordCase("task of 990 levels", with_json(a_record(), ("task",), "[" * 990 + "]" * 990), "(line)")


def text():
    """Encodings, characters and near-JSON."""
    line = as_line(a_record(id="text"))
    for name, wrong in {
        "invalid UTF-8": b"\xff", "an overlong form": b"\xc0\xaf", "half a character": b"\xe2\x82",
        "an encoded surrogate": b"\xed\xa0\x80", "NUL": b"\0", "a raw tab": b"\t", "an escape that is none": b"\\x",
        "half an escape": b"\\u12",
    }.items():  # fmt: skip
        yield RecordCase(f"{name} in a label", line.replace(b'"awe"', b'"' + wrong + b'"', 1), "(line)")
    for path, field in {
        ("task",): "task", ("ground_truth",): "ground_truth", ("candidates", 0): "candidates", ("id",): "id",
        ("conversations", 0, "role"): "conversations[0].role",
        (*CONTENT, 1, "text"): "conversations[0].content[1]", CONTENT: "conversations[0].content",
    }.items():  # fmt: skip
        for name, half in (("high", "\\ud83d"), ("low", "\\ude00")):
            surrogate = with_json(a_record(), path, f'"a{half}"')
            yield RecordCase(f"lone {name} surrogate in {'.'.join(map(str, path))}", surrogate, field)
    yield RecordCase("a pair of surrogates", with_json(a_record(id="pair"), ("note",), '"\\ud83d\\ude00"'), None)
    yield RecordCase("lone surrogate in another key", with_json(a_record(id="lone"), ("note",), '"\\ud83d"'), None)
    yield RecordCase("escaped NUL in another key", with_json(a_record(id="nul"), ("note",), '"\\u0000"'), None)
    spaced = a_record(id="line\nbreak\u2028\x1b[31m")
    yield RecordCase("control characters in the id", as_line(spaced), None)
    yield RecordCase(
        "not ASCII", json.dumps(a_record(id="é\u2028 \u6f22 \U0001f600"), ensure_ascii=False).encode("utf-8"), None
    )
    whole = as_line(a_record(id="whole"))
    yield RecordCase("a carriage return between tokens", whole.replace(b", ", b",\r"), None)
    yield RecordCase("space around", b" \t" + as_line(a_record(id="space")) + b"  ", None)
    twice = as_line(a_record(id="key twice"))
    yield RecordCase("a key twice, the last one good", twice[:-1] + b', "task": "EmoSet-8"}', None)
    yield RecordCase("a key twice, the last one bad", twice[:-1] + b', "task": 7}', "task")
    for name, wrong in {
        "two objects": whole + whole, "a comma at its end": whole + b",", "a comma within": whole[:-1] + b",}",
        "single quotes": str(a_record()).encode(), "a comment": whole + b" // fine", "no JSON": b"nonsense",
        "a byte-order mark within": b"\xef\xbb\xbf" + whole, "a record in a list": b"[" + whole + b"]",
        "CSV": b"id,task,label", "HTML": b"<html><body>Log in</body></html>",
        "Python's None": whole.replace(b'"awe"', b"None"),
    }.items():  # fmt: skip
        yield RecordCase(name, wrong, "(line)")


def layouts():
    """Turns as other tools write them, and places for an image that are too many."""

    def asked(text, **changes):
        return as_line(a_record(conversations=[{"from": "human", "value": text}], **changes))

    yield RecordCase("LLaVA's turns", asked("<image>\nWhich?", image=IMAGE, id="LLaVA"), None)
    yield RecordCase("a list of images", asked("<image>Which?", images=[IMAGE], id="images"), None)
    yield RecordCase("two marks for one image", asked("<image>Which <image>?", image=IMAGE), "conversations")
    for token in ("<|image_pad|>", "<|video_pad|>"):
        record = a_record()
        record["conversations"][0]["content"][1]["text"] = f"Which {token}?"
        yield RecordCase(f"{token} in the question", as_line(record), "conversations[0].content[1]")
        record["conversations"][0]["content"].pop(1)
        record["conversations"][0]["content"][0]["text"] = f"<image>{token}"
        yield RecordCase(f"{token} beside the image", as_line(record), "conversations[0].content[0]")


def votes():
    """What people said about the image, as numbers per candidate."""
    votes, shares = "label_votes", "label_distribution"
    for name, more, field in (
        ("whole votes", {votes: {"awe": 15, "fear": 5}}, None),
        ("votes for some candidates", {votes: {"fear": 1}}, None),
        ("votes in another case", {votes: {"Awe": 3}}, None),
        ("shares as votes", {votes: {"awe": 0.2, "fear": 0.1}}, None),
        ("no votes", {votes: None, shares: None}, None),
        ("a distribution", {shares: {"awe": 0.333333, "fear": 0.666667}}, None),
        ("a distribution of two decimals", {shares: {"awe": 0.33, "fear": 0.66}}, None),
        ("a distribution of two decimals with a zero", {shares: {"awe": 0.99, "fear": 0.0}}, None),
        ("votes and their distribution", {votes: {"awe": 1, "fear": 2}, shares: {"awe": 0.33, "fear": 0.67}}, None),
        ("votes and another distribution", {votes: {"awe": 1, "fear": 2}, shares: {"awe": 0.4, "fear": 0.6}}, shares),
        ("a negative vote", {votes: {"awe": 3, "fear": -1}}, votes),
        ("a vote that is text", {votes: {"awe": "3"}}, votes),
        ("a vote that is true", {votes: {"awe": True}}, votes),
        ("a vote that is null", {votes: {"awe": None}}, votes),
        ("a vote that is no number", {votes: {"awe": float("nan")}}, votes),
        ("infinitely many votes", {votes: {"awe": float("inf")}}, votes),
        ("a vote beyond all floats", {votes: {"awe": 10**400}}, votes),
        ("votes that overflow", {votes: {"awe": 1.7e308, "fear": 1.7e308}}, votes),
        ("votes for another label", {votes: {"awe": 3, "joy": 1}}, votes),
        ("votes as a list", {votes: [15, 5]}, votes),
        ("zero votes", {votes: {"awe": 0, "fear": 0}}, votes),
        ("an empty object of votes", {votes: {}}, votes),
        ("a distribution that lacks a part", {shares: {"awe": 0.5, "fear": 0.4}}, shares),
        ("a distribution in percent", {shares: {"awe": 50, "fear": 50}}, shares),
        ("a negative probability", {shares: {"awe": 1.2, "fear": -0.2}}, shares),
        ("a distribution over another label", {shares: {"awe": 0.5, "joy": 0.5}}, shares),
        ("an empty distribution", {shares: {}}, shares),
    ):
        yield RecordCase(f"votes: {name}", as_line(a_record(id=name, **more)), field)


RECORD_CASES = [*wrong_types(), *missing(), *torn(), *sizes(), *text(), *layouts(), *votes()]


def write_cases(path, cases=RECORD_CASES):
    """All cases as one file: a good line first, a byte-order mark, and no line break at the end."""
    first = as_line(a_record(id="first", response="<answer>awe</answer>", case="first"))
    path.write_bytes(b"\xef\xbb\xbf" + b"\n".join([first, *(case.line for case in cases)]))
    return path

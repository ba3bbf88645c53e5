"""The GPU benchmark's arithmetic: sizes of the shapes, operations of a request, variants and their turns, the table."""

import math
from pathlib import Path

import pytest

from scripts.maintenance.benchmark.shapes import SHAPES, Shape
from scripts.maintenance.benchmark.summary import heading, joined, summaries, table
from scripts.maintenance.benchmark.variants import BARE, OURS, SINGLE, Place, Turn, Variant, parse_variant, turns_of


@pytest.mark.parametrize(("name", "parameters"), [("7b", 8_292_166_656), ("3b", 3_754_622_976), ("toy", 1_708_800)])
def test_a_shape_has_the_parameters_of_its_model(name, parameters):
    assert SHAPES[name].parameters == parameters


def test_operations_are_those_of_each_matrix_product_and_each_pair_of_positions():
    """Counted one by one on a small shape: a loop over layers, positions and what each of them looks at."""
    shape = Shape(
        hidden_size=8, n_layers=2, n_heads=2, n_key_value_heads=1, intermediate_size=12, vocabulary=30, tied=False,
        vision_depth=3, vision_size=4, vision_heads=2, vision_intermediate_size=6, full_attention_blocks=(1,),
        rope_sections=(1, 0, 1), rope_theta=1.0, max_positions=99, norm_epsilon=1e-6, window_patches=8,
    )  # fmt: skip
    prompt, image, output = 7, 3, 4
    matrices = {name: size for name, size in shape.tensors().items() if len(size) > 1}
    total = 0
    for name, size in matrices.items():
        weights = math.prod(size)
        if name.startswith("model.layers."):
            total += 2 * weights * (prompt + output - 1)
        elif name == "lm_head.weight":
            total += 2 * weights * output
        elif name.startswith("visual.merger."):
            total += 2 * weights * image
        elif name.startswith("visual."):
            total += 2 * weights * 4 * image
    for _layer in range(2):
        for position in range(prompt + output - 1):
            total += (position + 1) * 2 * 4 * 4  # heads, channels of each, scores and values
    for block in range(3):
        seen = 12 if block == 1 else 8
        total += 12 * seen * 4 * 4
    assert shape.operations(prompt, image, output) == total


def test_a_request_of_the_7b_shape_takes_13_and_a_half_teraflop():
    assert SHAPES["7b"].operations(563, 471, 250) / 1e12 == pytest.approx(13.51, abs=0.005)


def test_a_variants_settings_go_where_they_belong():
    variant = parse_variant("max_num_seqs=512+queue_ahead=0+async_scheduling=false+VLLM_X=1+seeds=false+kv=fp8")
    assert variant.settings == {"max_num_seqs": 512}
    assert variant.arguments == {"async_scheduling": False, "kv": "fp8"}
    assert variant.environment == {"VLLM_X": "1"}
    assert (variant.queue_ahead, variant.seeds, variant.log_probabilities) == (0, False, True)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "expected NAME=VALUE, got ''"),
        ("seeds", "expected NAME=VALUE, got 'seeds'"),
        ("seeds=0", "expected true or false for seeds, got '0'"),
        ("questions=0", "expected a whole number for questions, got '0'"),
        ("neighbours=1", "expected true or false for neighbours, got '1'"),
        ("engines=two", "expected a whole number for engines, got 'two'"),
    ],
)
def test_a_variant_that_cannot_be_read_is_named(text, said):
    with pytest.raises(ValueError, match=f"^variant '{text}': {said}"):
        parse_variant(text)


def test_every_turn_has_images_that_none_before_it_had_and_equal_work_one_bare_side():
    variants = [Variant(), parse_variant("queue_ahead=256"), parse_variant("questions=3")]
    turns = turns_of(variants, samples=12, rounds=2, warm_up=5, single=2)
    sides = [(turn.variant.name, turn.side) for turn in turns]
    one_round = [
        ("default", OURS), ("default", BARE), ("queue_ahead=256", OURS), ("questions=3", OURS), ("questions=3", BARE)
    ]  # fmt: skip
    assert sides == [("default", OURS), *one_round, *one_round, ("default", SINGLE)]
    images = [image for turn in turns for image in range(turn.first, turn.first + turn.n_images)]
    assert images == list(range(len(images)))
    assert [turn.n_images for turn in turns[1:6]] == [12, 12, 12, 4, 4]


def test_an_engine_gets_its_images_questions_image_by_image_or_task_by_task():
    second = Place(Path(), None, index=1, count=2)
    by_image, by_task = (Turn(parse_variant(f"questions=3{more}"), OURS, 4, 5) for more in ("", "+neighbours=false"))
    assert by_image.rows(second) == [15, 16, 17, 21, 22, 23]
    assert by_task.rows(second) == [15, 21, 16, 22, 17, 23]


def test_without_the_bare_side_only_ours_is_measured():
    turns = turns_of([Variant()], samples=12, rounds=2, warm_up=5, single=0, bare=False)
    assert [(turn.side, turn.first, turn.n_images) for turn in turns] == [(OURS, 0, 5), (OURS, 5, 12), (OURS, 17, 12)]


def turn_of(variant, side, seconds, requests=10):
    """A turn of the record, with 2 operations per request."""
    result = {
        "start": 5.0, "end": 5.0 + seconds, "requests": requests, "prompt_tokens": 1, "image_tokens": 1,
        "output_tokens": 20 * requests, "of_other_length": 0, "operations": 2 * requests, "adding_seconds": 0.1,
        "memory_mib": 2048,
    }  # fmt: skip
    return {"variant": variant, "side": side, **joined([result])}


def test_the_table_holds_medians_ratios_and_the_share_of_the_matrix_rate():
    engine = {
        "start_seconds": [60.4], "memory_mib": 2048,
        "turns": [
            turn_of("default", "warm-up", 100), turn_of("default", OURS, 1), turn_of("default", BARE, 1),
            turn_of("default", OURS, 2), turn_of("default", BARE, 1), turn_of("default", OURS, 4),
            turn_of("default", SINGLE, 2, requests=1), turn_of("questions=3", OURS, 1),
        ],
    }  # fmt: skip
    record = {"engines": [engine], "matrix_rate": 100.0}
    record["summary"] = summaries(record, [Variant(), parse_variant("questions=3")])
    rows = table(record).splitlines()
    assert rows[2] == "| default | 5.00 | 100 | 10.00 | 0.500 × | 10.0 × | 10.0 and 20.0 % | 2.0 GiB | 60 s |"
    assert rows[3] == "| questions=3 | 10.00 | 200 | – | – | 20.0 × | – | 2.0 GiB | 60 s |"
    known = {"what": "toy shape", "card": {"name": "H"}, "versions": {"torch": "2", "vllm": None}, "matrix_rate": 2e12}
    assert heading(known) == "toy shape; H; matrix product 2 TFLOP/s; torch 2"


def test_engines_that_work_at_the_same_time_count_from_the_first_start_to_the_last_end():
    one = {"start": 1.0, "end": 3.0, "requests": 4, "prompt_tokens": 8, "image_tokens": 4, "output_tokens": 40,
           "of_other_length": 0, "operations": 100, "adding_seconds": 1.0, "memory_mib": 7}  # fmt: skip
    both = joined([one, {**one, "start": 2.0, "end": 6.0, "memory_mib": None}])
    assert (both["seconds"], both["requests_per_second"], both["memory_mib"]) == (5.0, 1.6, 7)
    assert both["adding_ms_per_request"] == 250

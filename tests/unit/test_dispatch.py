"""Which worker gets which request: nothing lost, nothing twice, whoever dies and whenever."""

from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from inference.engines.base import Request
from inference.engines.ray_dispatch import MAX_DEATHS, Dispatch

IMAGE = Image.new("RGB", (28, 28))


def requests(n):
    return [Request(str(number), [], IMAGE) for number in range(n)]


def ids(taken):
    return [request.sample_id for request in taken]


def test_a_worker_gets_what_it_has_room_for_and_more_when_it_has_finished_some():
    dispatch = Dispatch(requests(5))
    assert ids(dispatch.take("a", capacity=3, at_most=2)) == ["0", "1"]
    assert ids(dispatch.take("a", capacity=3, at_most=2)) == ["2"]
    assert dispatch.take("a", capacity=3, at_most=2) == []
    assert dispatch.finish("a", "1")
    assert ids(dispatch.take("a", capacity=3, at_most=2)) == ["3"]
    assert dispatch.under_way("a") == 3


def test_an_output_counts_once_and_only_from_the_worker_that_has_the_request():
    dispatch = Dispatch(requests(1))
    dispatch.take("a", capacity=1, at_most=1)
    assert not dispatch.finish("b", "0")
    assert dispatch.finish("a", "0")
    assert not dispatch.finish("a", "0")


def test_requests_are_taken_from_the_source_only_when_a_worker_has_room():
    taken = []
    dispatch = Dispatch(taken.append(request) or request for request in requests(10))
    dispatch.take("a", capacity=4, at_most=16)
    assert len(taken) == 4


def test_none_means_not_yet_and_is_not_the_end():
    first, second = requests(2)
    dispatch = Dispatch([first, None, None, second])
    assert ids(dispatch.take("a", capacity=8, at_most=8)) == ["0"]
    assert dispatch.take("a", capacity=8, at_most=8) == []
    assert not dispatch.done
    assert ids(dispatch.take("a", capacity=8, at_most=8)) == ["1"]
    assert dispatch.finish("a", "0") and dispatch.finish("a", "1")
    assert dispatch.take("a", capacity=8, at_most=8) == []
    assert dispatch.done


def test_what_a_lost_worker_had_goes_to_others_after_everything_else():
    dispatch = Dispatch(requests(4))
    dispatch.take("a", capacity=2, at_most=2)
    assert dispatch.lose("a") == []
    assert ids(dispatch.take("b", capacity=16, at_most=16)) == ["2", "3"]
    for name in ("2", "3"):
        dispatch.finish("b", name)
    assert ids(dispatch.take("b", capacity=16, at_most=16)) == ["0", "1"]


def test_the_request_that_kills_its_workers_is_condemned_alone():
    """Whoever gets number 5 dies at once; the others' requests are finished one at a time."""
    dispatch = Dispatch(requests(40))
    workers, condemned, finished, deaths = 0, [], [], 0
    while not dispatch.done:
        taken = dispatch.take(workers, capacity=32, at_most=16)
        if "5" in ids(taken):
            condemned += ids(dispatch.lose(workers))
            deaths += 1
            workers += 1
            continue
        finished += ids(request for request in taken if dispatch.finish(workers, request.sample_id))
    assert condemned == ["5"]
    assert deaths == MAX_DEATHS
    assert sorted(finished, key=int) == [str(number) for number in range(40) if number != 5]


@given(
    n=st.integers(0, 60),
    poison=st.sets(st.integers(0, 60), max_size=3),
    steps=st.lists(st.tuples(st.integers(0, 2), st.sampled_from(["take", "finish", "die"])), max_size=80),
)
def test_every_request_ends_once_whatever_workers_do(n, poison, steps):
    """Up to three workers that take, finish and die in any order; then one healthy worker does the rest."""
    dispatch = Dispatch(requests(n))
    held = {}  # worker → ids, as the worker sees it
    ended = []
    for worker, step in [*steps, *[(worker, "die") for worker in range(3)]]:
        if step == "take":
            held.setdefault(worker, []).extend(ids(dispatch.take(worker, capacity=16, at_most=8)))
        elif step == "finish" and held.get(worker):
            name = held[worker].pop(0)
            assert dispatch.finish(worker, name)
            ended.append(name)
        elif step == "die":
            held.pop(worker, None)
            ended += ids(dispatch.lose(worker))
    for _ in range(10 * n + 10):
        taken = ids(dispatch.take("last", capacity=16, at_most=16))
        if poison & set(map(int, taken)):
            ended += ids(dispatch.lose("last"))
        else:
            ended += [name for name in taken if dispatch.finish("last", name)]
    assert dispatch.done
    assert sorted(ended, key=int) == [str(number) for number in range(n)]

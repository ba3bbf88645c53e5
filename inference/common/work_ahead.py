"""Work done in threads ahead of the one who takes it, as it is ready."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, wait
from typing import Any, TypeVar

T = TypeVar("T")
Submitted = tuple[T, Future[Any]]

# How long None is held back while something may be about to be ready: an engine that starts with a handful
# of requests, a millisecond before the others are there, makes many small steps instead of few large ones.
GRACE_SECONDS = 0.005


def ready_first(
    submitted: Iterable[Submitted[T] | None], ahead: int, in_order: bool = False
) -> Iterator[Submitted[T] | None]:
    """Each item with its future, which is done; None when none is ready now.

    The first ``ahead`` items are submitted with this call, before any is asked for.

    Args:
        submitted: submits the work of the next item when it is asked for it; None where it has none now.
        ahead: items that are submitted and not yet taken.
        in_order: deliver in the given order and wait for each; None never comes then, unless it is given.
    """
    source = iter(submitted)
    queue: deque[Submitted[T]] = deque()
    more = _fill(queue, source, ahead)
    return _deliver(queue, source, more, ahead, in_order)


def _fill(queue: deque[Submitted[T]], source: Iterator[Submitted[T] | None], ahead: int) -> bool:
    """Submit until the queue is full or nothing comes now; whether anything may come later."""
    while len(queue) < ahead:
        try:
            item = next(source)
        except StopIteration:
            return False
        if item is None:
            break
        queue.append(item)
    return True


def _deliver(
    queue: deque[Submitted[T]], source: Iterator[Submitted[T] | None], more: bool, ahead: int, in_order: bool
) -> Iterator[Submitted[T] | None]:
    waited = False
    while queue or more:
        place = 0 if in_order and queue else next((i for i, (_, future) in enumerate(queue) if future.done()), None)
        if place is None:
            if waited or not queue:
                yield None
            else:  # once after each item, so that long waits cost nothing
                wait([future for _, future in queue], GRACE_SECONDS, FIRST_COMPLETED)
                waited = True
        else:
            waited = False
            item = queue[place]
            del queue[place]
            if in_order:
                wait([item[1]])
            yield item
        more = more and _fill(queue, source, ahead)

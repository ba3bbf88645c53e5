"""Which worker gets which request, when workers can die: the bookkeeping of ``engine_ray``, without Ray.

    dispatch = Dispatch(requests)
    batch = dispatch.take(worker, capacity=72, at_most=16)    # to be sent to the worker
    dispatch.finish(worker, output.sample_id)                 # an output came back
    condemned = dispatch.lose(worker)                         # the worker is gone; others get its requests

Every request is in one place: not yet taken, with one worker, or waiting for another one after
its worker was lost. So none is lost and none is done twice.

A request may itself be what kills its workers. What a dead worker had is suspect. Suspects wait
until everything else is taken, then go in small groups, the second time each alone with its
worker. The third death ends it: the request becomes an error, and those that were only its
neighbours have gone through.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Hashable, Iterable

from inference.engines.base import Request

MAX_DEATHS = 3  # of workers that had the request; the last time it was alone
GROUP = 8  # suspects of one death are sent in groups of an eighth of what a worker takes
END = object()


class Dispatch:
    """Requests on their way through workers.

    Args:
        requests: taken lazily, only when a worker has room; ``None`` among them says that
            nothing is ready yet.
    """

    def __init__(self, requests: Iterable[Request | None]):
        self._source = iter(requests)
        self._exhausted = False
        self._suspects: deque[Request] = deque()
        self._deaths: Counter[str] = Counter()
        self._under_way: dict[Hashable, dict[str, Request]] = {}

    @property
    def done(self) -> bool:
        """Whether every request has been finished or condemned."""
        return self._exhausted and not self._suspects and not any(self._under_way.values())

    def under_way(self, worker: Hashable) -> int:
        """How many requests the worker has."""
        return len(self._under_way.get(worker, ()))

    def take(self, worker: Hashable, capacity: int, at_most: int) -> list[Request]:
        """Requests for the worker to start now, perhaps none.

        Args:
            capacity: how many it may have in all (fewer, when one of them is suspect).
            at_most: how many it gets in this call.
        """
        mine = self._under_way.setdefault(worker, {})
        room = min([capacity, *(self._together(sample_id, capacity) for sample_id in mine)])
        taken: list[Request] = []
        while len(taken) < at_most and len(mine) < room:
            request = self._next_fresh()
            if request is None:
                request = self._next_suspect(capacity, len(mine)) if self._exhausted else None
                if request is None:
                    break
                room = min(room, self._together(request.sample_id, capacity))
            mine[request.sample_id] = request
            taken.append(request)
        return taken

    def finish(self, worker: Hashable, sample_id: str) -> bool:
        """Note that an output came; False when it is not awaited from this worker."""
        return self._under_way.get(worker, {}).pop(sample_id, None) is not None

    def lose(self, worker: Hashable) -> list[Request]:
        """The worker is gone: its requests go to others, but for those that are returned: they are condemned."""
        condemned = []
        for sample_id, request in self._under_way.pop(worker, {}).items():
            self._deaths[sample_id] += 1
            (condemned if self._deaths[sample_id] >= MAX_DEATHS else self._suspects).append(request)
        return condemned

    def _together(self, sample_id: str, capacity: int) -> int:
        """How many requests may be with a worker that has this one."""
        deaths = self._deaths[sample_id]
        return capacity if deaths == 0 else max(1, capacity // GROUP) if deaths == 1 else 1

    def _next_fresh(self) -> Request | None:
        if self._exhausted:
            return None
        request = next(self._source, END)
        if request is END:
            self._exhausted = True
            return None
        return request

    def _next_suspect(self, capacity: int, beside: int) -> Request | None:
        """The first suspect that may go to a worker that has ``beside`` requests."""
        for place, request in enumerate(self._suspects):
            if beside < self._together(request.sample_id, capacity):
                del self._suspects[place]
                return request
        return None

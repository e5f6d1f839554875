"""How a request of any kind comes to a worker: quarantine, lease, stream."""

from contextlib import AbstractAsyncContextManager, AsyncExitStack
from typing import Protocol

from unified_llm.domain.errors import RequestTimedOut
from unified_llm.domain.ports import Lease, Leases, Timers
from unified_llm.domain.units import Instant, Seconds, later
from unified_llm.fleet.generation_stream import (
    Asked,
    GenerationStream,
    Order,
    WorkerLeavingError,
)
from unified_llm.fleet.poison import Quarantine


class Streams(Protocol):
    """Where answers come from; Fleet is one."""

    def open_stream(
        self, lease: Lease, order: Order
    ) -> AbstractAsyncContextManager[GenerationStream]:
        """Have `order` answered. Raises WorkerLeavingError, on the call or on entering."""

    async def left(self, lease: Lease) -> None:
        """Wait until the scheduler knows that the lease's worker has ended."""


class Dispatch:
    """Opens streams. queue: longest wait for a lease."""

    def __init__(
        self,
        leases: Leases,
        streams: Streams,
        quarantine: Quarantine,
        timers: Timers,
        *,
        queue: Seconds = Seconds(30.0),
    ) -> None:
        self._leases = leases
        self._streams = streams
        self._quarantine = quarantine
        self._timers = timers
        self._queue = queue

    async def open_stream(
        self,
        stack: AsyncExitStack,
        request: Asked,
        principal: str,
        *,
        queue: Seconds | None = None,
    ) -> tuple[GenerationStream, Instant]:
        """A lease and a stream of it, both put on `stack`, and when the lease was granted.

        A worker that is found to be leaving has taken nothing, so the request waits for the next
        one, as long as it may wait in the queue at all. queue: longest wait for a lease; None for
        the usual one. Raises UnifiedLlmError.
        """
        patience = self._queue if queue is None else queue
        order = Order(principal, request, self._quarantine.fingerprint(request))
        # Asked before, so that no model is loaded for a request that will be refused, and after,
        # as it may have been charged while it waited.
        self._ensure_allowed(order)
        give_up_at = later(self._timers.now(), patience)
        while True:
            async with AsyncExitStack() as attempt:
                timeout = Seconds(max(0.0, give_up_at - self._timers.now()))
                lease = await attempt.enter_async_context(
                    self._leases.lease(request.model, principal, timeout=timeout)
                )
                leased_at = self._timers.now()
                self._ensure_allowed(order)
                try:
                    stream = await attempt.enter_async_context(
                        self._streams.open_stream(lease, order)
                    )
                except WorkerLeavingError:
                    await self._wait_until_left(lease, give_up_at, patience)
                    continue
                await stack.enter_async_context(attempt.pop_all())
                return stream, leased_at

    async def _wait_until_left(self, lease: Lease, give_up_at: Instant, patience: Seconds) -> None:
        try:
            async with self._timers.timeout_at(give_up_at):
                await self._streams.left(lease)
        except TimeoutError as error:
            raise RequestTimedOut(
                f"{lease.model} had no worker for {patience:g} s.",
                hint="Its last one does not end; see the log.",
            ) from error

    def _ensure_allowed(self, order: Order) -> None:
        self._quarantine.ensure_allowed(order.fingerprint, self._timers.now())

"""A bounded load test: so many requests, so many at once."""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

from export._connections import ServingError


@dataclass
class Load:
    """What a load test has seen: seconds it took, seconds of each answered request, and what the others met."""

    seconds: float = 0.0
    latencies: list[float] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        import numpy as np

        answered, failed = len(self.latencies), len(self.failures)
        text = f"{answered + failed} requests in {self.seconds:.1f} s: {failed} failed"
        if not answered:
            return text
        p50, p95, p99 = 1000 * np.percentile(self.latencies, (50, 95, 99))
        rate = answered / self.seconds
        return f"{text}, {rate:.0f} answered a second, p50 {p50:.1f} ms, p95 {p95:.1f} ms, p99 {p99:.1f} ms"


def load(connect: Callable[[], Callable[[int], object]], requests: int, concurrency: int, seconds: float) -> Load:
    """Sends requests from several threads, each the next one as soon as its last is answered.

    The first request of each connection opens it and is not counted.

    Args:
        connect: returns what sends request number i; called once a thread.
        requests: how many to send.
        concurrency: how many at once.
        seconds: when to stop, where not all are sent by then.

    Returns:
        What was seen.

    Raises:
        ServingError: where the uncounted requests fail.
    """
    seen, numbers = Load(), iter(range(requests))  # one iterator for all: a thread takes the next number
    with ThreadPoolExecutor(concurrency) as pool:
        senders = [connect() for _ in range(concurrency)]
        list(pool.map(lambda send: send(0), senders))
        start = time.perf_counter()

        def work(send: Callable[[int], object]) -> None:
            for number in numbers:
                begun = time.perf_counter()
                if begun - start > seconds:
                    return
                try:
                    send(number)
                except ServingError as error:
                    seen.failures.append(str(error))
                else:
                    seen.latencies.append(time.perf_counter() - begun)

        list(pool.map(work, senders))
        seen.seconds = time.perf_counter() - start
    return seen

"""A bounded load test: so many requests, so many at once."""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

from export.connections import ServingError


@dataclass
class Load:
    """What a load test has seen: seconds it took, seconds of each answered request, and what the others met."""

    seconds: float = 0.0
    latencies: list[float] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)

    def milliseconds(self, percent: float) -> float:
        """Returns the time within which so many percent of the answers came."""
        import numpy as np

        return 1000 * float(np.percentile(self.latencies, percent))

    @property
    def rate(self) -> float:
        """Answers in a second."""
        return len(self.latencies) / self.seconds

    def __str__(self) -> str:
        answered, failed = len(self.latencies), len(self.failures)
        text = f"{answered + failed} requests in {self.seconds:.1f} s: {failed} failed"
        if not answered:
            return text
        spread = ", ".join(f"p{percent} {self.milliseconds(percent):.1f} ms" for percent in (50, 95, 99))
        return f"{text}, {self.rate:.0f} answered a second, {spread}"


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

"""Measures the speed of a server with a bounded number of requests and of concurrent requests."""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import numpy as np

from tfrobust_base.connections import ServingError


@dataclass
class Load:
    """The result of a load test: its duration, the latencies of the answers and the messages of the failures."""

    seconds: float = 0.0
    latencies: list[float] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)

    def milliseconds(self, percent: float) -> float:
        """Returns a percentile of the latencies, in milliseconds."""
        return 1000 * float(np.percentile(self.latencies, percent))

    @property
    def rate(self) -> float:
        """The number of answers per second."""
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

    The first request of each connection opens it and is not counted; its failure is a `ServingError`.

    Args:
        connect: returns a function that sends request number i; called once for each thread.
        requests: number of requests.
        concurrency: number of concurrent requests.
        seconds: time after which no more requests are sent.
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

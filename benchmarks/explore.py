"""Measure how fast the explorer answers: pictures in a second for a slider that moves, and the time of one.

OMP_NUM_THREADS=1 python -m benchmarks.explore RUN [SECONDS]
"""

from __future__ import annotations

import http.client
import json
import statistics
import sys
import time
from contextlib import closing
from http import HTTPStatus
from pathlib import Path

from gancore.catalog.catalog import Catalog
from gancore.explore.model import Explorer
from gancore.explore.repeat import Invocation
from gancore.explore.server import Server
from gancore.utils.paths import data_root

PNG = b"\x89PNG"


def main(run: str, seconds: float = 10) -> None:
    """Move the slider of a direction for some seconds, each time after the picture has arrived."""
    explorer = Explorer(Invocation(Path(run), device="cpu"), Catalog.installed(), data_root())
    with Server(explorer) as server, closing(http.client.HTTPConnection("127.0.0.1", server.port)) as connection:
        path = f"/{server.address.split('/')[3]}"
        headers = {"Origin": f"http://127.0.0.1:{server.port}"}
        point, times, size = explorer.describe()["point"], list[float](), 0
        begin = time.perf_counter()
        while (start := time.perf_counter()) < begin + seconds or len(times) < 2:
            moved = {**point, "moves": {"1": (len(times) % 60 - 30) / 10}}  # type: ignore[dict-item]  # a dict
            connection.request("POST", f"{path}/picture", json.dumps({"point": moved}), headers)
            answer = connection.getresponse()
            content = answer.read()
            if answer.status != HTTPStatus.OK or not content.startswith(PNG):
                raise SystemExit(f"there is no picture: {answer.status} {content[:200]!r}")
            size = len(content)
            times.append(time.perf_counter() - start)
    slowest = statistics.quantiles(times, n=20)[-1]
    shape = "x".join(map(str, explorer.newest.shape))
    print(f"{run}: samples {shape}, PNG {size:,} bytes")
    rate, median = len(times) / sum(times), statistics.median(times)
    print(f"{rate:,.0f} pictures a second; {1000 * median:.1f} ms each, 95 % below {1000 * slowest:.1f} ms")


if __name__ == "__main__":
    main(sys.argv[1], *map(float, sys.argv[2:3]))

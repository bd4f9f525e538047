"""Steps of the character model on one process, or on those that torchrun starts, one thread each.

python benchmarks/bench_distributed.py
torchrun --nproc-per-node 2 benchmarks/bench_distributed.py

Prints the least processor time of a step, in which the machine's other work has no part, and the shortest
exchange of gradients between the processes.
"""

from __future__ import annotations

import argparse
import time

import loopgrad as lg
from loopgrad.examples.corpora import bundled
from loopgrad.examples.distributed import Workers, is_launched
from loopgrad.examples.text import Settings, TextJob
from loopgrad.examples.workers import Alone


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=100)
    parser.add_argument("--batch", type=int, default=32)
    options = parser.parse_args()
    lg.set_num_threads(1)
    group = Workers() if is_launched() else Alone()
    job = TextJob(bundled(), Settings(batch=options.batch), group)
    computed, exchanged = [], []
    for number in range(options.steps):
        used = time.thread_time()
        job.step(number)
        computed.append(time.thread_time() - used)
        begun = time.perf_counter()
        group.mean(job.optimiser.w, 0.0, 1)
        exchanged.append(time.perf_counter() - begun)
    step, exchange = min(computed), min(exchanged)
    if group.rank == 0:
        print(
            f"{group.size} processes, {options.batch} rows: a step computes {step * 1e3:.1f} ms, "
            f"an exchange takes {exchange * 1e3:.1f} ms"
        )
    if isinstance(group, Workers):
        group.close()


if __name__ == "__main__":
    main()

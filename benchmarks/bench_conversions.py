"""The conversions of docs/from-pytorch.md, timed: PyTorch eager, torch.compile, and the same as loops.

    python benchmarks/bench_conversions.py [cell] [--rounds 20] [--threads 2] [--no-compile]

The layers are those of the page, whose Python blocks are run here. Forward and backward in float32,
contenders in turn, the least over rounds, and its ratio to ours. torch.compile needs a C++ compiler; the
first call of each contender is shown too.
"""

from __future__ import annotations

import argparse
import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

import loopgrad as lg

PAGE = Path(__file__).parents[1] / "docs" / "from-pytorch.md"
BLOCK = re.compile(r"^```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def layers() -> dict[str, Any]:
    """What the page defines."""
    names: dict[str, Any] = {"torch": torch, "F": torch.nn.functional, "lg": lg}
    for block in BLOCK.findall(PAGE.read_text(encoding="utf-8")):
        if ">>>" not in block:
            exec(block, names)
    return names


def cell(T: int, B: int, J: int, K: int) -> list[Any]:
    shapes = [(J, J), (J, K), (J,)] * 2
    weights = [torch.randn(*shape) / shape[-1] ** 0.5 for shape in shapes]
    return [torch.randn(T, B, K), torch.randn(B, J), *weights]


CASES: dict[str, tuple[str, Callable[[], list[Any]]]] = {
    "normalisation (16,64,1024)": ("divisive", lambda: [torch.randn(16, 64, 1024), torch.rand(64)]),
    "cell over time (16,32,256,128)": ("cell_over_time", lambda: cell(16, 32, 256, 128)),
    "cell over time (128,32,256,128)": ("cell_over_time", lambda: cell(128, 32, 256, 128)),
    "loss (1024,64)": ("crps", lambda: [torch.randn(1024, 64), torch.randn(1024)]),
}


def timed(call: Callable[[], Any]) -> float:
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def step(function: Callable[..., Any], tensors: list[Any]) -> Callable[[], None]:
    leaves = [t.detach().clone().requires_grad_() for t in tensors]

    def call() -> None:
        results = function(*leaves)
        torch.autograd.grad(results, leaves, torch.ones_like(results))

    return call


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("words", nargs="*", help="cases whose names hold one of them")
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--no-compile", action="store_true")
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    names = layers()
    print(f"forward and backward, float32, {given.threads} threads")
    print(f"  {'':14} {'ms':>9} {'ratio':>7} {'first s':>7}")
    for title, (name, draw) in CASES.items():
        if given.words and not any(word in title for word in given.words):
            continue
        torch.manual_seed(0)
        tensors = draw()
        contenders = {"loops": names[name], "eager": names[f"{name}_in_pytorch"]}
        if not given.no_compile and not title.startswith("cell over time (128"):  # it unrolls
            contenders["torch.compile"] = torch.compile(contenders["eager"])
        steps = {who: step(function, tensors) for who, function in contenders.items()}
        first = {who: timed(call) for who, call in steps.items()}
        for call in steps.values():
            call()
        seconds: dict[str, list[float]] = {who: [] for who in steps}
        for _ in range(given.rounds):
            for who, call in steps.items():
                seconds[who].append(timed(call))
        print(title)
        for who, taken in seconds.items():
            ratio = min(taken) / min(seconds["loops"])
            print(f"  {who:14} {min(taken) * 1e3:9.2f} {ratio:7.1f} {first[who]:7.1f}")


if __name__ == "__main__":
    main()

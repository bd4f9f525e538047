"""Two processes, half of a batch each: the gradients are those of one process on all of it."""

from __future__ import annotations

from typing import Any

import torch
from torch import distributed
from torch.distributed.fsdp import fully_shard
from torch.nn.parallel import DistributedDataParallel

import loopgrad as lg


def model() -> torch.nn.Sequential:
    torch.manual_seed(0)
    return torch.nn.Sequential(
        lg.torch.Module(lg.lib.affine, I=6, J=8),
        lg.torch.Module(lg.lib.tanh_layer),
        lg.torch.Module(lg.lib.layer_norm, J=8),
        lg.torch.Module(lg.lib.affine, I=8, J=3),
    )


def main() -> None:
    distributed.init_process_group("gloo")
    rank = distributed.get_rank()
    torch.manual_seed(1)
    x, y = torch.randn(6, 6), torch.randn(6, 3)

    def train(network: torch.nn.Module, part: slice) -> list[torch.nn.Parameter]:
        (network(x[part]) - y[part]).square().mean().backward()
        return list(network.parameters())

    wanted = [p.grad for p in train(model(), slice(None))]
    mine = slice(3 * rank, 3 * rank + 3)
    for p, w in zip(train(DistributedDataParallel(model()), mine), wanted, strict=True):
        torch.testing.assert_close(p.grad, w)
    if hasattr(torch.cpu.Stream, "record_event"):  # without it, as in 2.6, none on a CPU is sharded
        check_sharded(train, mine, wanted)
    distributed.barrier()
    if rank == 0:
        print("the gradients are the same")
    distributed.destroy_process_group()


def check_sharded(train: Any, mine: slice, wanted: Any) -> None:
    sharded = model()
    for layer in sharded:
        if any(True for _ in layer.parameters()):
            fully_shard(layer)
    fully_shard(sharded)
    for p, w in zip(train(sharded, mine), wanted, strict=True):
        torch.testing.assert_close(p.grad.full_tensor(), w)


if __name__ == "__main__":
    main()

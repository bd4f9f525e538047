"""Large results: memory of PyTorch's, that is used again when nobody holds it."""

from __future__ import annotations

import gc
import importlib
import io
import threading
from collections.abc import Iterator
from typing import Any

import pytest

import loopgrad as lg
from tests.interop.torch.cases import seeded

torch = pytest.importorskip("torch")
storages = importlib.import_module("loopgrad.interop.torch.storages")

TWICE = lg.torch.function("twice(x[N]) -> y[N]:\n    y[n] = 2 * x[n]")
N = 150_000  # float64: above a megabyte
pytestmark = pytest.mark.skipif(
    storages._holders is None, reason="this PyTorch does not count who holds a storage"
)


@pytest.fixture(autouse=True)
def empty_handed() -> Iterator[None]:
    gc.collect()
    storages.forget()
    yield
    storages.forget()


def twice(seed: int = 0) -> Any:
    return TWICE(seeded(N, seed=seed))


def test_a_result_is_used_again_once_it_has_died() -> None:
    y = twice()
    address = y.data_ptr()
    del y
    again = twice(1)
    assert again.data_ptr() == address
    torch.testing.assert_close(again, 2 * seeded(N, seed=1))
    assert again.untyped_storage().nbytes() == 8 * N and again.storage_offset() == 0


HOLDERS = {
    "the tensor": lambda y: y,
    "a view": lambda y: y[7:9],
    "a detached one": lambda y: y.detach(),
    "its storage": lambda y: y.untyped_storage(),
    "an array": lambda y: y.numpy(),
    "a capsule": lambda y: y.__dlpack__(),
    "another tensor set to it": lambda y: torch.empty(0, dtype=y.dtype).set_(y),
    "a parameter": lambda y: torch.nn.Parameter(y),
    "a memoryview": lambda y: memoryview(y.numpy()),
    "a graph": lambda y: (torch.ones((), dtype=y.dtype, requires_grad=True) * y).grad_fn,
}


@pytest.mark.parametrize("holder", HOLDERS)
def test_not_while_somebody_holds_it(holder: str) -> None:
    y = twice()
    address = y.data_ptr()
    held = HOLDERS[holder](y)
    del y
    others = [twice(seed) for seed in (1, 2)]
    assert address not in [other.data_ptr() for other in others]
    assert held is not None


def test_it_can_be_resized_and_is_then_not_used_again() -> None:
    for size in (0, 16 * N):
        y = twice()
        assert y.untyped_storage().resizable()
        y.untyped_storage().resize_(size)
        del y
        torch.testing.assert_close(twice(1), 2 * seeded(N, seed=1))
    y = twice()
    y.resize_(2 * N)
    torch.testing.assert_close(y[:N], 2 * seeded(N))


def test_it_can_be_shared_and_is_then_not_used_again() -> None:
    y = twice().share_memory_()
    address = y.data_ptr()
    assert y.is_shared()
    torch.testing.assert_close(y, 2 * seeded(N))
    del y
    again = twice(1)
    assert not again.is_shared() and again.data_ptr() != address


def test_what_numpy_has_seen_is_not_used_again() -> None:
    """As it cannot be resized any more."""
    twice().numpy()
    assert twice(1).untyped_storage().resizable()


def test_inputs_and_results_stay_resizable() -> None:
    x = seeded(N).requires_grad_()
    y = TWICE(x)
    y.backward(seeded(N, seed=1))
    for tensor in (x, y, x.grad):
        assert tensor.untyped_storage().resizable()


def test_it_can_be_saved_as_large_as_it_is() -> None:
    twice()
    y = twice(1)
    file = io.BytesIO()
    torch.save(y, file)
    assert file.tell() < 8 * N + 10_000
    file.seek(0)
    torch.testing.assert_close(torch.load(file), y)


def test_given_up_with_the_other_memory() -> None:
    y = twice()
    lg.trim_memory()
    assert not storages._known
    torch.testing.assert_close(y, 2 * seeded(N))


def test_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(storages.recycling, "limit", lambda: 20 * N)
    held = [twice(seed) for seed in range(5)]
    assert sum(map(len, storages._known.values())) <= 2
    for seed, y in enumerate(held):
        torch.testing.assert_close(y, 2 * seeded(N, seed=seed))


def test_what_was_idle_for_long_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    twice()
    monkeypatch.setattr(storages.recycling, "IDLE_SECONDS", -1.0)
    TWICE(seeded(2 * N))
    assert not storages._known[8 * N]


def test_many_threads_never_share_one() -> None:
    failures: list[int] = []

    def work(seed: int) -> None:
        x = seeded(N, seed=seed)
        wanted = 2 * x
        for _ in range(20):
            y = TWICE(x)
            if not torch.equal(y, wanted):
                failures.append(seed)

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures

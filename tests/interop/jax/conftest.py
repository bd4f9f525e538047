"""Two devices, whatever the machine has; numbers of 64 bits, unless a test says otherwise."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

os.environ["XLA_FLAGS"] = (
    f"{os.environ.get('XLA_FLAGS', '')} --xla_force_host_platform_device_count=2"
)


@pytest.fixture(autouse=True)
def x64(request: pytest.FixtureRequest) -> Iterator[None]:
    jax = pytest.importorskip("jax")
    before = jax.config.jax_enable_x64
    jax.config.update("jax_enable_x64", request.node.get_closest_marker("x32") is None)
    yield
    jax.config.update("jax_enable_x64", before)


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "x32: JAX as it is by default, with numbers of 32 bits")

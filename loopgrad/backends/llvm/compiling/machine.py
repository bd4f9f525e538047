"""The processor that this process runs on, as LLVM is told of it."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Any

import llvmlite
import llvmlite.binding as llvm


@dataclass(frozen=True)
class Machine:
    cpu: str
    features: str
    has_fma: bool
    wide_vectors: bool
    vector_bytes: int = 16
    vector_registers: int = 16
    looks_up: bool = False  # Has it an instruction for `Lanes.looked_up`?

    def create(self, level: int) -> Any:
        """LLVM's target machine; `level` is how well code is generated. Made anew for each module."""
        target = llvm.Target.from_default_triple()
        # Features beside the name: virtual machines misname their processors.
        return target.create_target_machine(
            cpu=self.cpu, features=self.features, opt=level, jit=True
        )

    def loader(self) -> Any:
        """The same for code that is there already: nothing about the processor has to be known."""
        return llvm.Target.from_default_triple().create_target_machine(opt=0, jit=True)

    @property
    def attributes(self) -> str:
        """Of every function."""
        return "nounwind" + (' "prefer-vector-width"="512"' if self.wide_vectors else "")


@cache
def this_machine() -> Machine:
    """The machine; LLVM is made ready for it when first asked."""
    if tuple(map(int, llvmlite.__version__.split(".")[:2])) < (0, 45):
        llvm.initialize()  # later versions do it themselves, and refuse to be asked
    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()
    try:
        features = llvm.get_host_cpu_features()
    except RuntimeError:  # not known for this kind of processor
        features = llvm.FeatureMap()
    arm = llvm.get_default_triple().partition("-")[0] in ("aarch64", "arm64")
    wide = bool(features.get("avx512f"))
    return Machine(
        cpu=llvm.get_host_cpu_name(),
        features=features.flatten(),
        has_fma=arm or bool(features.get("fma")),
        wide_vectors=wide,
        vector_bytes=64 if wide else 32 if features.get("avx") else 16,
        vector_registers=32 if wide or arm else 16,
        looks_up=bool(features.get("avx2")),
    )

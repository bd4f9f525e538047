"""Functions that compiled modules call and do not define: who makes each known to LLVM.

A module's text says `declare void @loopgrad_...(...)`. Before its code is loaded, the provider of that
name runs: a module of this package with a function `provide()`, which gives LLVM the addresses, as
`engine.library` does for code of ours.
"""

from __future__ import annotations

import importlib
import re
from collections.abc import Iterable

from loopgrad.backends.llvm.writing.c_functions import C_PREFIX

# What a name begins with -> the module whose `provide()` makes all such names known, and what that is given.
PROVIDERS = {
    C_PREFIX: "loopgrad.backends.llvm.compiling.c_library",
    "loopgrad_pack_f32": "loopgrad.backends.llvm.products.library float product",
    "loopgrad_dots_f32": "loopgrad.backends.llvm.products.library float product",
    "loopgrad_pack_at_f32": "loopgrad.backends.llvm.products.library float scattered",
    "loopgrad_product_at_f32": "loopgrad.backends.llvm.products.library float scattered",
    "loopgrad_product_turned_f32": "loopgrad.backends.llvm.products.library float exchanged",
    "loopgrad_put_turned_f32": "loopgrad.backends.llvm.products.library float exchanged",
    "loopgrad_boxes_f32": "loopgrad.backends.llvm.products.library float bordered",
    "loopgrad_product_boxes_f32": "loopgrad.backends.llvm.products.library float exchanged",
    "loopgrad_product_f32": "loopgrad.backends.llvm.products.library float product",
    "loopgrad_pack_f64": "loopgrad.backends.llvm.products.library double product",
    "loopgrad_dots_f64": "loopgrad.backends.llvm.products.library double product",
    "loopgrad_pack_at_f64": "loopgrad.backends.llvm.products.library double scattered",
    "loopgrad_product_at_f64": "loopgrad.backends.llvm.products.library double scattered",
    "loopgrad_product_turned_f64": "loopgrad.backends.llvm.products.library double exchanged",
    "loopgrad_put_turned_f64": "loopgrad.backends.llvm.products.library double exchanged",
    "loopgrad_boxes_f64": "loopgrad.backends.llvm.products.library double bordered",
    "loopgrad_product_boxes_f64": "loopgrad.backends.llvm.products.library double exchanged",
    "loopgrad_product_f64": "loopgrad.backends.llvm.products.library double product",
    "loopgrad_system_": "loopgrad.backends.llvm.compiling.system",
    "loopgrad_pool": "loopgrad.backends.llvm.threading.pool",
    "loopgrad_parallel": "loopgrad.backends.llvm.threading.threads",
    "loopgrad_num_threads": "loopgrad.backends.llvm.threading.threads",
    "loopgrad_python_": "loopgrad.backends.llvm.calling.python_api",
}

_provided: set[str] = set()

_DECLARED = re.compile(
    r"^(?:declare [^@\n]*|(?=@[\w.$]+ = external global ))@([\w.$]+)", re.MULTILINE
)


def declared(text: str) -> tuple[str, ...]:
    """The functions and variables that a module's text declares, but for LLVM's own."""
    return tuple(n for n in dict.fromkeys(_DECLARED.findall(text)) if not n.startswith("llvm."))


def require(names: Iterable[str]) -> None:
    """Makes the names known to LLVM. Raises LookupError for one that nobody provides."""
    wanted: dict[str, list[str]] = {}  # by modules, what they are given
    for name in names:
        provider = _provider_of(name)
        if provider is None:
            raise LookupError(f"no part of loopgrad provides `{name}` to compiled code")
        if provider not in _provided:
            module, _, given = provider.partition(" ")
            if given not in wanted.setdefault(module, []):
                wanted[module].append(given)
    for module, each in wanted.items():
        importlib.import_module(module).provide(*filter(None, each))
        _provided.update(f"{module} {given}".strip() for given in each)


def begin(names: Iterable[str]) -> None:
    """Begins what `require` will ask for, where that takes long: providers that are given something have a
    `begin` too."""
    for provider in dict.fromkeys(map(_provider_of, names)):
        module, *given = provider.split() if provider else [""]
        if given:
            importlib.import_module(module).begin(*given)


def _provider_of(name: str) -> str | None:
    return next((p for start, p in PROVIDERS.items() if name.startswith(start)), None)

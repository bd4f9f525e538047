"""Program -> one Python function that needs NumPy alone: its literal loops, to step through.

    def softmax(s):
        B, J = s.shape
        Z = np.zeros((B,), dtype)
        # for b, j:  Z[b] += exp(s[b,j])
        for b in range(B):
            for j in range(J):
                Z[b] += np.exp(s[b, j])

It computes what the reference interpreter computes. What the analysis proved is not checked again;
what it left to run time (subscripts from data, completeness) is.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from loopgrad.analysis.facts import Facts, Safety, TensorFacts
from loopgrad.ir import operations
from loopgrad.ir.nodes import (
    Accumulate,
    Block,
    Default,
    Expression,
    Extent,
    Input,
    Number,
    Program,
    Range,
    Reduction,
    Statement,
)
from loopgrad.ir.operations import ElementType
from loopgrad.ir.printer import show_one, show_statement
from loopgrad.ir.walk import all_statements, reads, reductions_of, statement_expressions
from loopgrad.printers.identifiers import Identifiers
from loopgrad.printers.python_expressions import (
    HELPERS,
    Scope,
    element,
    expression,
    integer,
    value_for,
)

INDENT = "    "
DEEPEST_NEST = 17  # Python refuses more than 20 nested blocks

_IDENTITY = {
    Reduction.MULTIPLY: "1",
    Reduction.MAXIMUM: "-np.inf",
    Reduction.MINIMUM: "np.inf",
}
_INTEGER_IDENTITY = {
    Reduction.MULTIPLY: "1",
    Reduction.MAXIMUM: "np.iinfo(np.int64).min",
    Reduction.MINIMUM: "np.iinfo(np.int64).max",
}


def python(program: Program) -> str:
    """The source text of a function named after the program.

    Its arguments are the inputs in header order, then, by keyword, sizes and constants (with their
    defaults); it returns the result, or a tuple of them. Names become identifiers, as its docstring
    says. Raises ProgramError where the program breaks a rule, ValueError where it nests too deep.

    >>> import loopgrad as lg
    >>> print(lg.program("double(x[N]) -> y[N]:\\n    for n:  y[n] += 2 * x[n]").to("python"))
    import numpy as np
    <BLANKLINE>
    <BLANKLINE>
    @np.errstate(all="ignore")
    def double(x):
        \"\"\"
        double(x[N]) -> y[N]:
            for n:  y[n] += 2 * x[n]
        \"\"\"
        x = np.asarray(x)
        dtype = np.result_type(x)
        if dtype.kind != "f":
            dtype = np.dtype(np.float64)
        x = np.asarray(x, dtype)
        (N,) = x.shape
    <BLANKLINE>
        # for n:  y[n] += 2 * x[n]
        y = np.zeros((N,), dtype)
        for n in range(N):
            y[n] += 2 * x[n]
        return y
    """
    from loopgrad.analysis.infer import infer
    from loopgrad.analysis.validity import validate

    return _Function(program, program.unfold(), infer(program), validate(program)).source()


@dataclass
class _Function:
    shown: Program
    loops: Program
    facts: Facts
    safety: Safety

    def __post_init__(self) -> None:
        self.program = self.facts.program
        self.names = Identifiers()
        self.scope = Scope(
            names=self.names,
            elements={name: t.element for name, t in self.facts.tensors.items()},
            extents={name: t.extents for name, t in self.facts.tensors.items()},
            constants=self.facts.constants,
            in_range=self.safety.in_range,
            tracked=self.safety.tracked,
        )
        self.numbers = {id(s): i for i, s in enumerate(all_statements(self.program.statements))}
        self.reductions = reductions_of(self.program.statements)
        self.made: set[str] = set()

    def source(self) -> str:
        signature = self._signature()  # first, so that arguments get the plainest names
        body = [*self._arguments(), *self._extents(), *self._checks()]
        for statement, short in zip(self.program.statements, self.loops.statements, strict=True):
            body += ["", *(f"# {line}" for line in show_statement(short).split("\n"))]
            body += self._top_statement(statement)
        returned = ", ".join(self._tensor(r.name) for r in self.program.results)
        lines = [
            "import math" if "erf" in self.scope.helpers else "",
            "import numpy as np",
            "",
            "",
            '@np.errstate(all="ignore")',
            signature,
            *_indented(self._docstring()),
            *_indented(self._helpers()),
            *_indented(body),
            f"{INDENT}return {returned}",
        ]
        return "\n".join(lines).lstrip("\n")

    # ---------------------------------------------------------------------------------- the head

    def _tensor(self, name: str) -> str:
        return self.names.of("tensor", name)

    def _signature(self) -> str:
        function = self.names.of("program", self.program.name)
        positional = [self._tensor(i.name) for i in self.program.inputs]
        keywords = [self.names.of("extent", s.name) for s in self.program.sizes]
        keywords += [
            f"{self.names.of('constant', c.name)}={_default(c)}" for c in self.program.constants
        ]
        star = ["*"] if keywords else []
        return f"def {function}({', '.join([*positional, *star, *keywords])}):"

    def _docstring(self) -> list[str]:
        renamed = [
            f"{name} is {identifier} here."
            for kind in ("program", "tensor", "constant", "extent", "index")
            for name, identifier in self.names.renamed(kind)
        ]
        return [
            '"""',
            *show_one(self.shown).split("\n"),
            *([""] if renamed else []),
            *renamed,
            '"""',
        ]

    def _helpers(self) -> list[str]:
        lines: list[str] = []
        for name, text in HELPERS.items():
            if name in self.scope.helpers:
                lines += ["", *text.strip().split("\n")]
        return [*lines, ""] if lines else []

    def _arguments(self) -> Iterator[str]:
        """Arrays of the right element types."""
        inputs = self.program.inputs
        real = [i for i in inputs if i.differentiable]
        yield from _converted([self._tensor(i.name) for i in inputs if i.extents], "np.asarray({})")
        if real:
            found = f"np.result_type({', '.join(self._tensor(i.name) for i in real)})"
            yield f"dtype = {found}"
            yield 'if dtype.kind != "f":'
            yield f"{INDENT}dtype = np.dtype(np.float64)"
            yield from _converted([self._tensor(i.name) for i in real], "np.asarray({}, dtype)")
        else:
            yield "dtype = np.dtype(np.float64)"
        for i in inputs:
            if i.kind in ("int", "bool"):
                yield from self._whole(i)

    def _whole(self, i: Input) -> Iterator[str]:
        name = self._tensor(i.name)
        if not i.extents:
            yield f"{name} = np.asarray({name})"
        kinds, what = ("bui", "integers") if i.kind == "int" else ("b", "truth values")
        yield f'if {name}.dtype.kind not in "{kinds}":'
        yield f'{INDENT}raise TypeError(f"{i.name} has to hold {what}, not {{{name}.dtype}}")'

    def _extents(self) -> Iterator[str]:
        """The extents that the inputs' shapes fix, then those defined by others."""
        known = {s.name for s in self.program.sizes}
        to_check: list[Input] = []
        for i in self.program.inputs:
            name = self._tensor(i.name)
            fresh = [e.name for e in i.extents if isinstance(e, Extent) and e.name not in known]
            if i.extents and len(set(fresh)) == len(i.extents):
                identifiers = [self.names.of("extent", f) for f in fresh]
                names = ", ".join(identifiers)
                yield f"{names if len(fresh) > 1 else f'({names},)'} = {name}.shape"
                known.update(fresh)
                continue
            to_check.append(i)
            for axis, e in enumerate(i.extents):
                if isinstance(e, Extent) and e.name not in known:
                    known.add(e.name)
                    yield f"{self.names.of('extent', e.name)} = {name}.shape[{axis}]"
        for defined, formula in self.facts.defined.items():
            yield f"{self.names.of('extent', defined)} = {integer(formula, self.scope)}"
        for i in to_check:
            name, shape = self._tensor(i.name), self._shape(i.extents)
            yield f"if {name}.shape != {shape}:"
            yield (
                f"{INDENT}raise ValueError("
                f'f"{i.name} has shape {{{name}.shape}} and needs {{{shape}}}")'
            )

    def _checks(self) -> Iterator[str]:
        for equality in self.facts.equalities:
            left, right = (integer(e, self.scope) for e in (equality.left, equality.right))
            if left != right:
                yield f"if {left} != {right}:"
                yield f'{INDENT}raise ValueError(f"{equality.reason}: {{{left}}} and {{{right}}}")'
        for constant in self.program.constants:
            name = self.names.of("constant", constant.name)
            if isinstance(constant.value, int):
                yield f"if not isinstance({name}, (int, np.integer)):"
                yield f'{INDENT}raise TypeError("{constant.name} has to be an integer")'
        for positive in sorted(self.safety.positive):
            name = self.names.of("constant", positive)
            yield f"if {name} < 1:"
            yield f'{INDENT}raise ValueError("{positive} has to be at least 1 here")'
        if self.safety.tracked:
            yield "statement = 0  # how many have begun; the state of an element is one of these"

    # ----------------------------------------------------------------------------- the statements

    def _shape(self, extents: Sequence[Expression], at_least_zero: bool = False) -> str:
        shown = [
            f"max(0, {integer(e, self.scope)})"  # a formula is negative where nothing is written
            if at_least_zero and not isinstance(e, Extent | Number)
            else integer(e, self.scope)
            for e in extents
        ]
        return f"({', '.join(shown)}{',' * (len(shown) == 1)})"

    def _top_statement(self, statement: Statement) -> Iterator[str]:
        inside = [s for s in all_statements((statement,)) if isinstance(s, Accumulate)]
        # A tensor is made where it is first of use: written, or read though never written before.
        for s in inside:
            named = [r.tensor for e in statement_expressions(s) for r in reads(e)]
            for tensor in (s.target.tensor, *named):
                yield from self._make(self.facts.tensors[tensor])
        yield from self._statement(statement)

    def _make(self, tensor: TensorFacts) -> Iterator[str]:
        if tensor.role == "input" or tensor.name in self.made:
            return
        self.made.add(tensor.name)
        integers = tensor.element is ElementType.INT
        dtype, table = ("np.int64", _INTEGER_IDENTITY) if integers else ("dtype", _IDENTITY)
        shape, start = (
            self._shape(tensor.extents, tensor.role == "temporary"),
            table.get(self.reductions[tensor.name]),
        )
        name = self._tensor(tensor.name)
        if start is None:
            yield f"{name} = np.zeros({shape}, {dtype})"
        else:
            yield f"{name} = np.full({shape}, {start}, {dtype})"
        if tensor.name in self.safety.tracked:
            state = self.names.of("state", f"{tensor.name}.state")
            yield f"{state} = np.zeros({shape}, np.int64)"

    def _statement(self, statement: Statement, depth: int = 0) -> Iterator[str]:
        assert isinstance(statement, Accumulate | Block)
        self.scope.statement = self.numbers[id(statement)]
        if isinstance(statement, Accumulate) and self._is_watched(statement):
            yield "statement += 1"
        if depth + len(statement.ranges) > DEEPEST_NEST:
            raise ValueError(f"Python cannot nest loops as deep as {self.program.name} does")
        outer = dict(self.scope.ranges)
        indent = ""
        for r in statement.ranges:
            yield f"{indent}for {self.names.of('index', r.index)} in {self._range(r)}:"
            indent += INDENT
            self.scope.ranges[r.index] = r
        if isinstance(statement, Block):
            for inner in statement.body:
                deeper = depth + len(statement.ranges)
                yield from (indent + line for line in self._statement(inner, deeper))
        else:
            yield from (indent + line for line in self._accumulate(statement))
        self.scope.ranges = outer

    def _is_watched(self, statement: Accumulate) -> bool:
        named = {r.tensor for e in statement_expressions(statement) for r in reads(e)}
        return bool((named | {statement.target.tensor}) & self.safety.tracked)

    def _range(self, r: Range) -> str:
        assert r.lower is not None and r.upper is not None
        lower, upper = integer(r.lower, self.scope), integer(r.upper, self.scope)
        text = f"range({upper})" if lower == "0" else f"range({lower}, {upper})"
        return f"reversed({text})" if r.descending else text

    def _accumulate(self, s: Accumulate) -> Iterator[str]:
        indent = ""
        if s.guard is not None:
            yield f"if {expression(s.guard, self.scope)}:"
            indent = INDENT
        element_type = self.facts.tensors[s.target.tensor].element
        value = value_for(element_type, s.value, self.scope)
        target = element(s.target, self.scope, write=str(s.reduction is Reduction.SET))
        match s.reduction:
            case Reduction.MAXIMUM | Reduction.MINIMUM:
                if element_type is ElementType.INT:
                    choose = "max" if s.reduction is Reduction.MAXIMUM else "min"
                    target_now = f"int({target})"
                else:
                    choose = f"np.{'max' if s.reduction is Reduction.MAXIMUM else 'min'}imum"
                    target_now = target
                yield f"{indent}{target} = {choose}({target_now}, {value})"
            case Reduction.ADD | Reduction.SUBTRACT | Reduction.MULTIPLY if (
                element_type is ElementType.INT
            ):
                # In Python's integers: NumPy's would wrap around in silence, not raise.
                value = integer(s.value, self.scope, operations.PRODUCT + 1)
                yield f"{indent}{target} = int({target}) {s.reduction.value[0]} {value}"
            case _:
                yield f"{indent}{target} {s.reduction.value} {value}"


def _default(constant: Default) -> str:
    if constant.value in (float("inf"), float("-inf")):
        return "np.inf" if constant.value > 0 else "-np.inf"
    return repr(constant.value)


def _converted(names: Sequence[str], form: str) -> Iterator[str]:
    """`a, b = form(a), form(b)`; one a line where they are many."""
    if 0 < len(names) <= 3:
        yield f"{', '.join(names)} = {', '.join(form.format(name) for name in names)}"
    else:
        yield from (f"{name} = {form.format(name)}" for name in names)


def _indented(lines: Iterable[str]) -> list[str]:
    return [INDENT + line if line else "" for line in lines]

"""What a program is: immutable records, equal where they mean the same text.

    Program     name, arguments, results, locals, batch, statements
    Statement   Accumulate  `for b, j:  Z[b] += exp(s[b,j])   if s[b,j] > 0`
                Block       `for t:` with statements below it, run in order for each t
                Call        `p = softmax(s)`                          (until unfolded)
    Expression  Number, Index, Extent, Constant, Read, Apply, Compare, Conditional
                Reduce      `sum[i](W[j,i] * x[b,i])`                 (until unfolded)

Places in the source (`span`) and comments take no part in equality: a program typed, traced from
Python or derived by a pass is equal to another that prints the same.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from loopgrad.diagnostics import Span
from loopgrad.ir.deferred import Deferred
from loopgrad.ir.hashing import HashedOnce
from loopgrad.ir.operations import ElementType

if TYPE_CHECKING:
    from loopgrad.backends.kernel import Kernel
    from loopgrad.simplify.telling.derivation import Derivation


# ------------------------------------------------------------------------------------- expressions


@dataclass(frozen=True, slots=True)
class Number(HashedOnce):
    """A literal: an `int` or a `float`, never negative (that is `neg` of one), never NaN.

    `2` and `2.0` differ: the first is an integer.
    """

    value: int | float
    span: Span | None = field(default=None, compare=False, repr=False)

    def __eq__(self, other: object) -> bool:
        return (
            isinstance(other, Number)
            and self.value == other.value
            and type(self.value) is type(other.value)
        )

    __hash__ = HashedOnce.__hash__

    def _compared(self) -> tuple[Any, ...]:
        return Number, self.value, type(self.value)


@dataclass(frozen=True, slots=True)
class Index(HashedOnce):
    """A loop's index, as a number."""

    name: str
    span: Span | None = field(default=None, compare=False, repr=False)

    __hash__ = HashedOnce.__hash__


@dataclass(frozen=True, slots=True)
class Extent(HashedOnce):
    """A named extent (`B`, or a `size`), as an integer.

    As the whole subscript of an axis whose extent is a name, it stands for a sum over the axis
    (Einstein notation), until `unfold`; as a call's argument, for the whole axis.
    """

    name: str
    span: Span | None = field(default=None, compare=False, repr=False)

    __hash__ = HashedOnce.__hash__


@dataclass(frozen=True, slots=True)
class Constant(HashedOnce):
    """A constant of the header, such as `eps`."""

    name: str
    span: Span | None = field(default=None, compare=False, repr=False)

    __hash__ = HashedOnce.__hash__


@dataclass(frozen=True, slots=True)
class Read(HashedOnce):
    """`x[b,j]`: an element of a tensor. A scalar has no subscripts. Also a statement's target."""

    tensor: str
    subscripts: tuple[Expression, ...] = ()
    span: Span | None = field(default=None, compare=False, repr=False)

    __hash__ = HashedOnce.__hash__


@dataclass(frozen=True, slots=True)
class Apply(HashedOnce):
    """An operation of `operations.OPERATIONS` on its operands: `+`, `neg`, `exp`, `and`, `pi`, ..."""

    operation: str
    operands: tuple[Expression, ...]
    span: Span | None = field(default=None, compare=False, repr=False)

    __hash__ = HashedOnce.__hash__


@dataclass(frozen=True, slots=True)
class Compare(HashedOnce):
    """`a < b`, or a chain `0 <= i < N`: each neighbouring pair compared, left to right, lazily."""

    operators: tuple[str, ...]
    operands: tuple[Expression, ...]
    span: Span | None = field(default=None, compare=False, repr=False)

    __hash__ = HashedOnce.__hash__


@dataclass(frozen=True, slots=True)
class Conditional(HashedOnce):
    """`then if condition else otherwise`; the branch that is not taken is not evaluated."""

    condition: Expression
    then: Expression
    otherwise: Expression
    span: Span | None = field(default=None, compare=False, repr=False)

    __hash__ = HashedOnce.__hash__


@dataclass(frozen=True, slots=True)
class Reduce(HashedOnce):
    """`sum[i](body)` and its kin (`operations.REDUCTION_NAMES`); `unfold` makes loops of it."""

    name: str
    ranges: tuple[Range, ...]
    body: Expression
    span: Span | None = field(default=None, compare=False, repr=False)

    __hash__ = HashedOnce.__hash__


Expression: TypeAlias = (
    Number | Index | Extent | Constant | Read | Apply | Compare | Conditional | Reduce
)


# -------------------------------------------------------------------------------------- statements


@dataclass(frozen=True, slots=True)
class Comments:
    """The comment lines above a thing and the one behind it, without their `#`."""

    above: tuple[str, ...] = ()
    behind: str | None = None


NO_COMMENTS = Comments()


class Reduction(Enum):
    """The operator of a statement; its value is the operator's text."""

    ADD = "+="
    SUBTRACT = "-="
    MULTIPLY = "*="
    MAXIMUM = "max="
    MINIMUM = "min="
    SET = "="


@dataclass(frozen=True, slots=True)
class Range(HashedOnce):
    """An index and the values it takes: `lower <= index < upper`, in steps of 1.

    Both bounds None: a bare `b`, whose range `analysis.infer` finds. `lower` alone may be given.
    The upper bound is exclusive; `u <= t` is stored as `t + 1` (see `walk.plus_one`).
    """

    index: str
    lower: Expression | None = None
    upper: Expression | None = None
    descending: bool = False
    span: Span | None = field(default=None, compare=False, repr=False)

    __hash__ = HashedOnce.__hash__


@dataclass(frozen=True, slots=True)
class Accumulate(HashedOnce):
    """`for ranges:  target reduction value   if guard`; its iterations have no order."""

    target: Read
    reduction: Reduction
    value: Expression
    ranges: tuple[Range, ...] = ()
    guard: Expression | None = None
    span: Span | None = field(default=None, compare=False, repr=False)
    comments: Comments = field(default=NO_COMMENTS, compare=False, repr=False)

    __hash__ = HashedOnce.__hash__


@dataclass(frozen=True, slots=True)
class Block(HashedOnce):
    """`for ranges:` with a body that runs in order, once for each value of its indices, in order."""

    ranges: tuple[Range, ...]
    body: tuple[Statement, ...]
    span: Span | None = field(default=None, compare=False, repr=False)
    comments: Comments = field(default=NO_COMMENTS, compare=False, repr=False)

    __hash__ = HashedOnce.__hash__


@dataclass(frozen=True, slots=True)
class Call:
    """`p, Z = callee(s, x[t,B,K], eps=1e-3)`: inlined by `unfold`.

    Arguments stand in the order of the callee's inputs; an `Extent` as a subscript, here and in
    the targets, passes the whole axis. `keywords` sets constants and sizes.
    """

    targets: tuple[Read, ...]
    callee: Program
    arguments: tuple[Expression, ...]
    keywords: tuple[tuple[str, Expression], ...] = ()
    ranges: tuple[Range, ...] = ()
    span: Span | None = field(default=None, compare=False, repr=False)
    comments: Comments = field(default=NO_COMMENTS, compare=False, repr=False)


Statement: TypeAlias = Accumulate | Block | Call


# ----------------------------------------------------------------------------------------- program


@dataclass(frozen=True, slots=True)
class Input:
    """A tensor argument. `kind`: "input" and "param" are floating, "int" and "bool" what they say."""

    name: str
    extents: tuple[Expression, ...] = ()
    kind: Literal["input", "param", "int", "bool"] = "input"
    span: Span | None = field(default=None, compare=False, repr=False)

    @property
    def differentiable(self) -> bool:
        return self.kind in ("input", "param")


@dataclass(frozen=True, slots=True)
class Size:
    """`size N`: an extent that no input's shape fixes, given by keyword at a call."""

    name: str
    span: Span | None = field(default=None, compare=False, repr=False)


@dataclass(frozen=True, slots=True)
class Default:
    """`eps = 1e-5`: a constant with its default, an integer or a float, set by keyword at a call."""

    name: str
    value: int | float
    span: Span | None = field(default=None, compare=False, repr=False)

    def __eq__(self, other: object) -> bool:
        return (
            isinstance(other, Default)
            and (self.name, self.value) == (other.name, other.value)
            and type(self.value) is type(other.value)
        )

    def __hash__(self) -> int:
        return hash((Default, self.name, self.value))


@dataclass(frozen=True, slots=True)
class Result:
    """A computed tensor that a call returns."""

    name: str
    extents: tuple[Expression, ...] = ()
    span: Span | None = field(default=None, compare=False, repr=False)


@dataclass(frozen=True, slots=True)
class Local:
    """`local tmp[N,D]` or `local int w[B]`: the declared extents of a computed tensor."""

    name: str
    extents: tuple[Expression, ...] = ()
    element: ElementType = ElementType.FLOAT
    span: Span | None = field(default=None, compare=False, repr=False)


Argument: TypeAlias = Input | Size | Default


@dataclass(frozen=True)
class Program(Deferred, deferred="statements"):
    """A program of the notation: `name(arguments) batch B -> results:` and its statements.

    Immutable, comparable, hashable. `str(program)` is its canonical text, which parses back to an
    equal program. Every transformation returns a new program.

    >>> import loopgrad as lg
    >>> double = lg.program("double(x[N]) -> y[N]:\\n    for n:  y[n] += 2 * x[n]")
    >>> print(double.backward())
    double.backward(y.grad[N]) -> x.grad[N]:
        for n:  x.grad[n] += 2 * y.grad[n]
    """

    name: str
    arguments: tuple[Argument, ...]
    results: tuple[Result, ...]
    statements: tuple[Statement, ...]
    locals: tuple[Local, ...] = ()
    batch: str | None = None
    span: Span | None = field(default=None, compare=False, repr=False)
    comments: Comments = field(default=NO_COMMENTS, compare=False, repr=False)
    # The forward that a backward was derived from; `simplify` makes use of its definitions.
    primal: Program | None = field(default=None, compare=False, repr=False)

    @property
    def inputs(self) -> tuple[Input, ...]:
        """The tensor and scalar arguments, in header order."""
        return tuple(a for a in self.arguments if isinstance(a, Input))

    @property
    def constants(self) -> tuple[Default, ...]:
        return tuple(a for a in self.arguments if isinstance(a, Default))

    @property
    def sizes(self) -> tuple[Size, ...]:
        return tuple(a for a in self.arguments if isinstance(a, Size))

    @property
    def description(self) -> str:
        """The comment above the program.

        >>> import loopgrad as lg
        >>> lg.program("# twice x\\ndouble(x) -> y:\\n    y = 2 * x").description
        'twice x'
        """
        return "\n".join(line.strip() for line in self.comments.above)

    def __hash__(self) -> int:
        # Programs are keys of caches; the deep hash is taken once.
        known = self.__dict__.get("_hash")
        if known is None:
            known = hash(
                (self.name, self.arguments, self.results, self.statements, self.locals, self.batch)
            )
            object.__setattr__(self, "_hash", known)
        return int(known)

    def __getstate__(self) -> dict[str, Any]:
        self.statements  # noqa: B018  (unpacked, where it was read from the disk)
        # String hashes differ between processes: never pickle one.
        return {k: v for k, v in self.__dict__.items() if not k.startswith("_")}

    # The methods below are the user's way to the passes. A program is data and knows none of them:
    # each imports its pass when called (docs/decisions/0001).

    def __str__(self) -> str:
        from loopgrad.ir.printer import show

        return show(self)

    def _repr_pretty_(self, printer: Any, cycle: bool) -> None:
        """How IPython shows it where there is no LaTeX."""
        printer.text(str(self))

    def _repr_latex_(self) -> str:
        from loopgrad.printers.latex import notebook

        return notebook(self)

    def to(self, notation: str) -> str:
        """The program in another notation: "text", "latex" or "python" (NumPy only).

        Raises ValueError for a notation there is none of.
        """
        from loopgrad.printers import convert

        return convert(self, notation)

    def unfold(self) -> Program:
        """The same program with its equations and calls rewritten as loops."""
        from loopgrad.frontend.unfold import unfold

        return unfold(self)

    def returning(self, *names: str) -> Program:
        """The same program with other results: how to get at forward-computed tensors."""
        from loopgrad.analysis.returning import returning

        return returning(self, names)

    def backward(
        self,
        wrt: str | Sequence[str] | None = None,
        batch: str | Literal[False] | None = None,
        *,
        recompute: bool = False,
    ) -> Program:
        """The backward program, literally: one statement for each occurrence of a tensor.

        Its inputs are what it reads (inputs, forward-computed tensors, and the seed `p.grad` of
        each result `p`); its results the gradients `x.grad` of the inputs `wrt`, by default of all
        differentiable ones. Gradients of parameters are averaged over the extent `batch`, the
        program's own by default; `batch=False` gives sums, the mathematical adjoint.
        With `recompute` the forward statements are part of it, its inputs are the program's and
        the seeds, and it may be differentiated again.

        Raises ProgramError where the program cannot be differentiated, ValueError for a name that
        is no differentiable input.
        """
        from loopgrad.grad.backward import backward

        return backward(self, wrt, batch, recompute=recompute)

    def simplify(self, forward: Program | None = None) -> Program:
        """An equal program that costs less; `derivation` says why it is equal.

        forward: the program whose tensors a backward reads. One made by `backward` remembers its
        own; for one read from a text, name it. The inputs may change: `p` in place of `s` and `Z`.
        A program that cannot be improved, or has what the simplifier does not know
        (docs/simplifier.md), is returned as it is. Every change is certified before it is returned.
        """
        from loopgrad.simplify.simplify import simplify

        return simplify(self, forward)

    @property
    def derivation(self) -> Derivation:
        """The chain of equalities by which `simplify` made this program; empty for any other."""
        from loopgrad.simplify.simplify import derivation

        return derivation(self)

    def forward_mode(self, wrt: str | Sequence[str] | None = None) -> Program:
        """The tangent program: from the inputs and `x.dot` of each to `y.dot` of each result."""
        from loopgrad.grad.forward import forward_mode

        return forward_mode(self, wrt)

    def batched(self, extent: str, inputs: Sequence[str] | None = None) -> Program:
        """The program with a leading batch axis of that extent.

        The axis is added to the inputs named, by default to all but parameters, and to all that is
        computed from them.
        """
        from loopgrad.grad.batching import batched

        return batched(self, extent, inputs)

    def __call__(self, /, *arguments: Any, **named: Any) -> Any:
        """Runs the program compiled; see `loopgrad.compile` for the arguments and results.

        In a function that is traced it becomes a call of the notation.
        """
        kernel: Kernel | None = self.__dict__.get("_kernel")
        if kernel is not None:
            found = kernel.call_known(*arguments, **named)
            if found is not None:
                return found
        for argument in (*arguments, *named.values()):
            if hasattr(argument, "_loopgrad_call"):
                return argument._loopgrad_call(self, arguments, named)
        if kernel is None:
            from loopgrad.pipeline import compile_to_call

            kernel = compile_to_call(self, arguments, named)
            object.__setattr__(self, "_kernel", kernel)
        return kernel(*arguments, **named)

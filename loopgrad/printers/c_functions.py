"""One program as a C function: arguments, extents, memory, and the loops."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from loopgrad.analysis.facts import TensorFacts
from loopgrad.analysis.infer import infer
from loopgrad.analysis.validity import validate
from loopgrad.ir.nodes import (
    Accumulate,
    Block,
    Default,
    Expression,
    Extent,
    Index,
    Input,
    Number,
    Program,
    Range,
    Read,
    Reduction,
    Statement,
)
from loopgrad.ir.operations import ElementType
from loopgrad.ir.printer import show_expression, show_one, show_statement
from loopgrad.ir.walk import (
    all_statements,
    reads,
    reductions_of,
    statement_expressions,
    statement_reads,
    subexpressions,
)
from loopgrad.printers.c_expressions import (
    AND,
    ATOM,
    CONSTANT_BITS,
    EXTENT_BITS,
    SUM,
    Piece,
    Scope,
    converted,
    integer,
    piece,
    place,
    state_of,
    truth,
)
from loopgrad.printers.c_names import Names, legal

INDENT = "    "
MEMORY = {ElementType.BOOL: "uint8_t", ElementType.INT: "int64_t"}
WIDTH = 100

_IDENTITIES = {
    Reduction.MULTIPLY: ("1", "1"),
    Reduction.MAXIMUM: ("-INFINITY", "INT64_MIN"),
    Reduction.MINIMUM: ("INFINITY", "INT64_MAX"),
}
_FUNCTIONS = {Reduction.MAXIMUM: "maximum", Reduction.MINIMUM: "minimum"}
_CHECKED = {
    Reduction.ADD: "add",
    Reduction.SUBTRACT: "subtract",
    Reduction.MULTIPLY: "multiply",
}


@dataclass(frozen=True)
class Exported:
    """A function to print: `name` for the program, what it is `about`.

    kept: those of its results that are computed on the way, whose extents are 0 where nothing is written.
    """

    name: str
    program: Program
    about: str = ""
    kept: tuple[str, ...] = ()


@dataclass(frozen=True)
class Argument:
    """One of a printed function: its name there and in the program, its type, what it is."""

    name: str
    of: str
    type: str
    about: str
    is_tensor: bool = False

    @property
    def declared(self) -> str:
        return f"{self.type}{'' if self.type.endswith('*') else ' '}{self.name}"


class Function:
    """One program as a function of C."""

    def __init__(self, exported: Exported, real: str):
        self.exported, self.real = exported, real
        self.facts, self.safety = infer(exported.program), validate(exported.program)
        self.program, self.loops = self.facts.program, exported.program.unfold()
        self.names = Names(frozenset({exported.name}))
        self.arguments = list(self._arguments())  # first, so that they get the plainest names
        tensors = self.facts.tensors
        results = {r.name for r in self.program.results}
        scalars = {
            t.name
            for t in tensors.values()
            if not t.extents and t.name not in results and t.name not in self.safety.tracked
        }
        self.scope = Scope(
            names=self.names,
            elements={name: t.element for name, t in tensors.items()},
            constants=self.facts.constants,
            axes={},
            scalars=frozenset(scalars),
            in_range=self.safety.in_range,
            tracked=self.safety.tracked,
            real=real,
        )
        self.numbers = {id(s): i for i, s in enumerate(all_statements(self.program.statements))}
        self.reductions = reductions_of(self.program.statements)
        self.filled: set[str] = set()
        self.freed: list[str] = []
        self.body = [*self._start(), *self._statements(), *self._unread()]

    # ----------------------------------------------------------------------------------- the head

    def _arguments(self) -> Iterator[Argument]:
        of = self.names.of
        for name in self.facts.extents:
            if name not in self.facts.defined:
                yield Argument(of("extent", name), name, "int64_t", "an extent")
        for constant in self.program.constants:
            kind = "int64_t" if isinstance(constant.value, int) else self.real
            about = f"a constant, by default {_default(constant)}"
            yield Argument(of("constant", constant.name), constant.name, kind, about)
        for i in self.program.inputs:
            kind = MEMORY.get(self._element(i), self.real)
            about = f"{i.name}{_axes(i.extents)}" if i.extents else "a number"
            about += {"bool": ", 0 or 1", "param": ", a parameter"}.get(i.kind, "")
            kind = f"const {kind} *" if i.extents else kind
            yield Argument(of("tensor", i.name), i.name, kind, about, True)
        for r in self.program.results:
            kind = MEMORY.get(self.facts.tensors[r.name].element, self.real)
            kept = ", for the backward" if r.name in self.exported.kept else ""
            about = f"written: {r.name}{_axes(self.facts.tensors[r.name].extents)}{kept}"
            yield Argument(of("tensor", r.name), r.name, f"{kind} *", about, True)

    def _element(self, i: Input) -> ElementType:
        return {"int": ElementType.INT, "bool": ElementType.BOOL}.get(i.kind, ElementType.FLOAT)

    def prototype(self, restrict: bool) -> str:
        name = self.exported.name
        parts = [
            a.declared.replace("*", "*restrict ")
            if restrict and a.type.endswith("*")
            else a.declared
            for a in self.arguments
        ]
        lines = [f"int {name}("]
        for k, part in enumerate(parts or ["void"]):
            word = part + ("," if k < len(parts) - 1 else ")")
            space = "" if lines[-1].endswith("(") else " "
            if len(lines[-1]) + len(space) + len(word) > WIDTH:
                lines.append(" " * (len(name) + 5) + word)
            else:
                lines[-1] += space + word
        return "\n".join(lines)

    def comment(self) -> list[str]:
        shown = show_one(self.exported.program).split("\n")
        width = max((len(a.name) for a in self.arguments), default=0)
        lines = [self.exported.about] if self.exported.about else []
        lines += [*([""] if lines else []), *shown, ""]
        lines += [f"{a.name:{width}}  {a.about}" for a in self.arguments]
        return ["/*", *(f" * {harmless(line)}".rstrip() for line in lines), " */"]

    def text(self) -> str:
        body = "\n".join(self.body)
        words = {*re.findall(r"\w+", re.sub(r"/\*.*?\*/", "", body, flags=re.DOTALL))}
        silent = [f"{INDENT}(void){a.name};" for a in self.arguments if a.name not in words]
        head = [f"{INDENT}int error = LOOPGRAD_OK;"] if "error" in words else []
        ends = [f"{INDENT}return {'error' if head else 'LOOPGRAD_OK'};", "}"]
        if "end" in words:
            ends[:0] = ["end:", *(f"{INDENT}free({name});" for name in self.freed)]
        lines = [*self.comment(), self.prototype(restrict=True), "{", *head]
        if head:
            lines.append("")
        return "\n".join([*lines, *silent, body, *ends])

    def _unread(self) -> Iterator[str]:
        """Names scalars that no statement reads, of which compilers warn."""
        statements = all_statements(self.program.statements)
        read = {one.tensor for statement in statements for one in statement_reads(statement)}
        for name in sorted(self.scope.scalars - read):
            yield f"{INDENT}(void){self.names.of('tensor', name)};"

    # ------------------------------------------------------------------------ extents and memory

    def _start(self) -> Iterator[str]:
        fixed = [a.name for a in self.arguments if a.about == "an extent"]
        if fixed:
            yield f"{INDENT}if ({' || '.join(f'{name} < 0' for name in fixed)})"
            yield f"{INDENT}{INDENT}return LOOPGRAD_EXTENT;"
        large = [f"{name} >> {EXTENT_BITS}" for name in fixed]
        for name, element in self.facts.constants.items():
            if element is ElementType.INT:
                constant = self.names.of("constant", name)
                most = 2**CONSTANT_BITS
                large.append(f"{constant} <= -{most} || {constant} >= {most}")
        if large:
            yield f"{INDENT}if ({' || '.join(large)})"
            yield f"{INDENT}{INDENT}return LOOPGRAD_TOO_LARGE;"
        for name in sorted(self.safety.positive):
            yield f"{INDENT}if ({self.names.of('constant', name)} < 1)"
            yield f"{INDENT}{INDENT}return LOOPGRAD_CONSTANT;"
        yield from self._extents()
        yield from self._memory()

    def _extents(self) -> Iterator[str]:
        """Those that are formulas of others; and whether they fit each other."""
        for name, formula in self.facts.defined.items():
            found = integer(formula, self.scope)
            extent = self.names.of("extent", name)
            yield f"{INDENT}const int64_t {extent} = {found};"
            yield from self._require(f"{extent} < 0 || {extent} >> {EXTENT_BITS}")
        for equality in self.facts.equalities:
            left, right = (integer(e, self.scope, SUM) for e in (equality.left, equality.right))
            if left != right:
                yield from self._require(f"{left} != {right}")
        for tensor in self.facts.tensors.values():
            yield from self._axes_of(tensor)

    def _axes_of(self, tensor: TensorFacts) -> Iterator[str]:
        """The extents of a tensor; a formula gets a name."""
        found: list[str] = []
        for axis, e in enumerate(tensor.extents):
            text = self._axis(e)
            if not isinstance(e, Extent | Number):
                name = self.names.of("axis", f"{tensor.name}.extent{axis}")
                yield f"{INDENT}const int64_t {name} = {text};"
                if tensor.role != "result" or tensor.name in self.exported.kept:
                    # Negative only where there is nothing.
                    yield from self._require(f"{name} >> {EXTENT_BITS} > 0")
                else:
                    yield from self._require(f"{name} < 0 || {name} >> {EXTENT_BITS}")
                text = name
            found.append(text)
        self.scope.axes = {**self.scope.axes, tensor.name: found}

    def _axis(self, e: Expression) -> str:
        p = converted(piece(e, self.scope), ElementType.INT, self.scope)
        return p.text if isinstance(e, Extent | Number) else p.at(0)

    def _require(self, broken: str) -> Iterator[str]:
        noted = "error || " if self.scope.fails else ""
        self.scope.fails = False
        yield f"{INDENT}if ({noted}{broken})"
        yield f"{INDENT}{INDENT}return {'error ? error : ' if noted else ''}LOOPGRAD_EXTENT;"

    def _memory(self) -> Iterator[str]:
        wanted: list[tuple[str, str, str]] = []  # name, type, elements
        results = {r.name for r in self.program.results}
        for t in self.facts.tensors.values():
            if t.role == "input":
                continue
            kind, name = MEMORY.get(t.element, self.real), self.names.of("tensor", t.name)
            if t.name in self.scope.scalars:
                yield f"{INDENT}{kind} {name} = {self._identity(t)};"
                self.filled.add(t.name)
            elif t.name not in results:
                wanted.append((name, kind, self._count(t)))
            if t.name in self.safety.tracked:
                state = self.names.of("state", f"{t.name}.state")
                wanted.append((state, "int64_t", self._count(t)))
        if wanted:
            self.scope.helpers.add("allocate")
        for name, kind, elements in wanted:
            yield f"{INDENT}{kind} *{name} = allocate({elements}, sizeof *{name});"
            self.freed.append(name)
        if self.safety.tracked:
            yield f"{INDENT}int64_t step = 0;"
        if wanted:
            yield ""
            yield f"{INDENT}if ({' || '.join(f'{name} == NULL' for name, *_ in wanted)}) {{"
            yield f"{INDENT}{INDENT}error = LOOPGRAD_MEMORY;"
            yield f"{INDENT}{INDENT}goto end;"
            yield f"{INDENT}}}"
        for t in self.facts.tensors.values():
            if t.name in self.safety.tracked:
                state = self.names.of("state", f"{t.name}.state")
                yield from self._fill(state, "0", self._count(t))

    def _count(self, t: TensorFacts) -> str:
        """How many elements it has."""
        axes = [
            f"({axis} > 0 ? {axis} : 0)" if not isinstance(e, Extent | Number) else axis
            for axis, e in zip(self.scope.axes[t.name], t.extents, strict=True)
        ]
        if not axes:
            return "1"
        found = axes[0]
        for axis in axes[1:]:
            found = self.scope.call("times", found, axis)
        return found

    def _identity(self, t: TensorFacts) -> str:
        real, whole = _IDENTITIES.get(self.reductions[t.name], ("0", "0"))
        return real if t.element is ElementType.FLOAT else whole

    def _fill(self, name: str, value: str, count: str) -> Iterator[str]:
        i = self.names.of("fill", "i")
        end = count
        if "(" in count:
            end = self.names.fresh(legal(f"{name}_elements"))
            yield f"{INDENT}const int64_t {end} = {count};"
        yield f"{INDENT}for (int64_t {i} = 0; {i} < {end}; {i}++)"
        yield f"{INDENT}{INDENT}{name}[{i}] = {value};"

    # ----------------------------------------------------------------------------- the statements

    def _statements(self) -> Iterator[str]:
        for statement, short in zip(self.program.statements, self.loops.statements, strict=True):
            yield ""
            yield from commented(show_statement(short).split("\n"))
            for s in all_statements((statement,)):
                # A tensor is filled where it is first of use: written, or read though never written before.
                for tensor in _tensors_of(s):
                    yield from self._filled(self.facts.tensors[tensor], statement)
            self.scope.fails = False
            lines = list(self._statement(statement, 1))
            if isinstance(statement, Accumulate) and self._is_parallel(statement):
                macro = "PARALLEL_CHECKED" if self.scope.fails else "PARALLEL"
                yield f"{INDENT}{macro}({self._work(statement)})"
            yield from lines
            if self.scope.fails:
                yield f"{INDENT}if (error != LOOPGRAD_OK)"
                yield f"{INDENT}{INDENT}{'goto end' if self.freed else 'return error'};"

    def _filled(self, t: TensorFacts, statement: Statement) -> Iterator[str]:
        """Gives a tensor its identity, unless the statement that is its first writes all of it."""
        if t.role == "input" or t.name in self.filled:
            return
        self.filled.add(t.name)
        if not _sets_all(statement, t) or t.name in self.safety.tracked:
            yield from self._fill(
                self.names.of("tensor", t.name), self._identity(t), self._count(t)
            )

    def _is_parallel(self, s: Accumulate) -> bool:
        """Whether each iteration of the outermost loop writes elements of its own."""
        outermost = s.ranges[:1]
        return (
            any(Index(r.index) in s.target.subscripts for r in outermost)
            and not {*_tensors_of(s)} & self.safety.tracked
        )

    def _work(self, s: Accumulate) -> str:
        """How many iterations there are, about."""
        bounds = [r.upper for r in s.ranges if isinstance(r.upper, Extent | Number)]
        shown = [integer(bound, self.scope) for bound in bounds]
        return " * ".join([f"(double){shown[0]}", *shown[1:]] if shown else ["1e6"])

    def _statement(self, s: Statement, depth: int) -> Iterator[str]:
        assert isinstance(s, Accumulate | Block)
        self.scope.statement = self.numbers[id(s)]
        tracked = bool({*_tensors_of(s)} & self.safety.tracked)
        if isinstance(s, Accumulate) and tracked:
            yield f"{INDENT * depth}step++;"
        outer, number = dict(self.scope.ranges), self.scope.statement
        braces = isinstance(s, Block) or tracked or any(map(_is_long, s.ranges))
        for k, r in enumerate(s.ranges):
            *before, head = self._loop(r, depth + k)
            yield from before
            yield head + (" {" if braces else "")
            self.scope.ranges[r.index] = r
        inner = depth + len(s.ranges)
        if isinstance(s, Block):
            for each in s.body:
                yield from self._statement(each, inner)
        else:
            self.scope.statement = number
            yield from (INDENT * inner + line for line in self._accumulate(s))
        if braces:
            yield from (f"{INDENT * (inner - 1 - k)}}}" for k in range(len(s.ranges)))
        self.scope.ranges = outer

    def _loop(self, r: Range, depth: int) -> Iterator[str]:
        """The head of a loop, behind bounds that are read from tensors."""
        assert r.lower is not None and r.upper is not None
        index = self.names.of("index", r.index)
        lower, upper = (integer(bound, self.scope, SUM) for bound in (r.lower, r.upper))
        if _is_long(r):
            first, end = (self.names.fresh(f"{index}_{word}") for word in ("first", "end"))
            yield f"{INDENT * depth}const int64_t {first} = {lower}, {end} = {upper};"
            lower, upper = first, end
        if r.descending:
            head = f"for (int64_t {index} = {upper} - 1; {index} >= {lower}; {index}--)"
        else:
            head = f"for (int64_t {index} = {lower}; {index} < {upper}; {index}++)"
        yield INDENT * depth + head

    def _accumulate(self, s: Accumulate) -> Iterator[str]:
        element = self.scope.elements[s.target.tensor]
        target, there = place(s.target, self.scope)
        guard = truth(s.guard, self.scope).at(AND) if s.guard is not None else ""
        condition = " && ".join(filter(None, [guard, there]))
        value = converted(piece(s.value, self.scope), element, self.scope)
        if s.target.tensor not in self.safety.tracked:
            if condition:
                yield f"if ({condition})"
            yield (INDENT if condition else "") + self._update(target, s.reduction, value, element)
            return
        # The value is computed before the element counts as written.
        name = self.names.of("value", "value")
        once = str(int(s.reduction is Reduction.SET))
        begin = self.scope.call("begin", state_of(s.target, self.scope), "step", once, fails=True)
        yield f"if ({condition}) {{" if condition else "{"
        yield f"{INDENT}const {MEMORY.get(element, self.real)} {name} = {value.text};"
        yield f"{INDENT}{begin};"
        yield INDENT + self._update(target, s.reduction, Piece(name, ATOM, element), element)
        yield "}"

    def _update(self, target: str, how: Reduction, value: Piece, element: ElementType) -> str:
        call = self.scope.call
        if how is Reduction.SET:
            return f"{target} = {value.text};"
        if element is ElementType.FLOAT:
            if how in _FUNCTIONS:
                return f"{target} = {call(_FUNCTIONS[how], target, value.text)};"
            return f"{target} {how.value} {value.text};"
        if how in _CHECKED:
            return f"{target} = {call(_CHECKED[how], target, value.text, fails=True)};"
        sign, operand = ">" if how is Reduction.MAXIMUM else "<", value.at(SUM)
        return f"{target} = {operand} {sign} {target} ? {operand} : {target};"


def _tensors_of(s: Statement) -> list[str]:
    """The tensors that a statement itself names: its target first."""
    named = [r.tensor for e in statement_expressions(s) for r in reads(e)]
    return [s.target.tensor, *named] if isinstance(s, Accumulate) else named


def _sets_all(s: Statement, t: TensorFacts) -> bool:
    """Whether the statement writes every element by `=`."""
    if not isinstance(s, Accumulate) or s.reduction is not Reduction.SET or s.guard is not None:
        return False
    whole = {r.index: r.upper for r in s.ranges if r.lower == Number(0)}
    found = [i.name for i in s.target.subscripts if isinstance(i, Index) and i.name in whole]
    return (
        s.target.tensor == t.name
        and len({*found}) == len(t.extents) == len(s.ranges)
        and all(whole[name] == e for name, e in zip(found, t.extents, strict=True))
    )


def _is_long(r: Range) -> bool:
    """Whether its bounds are read from tensors."""
    return any(
        isinstance(e, Read)
        for bound in (r.lower, r.upper)
        if bound is not None
        for e in subexpressions(bound)
    )


def _default(constant: Default) -> str:
    return repr(constant.value)


def _axes(extents: Sequence[Expression]) -> str:
    shown = [show_expression(e, True) for e in extents]
    return f"[{','.join(shown)}]" if shown else ", a number"


def commented(lines: Sequence[str]) -> Iterator[str]:
    shown = [harmless(line) for line in lines]
    if len(shown) == 1:
        yield f"{INDENT}/* {shown[0]} */"
        return
    yield f"{INDENT}/* {shown[0]}"
    yield from (f"{INDENT} * {line}" for line in shown[1:])
    yield f"{INDENT} */"


def harmless(line: str) -> str:
    """What ends no comment, and begins none."""
    return line.replace("*/", "* /").replace("/*", "/ *")

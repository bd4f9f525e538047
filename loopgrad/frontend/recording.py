"""What a traced function has said so far, and the program that it makes."""

from __future__ import annotations

import ast
import inspect
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any, NoReturn

from loopgrad.diagnostics import Diagnostic, ProgramError, Span, listing
from loopgrad.frontend.formulas import extents_from
from loopgrad.frontend.names import numbered
from loopgrad.frontend.python_places import calling_frame, here, refuse
from loopgrad.frontend.symbolic import (
    Kind,
    RangedIndex,
    Symbol,
    Tensor,
    checked_name,
    node_of,
)
from loopgrad.ir.limits import DEEPEST_EXPRESSION, SPLIT, depth
from loopgrad.ir.nodes import (
    Accumulate,
    Argument,
    Block,
    Call,
    Conditional,
    Constant,
    Default,
    Expression,
    Extent,
    Index,
    Input,
    Local,
    Program,
    Range,
    Read,
    Reduce,
    Reduction,
    Result,
    Size,
    Statement,
)
from loopgrad.ir.operations import RESERVED, ElementType
from loopgrad.ir.printer import show_range
from loopgrad.ir.walk import (
    bounds,
    children,
    conjunction,
    map_declared,
    map_statement,
    names_in,
    rebuild,
    rename_tensors,
)


@dataclass
class _Pending:
    """A call whose targets may still be named by the assignment around it."""

    callee: Program
    arguments: tuple[Expression, ...]
    keywords: tuple[tuple[str, Expression], ...]
    results: list[Tensor]
    targets: list[Read | None]
    bound: frozenset[str]
    loops: tuple[Range, ...] | None
    span: Span | None


@dataclass
class Recording:
    """What a function has said so far."""

    name: str
    batch: str | None = None
    inputs: list[tuple[str, Argument, Tensor | None]] = field(default_factory=list)
    tensors: list[Tensor] = field(default_factory=list)
    bodies: list[list[Any]] = field(default_factory=lambda: [[]])
    blocks: list[tuple[Range, ...]] = field(default_factory=list)
    guards: list[Expression] = field(default_factory=list)
    explicit: list[tuple[Range, ...]] = field(default_factory=list)
    pending: dict[str, _Pending] = field(default_factory=dict)

    # ---------------------------------------------------------------------------------- header

    def arguments(self, function: Callable[..., Any]) -> dict[str, Any]:
        symbols: dict[str, Any] = {}
        for parameter in inspect.signature(function).parameters.values():
            if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
                self._header_error(function, f"`*{parameter.name}`", "name each argument")
            symbols[parameter.name] = self.argument(parameter, function)
        return symbols

    def argument(self, parameter: inspect.Parameter, function: Callable[..., Any]) -> Symbol:
        name, default = checked_name(parameter.name), parameter.default
        if isinstance(default, int | float) and not isinstance(default, bool):
            self.inputs.append((name, Default(name, default), None))
            return Symbol(Constant(name))
        said = default if default is not parameter.empty else parameter.annotation
        said = _evaluated(said, function)
        if isinstance(said, str) and said.strip() == "size":
            self.inputs.append((name, Size(name), None))
            return Symbol(Extent(name))
        if isinstance(said, str):
            words = re.match(r"\s*(param|int|bool)\b(.*)", said, re.DOTALL)
            kind: Any = words[1] if words else "input"
            said = Tensor(extents_from([words[2] if words else said]), kind)
        if not isinstance(said, Tensor) or said.declared is None:
            self._header_error(
                function,
                f"`{name}`",
                f"write `{name}: 'B J'`, `{name}: 'param J I'`, `{name}: ''` for a scalar, "
                f"`{name}: 'size'`, `{name}=1e-5`, or `{name}: lg.tensor('B', X - DX + 1)`",
            )
        name = checked_name(said.given_name or name)
        own = Tensor(said.declared, said.kind, name, self, name)
        self.inputs.append((name, Input(name, said.declared, said.kind), own))
        return own

    def _header_error(self, function: Callable[..., Any], what: str, help: str) -> NoReturn:
        raise ProgramError(
            Diagnostic(
                f"nothing tells what {what} of `{function.__name__}` is", span_of(function), help
            )
        )

    # ------------------------------------------------------------------------------- recording

    def computed(
        self, declared: tuple[Expression, ...] | None, kind: Kind, name: str | None
    ) -> Tensor:
        made = Tensor(declared, kind, name, self, f"?{len(self.tensors)}")
        self.tensors.append(made)
        return made

    def update(self, target: Read, reduction: Reduction, value: Expression) -> None:
        if any(target.tensor == name for name, *_ in self.inputs):
            refuse(
                f"`{target.tensor}` is an input, and inputs are never written",
                "write a tensor of its own, made with `lg.tensor(...)`",
            )
        if target.tensor in self.pending:
            refuse(
                "the result of a call is complete, and is not written again",
                "write another tensor, made with `lg.tensor(...)`",
            )
        guard = conjunction(self.guards)
        for expression in (target, value, guard):
            if expression is not None and depth(expression) > DEEPEST_EXPRESSION:
                refuse(f"more than {DEEPEST_EXPRESSION} operations inside each other", SPLIT)
        ranges = self.loops_of((target, value, guard))
        self.bodies[-1].append(Accumulate(target, reduction, value, ranges, guard, here()))

    def call(self, callee: Program, arguments: Sequence[Any], named: dict[str, Any]) -> Any:
        if self.guards:
            refuse("a call cannot be guarded", "call it outside, and guard what uses its result")
        given = dict(enumerate(arguments))
        places = {i.name: k for k, i in enumerate(callee.inputs)}
        keywords = [(k, node_of(v)) for k, v in named.items() if k not in places]
        for name, value in named.items():
            if name in places and places[name] in given:
                refuse(f"`{name}` of `{callee.name}` is given twice", "give it once")
            if name in places:
                given[places[name]] = value
        missing = [i.name for i in callee.inputs if places[i.name] not in given]
        if missing or len(given) > len(places):
            refuse(
                f"`{callee.name}` takes {listing([i.name for i in callee.inputs])}, "
                + (f"and {listing(missing)} is missing" if missing else "and is given more"),
                f"write `{callee.name}({', '.join(places)})`",
            )
        nodes = tuple(_argument(given[k]) for k in range(len(places)))
        results = [self.computed(None, "input", None) for _ in callee.results]
        call = _Pending(
            callee,
            nodes,
            tuple(keywords),
            results,
            [None] * len(results),
            frozenset(r.index for ranges in self.blocks for r in ranges),
            self.explicit[-1] if self.explicit else None,
            here(),
        )
        for made, result in zip(results, callee.results, strict=True):
            made.rank = len(result.extents)
            self.pending[made.key] = call
        self.bodies[-1].append(call)
        return results[0] if len(results) == 1 else tuple(results)

    def retarget(self, result: Tensor, target: Read) -> bool:
        """`h[t, B, J] = cell(...)`: the result that the call has just made becomes the target."""
        call = self.pending.get(result.key)
        if call is None or result.used:
            return False
        place = next(k for k, made in enumerate(call.results) if made is result)
        if call.targets[place] is not None:
            return False
        call.targets[place] = target
        result.used = True
        return True

    @contextmanager
    def block(self, ranges: tuple[Range, ...]) -> Iterator[None]:
        if self.explicit or self.guards:
            refuse(
                "a block stands inside `lg.over` or `lg.when`",
                "put `lg.loop` outside, and `lg.over`, `lg.when` around its statements",
            )
        span = here()
        self.bodies.append([])
        self.blocks.append(ranges)
        yield
        self.blocks.pop()
        body = self.bodies.pop()
        if not body:
            raise ProgramError(
                Diagnostic("a block with no statements", span, "write an update inside `with`")
            )
        self.bodies[-1].append((ranges, body, span))

    @contextmanager
    def loops(self, ranges: tuple[Range, ...]) -> Iterator[None]:
        self.explicit.append((*(self.explicit[-1] if self.explicit else ()), *ranges))
        yield
        self.explicit.pop()

    @contextmanager
    def guarded(self, condition: Expression) -> Iterator[None]:
        self.guards.append(condition)
        yield
        self.guards.pop()

    # ----------------------------------------------------------------------------------- loops

    def loops_of(self, expressions: Sequence[Expression | None]) -> tuple[Range, ...]:
        """The loops named by `lg.over`, or over all free indices, in the order of the text."""
        if self.explicit:
            return self.explicit[-1]
        bound = frozenset(r.index for ranges in self.blocks for r in ranges)
        return self.free(expressions, bound)

    def free(
        self, expressions: Sequence[Expression | None], bound: frozenset[str]
    ) -> tuple[Range, ...]:
        found: dict[str, Range] = {}

        def visit(node: Index) -> None:
            given = node.range if isinstance(node, RangedIndex) else None
            r = given or Range(node.name)
            if node.name in bound:
                return
            if node.name in found:
                if found[node.name] != r:
                    refuse(
                        f"index `{node.name}` has two ranges in one statement, "
                        f"`{show_range(found[node.name])}` and `{show_range(r)}`",
                        "give the two different names",
                    )
                return
            for outer in (n for b in bounds((r,)) for n in _free(b)):
                visit(outer)
            found[node.name] = r

        for expression in expressions:
            for node in () if expression is None else _free(expression):
                visit(node)
        return tuple(found.values())

    # ------------------------------------------------------------------------------ the program

    def program(self, returned: Any, function: Callable[..., Any]) -> Program:
        results = self.results(returned, function)
        names = self.named(results)
        statements = self.statements(self.bodies[0], names)
        arguments = tuple(argument for _, argument, _ in self.inputs)
        local: list[Local] = []
        kept: list[Result] = []
        for made in self.tensors:
            if made.declared is None or any(made is r for r in results):
                continue
            if made.key in names:
                element = ElementType.INT if made.kind == "int" else ElementType.FLOAT
                local.append(Local(names[made.key], made.declared, element))
        infer_results = any(r.declared is None and r.rank for r in results)
        for made in results:
            kept.append(Result(names[made.key], made.declared or ()))
        program = Program(
            self.name,
            arguments,
            () if infer_results else tuple(kept),
            statements,
            tuple(local),
            self.batch,
            span_of(function),
        )
        program = _with_constants(program)
        if infer_results:
            program = self.with_inferred_results(program, results, names)
        return program

    def with_inferred_results(
        self, program: Program, results: Sequence[Tensor], names: Mapping[str, str]
    ) -> Program:
        from loopgrad.analysis.returning import returning

        declared = tuple(Local(names[r.key], r.declared) for r in results if r.declared is not None)
        return returning(
            replace(program, locals=(*program.locals, *declared)), [names[r.key] for r in results]
        )

    def results(self, returned: Any, function: Callable[..., Any]) -> list[Tensor]:
        found = list(returned) if isinstance(returned, tuple | list) else [returned]
        span = span_of(function)
        if returned is None or not found:
            made = [t.given_name for t in self.tensors if t.given_name]
            last = made[-1] if made else "y"
            raise ProgramError(
                Diagnostic(f"`{self.name}` returns no tensor", span, f"end it with `return {last}`")
            )
        for one in found:
            if not isinstance(one, Tensor) or all(one is not made for made in self.tensors):
                shown = repr(one)
                raise ProgramError(
                    Diagnostic(
                        f"`{self.name}` returns `{shown}`, which is no computed tensor",
                        span,
                        "write it into a tensor made with `lg.tensor(...)`, and return that",
                    )
                )
        return found

    def named(self, results: Sequence[Tensor]) -> dict[str, str]:
        """Names for the computed tensors: given ones, those of variables, none of them twice."""
        taken = {self.name, *RESERVED, *(name for name, *_ in self.inputs)}
        taken |= self.names_used()
        replaced = {
            made.key
            for call in self.pending.values()
            for made, target in zip(call.results, call.targets, strict=True)
            if target is not None
        }
        names: dict[str, str] = {}
        for made in self.tensors:
            if made.key in replaced or not (
                made.used or any(made is r for r in results) or made.key in self.pending
            ):
                continue
            wanted = made.given_name or "y"
            fresh = (
                wanted
                if wanted not in taken
                else next(n for n in numbered(wanted, 2) if n not in taken)
            )
            names[made.key] = fresh
            taken.add(fresh)
        return names

    def names_used(self) -> set[str]:
        """The names of indices and extents, which no tensor can bear."""
        draft = Program("", (), (), self.statements(self.bodies[0], {}))
        names = names_in(draft)
        for _, argument, _ in self.inputs:
            if isinstance(argument, Input):
                names |= {
                    n.name for e in argument.extents for n in _nodes(e) if isinstance(n, Extent)
                }
        for made in self.tensors:
            names |= {
                n.name for e in made.declared or () for n in _nodes(e) if isinstance(n, Extent)
            }
        return {n for n in names if not n.startswith("?")}

    def statements(self, body: Sequence[Any], names: Mapping[str, str]) -> tuple[Statement, ...]:
        return tuple(self.statement(one, names) for one in body)

    def statement(self, one: Any, names: Mapping[str, str]) -> Statement:
        def renamed(expression: Expression) -> Expression:
            return rename_tensors(_plain(expression), names)

        match one:
            case Accumulate():
                return _mapped(one, renamed)
            case _Pending():
                targets = tuple(
                    target if target is not None else Read(made.key)
                    for made, target in zip(one.results, one.targets, strict=True)
                )
                ranges = one.loops
                if ranges is None:
                    ranges = self.free((*targets, *one.arguments), one.bound)
                call = Call(targets, one.callee, one.arguments, one.keywords, ranges, one.span)
                return _mapped(call, renamed)
            case (ranges, body, span):
                block = _mapped(Block(ranges, (), span), renamed)
                assert isinstance(block, Block)
                return replace(block, body=self.statements(body, names))
        raise AssertionError(one)


def _mapped(statement: Statement, change: Callable[[Expression], Expression]) -> Statement:
    done = map_statement(statement, change)
    match done:
        case Accumulate(target):
            return replace(done, target=_read(change(target)))
        case Call(targets):
            return replace(done, targets=tuple(_read(change(t)) for t in targets))
    return done


def _plain(expression: Expression) -> Expression:
    """The expression with indices that know no range: statements name it."""
    if isinstance(expression, RangedIndex):
        return Index(expression.name)
    return rebuild(expression, _plain)


def _read(expression: Expression) -> Read:
    assert isinstance(expression, Read)
    return expression


def _argument(value: Any) -> Expression:
    """A call's argument: a whole tensor, a slice, or a scalar."""
    if isinstance(value, Tensor):
        value.used = True
        if value.given_name is None:
            value._notice(value.rank or 0)
        return Read(value.key)
    return node_of(value)


def _evaluated(said: Any, function: Callable[..., Any]) -> Any:
    """What an annotation says: a tensor that it computes, or else its text."""
    if not isinstance(said, str):
        return said
    inner = inspect.unwrap(function)
    closure = inspect.getclosurevars(inner).nonlocals if inspect.isfunction(inner) else {}
    try:
        tree = ast.parse(said.strip(), mode="eval")
        if isinstance(tree.body, ast.Constant) and isinstance(tree.body.value, str):
            return _evaluated(tree.body.value, function)
        if isinstance(tree.body, ast.Call):
            # A name that the body does not use is not in the closure, but where the function stands.
            names = {**calling_frame().f_locals, **closure}
            value = eval(compile(tree, "<annotation>", "eval"), inner.__globals__, names)
            return value if isinstance(value, Tensor) else said
    except (SyntaxError, NameError, AttributeError, ValueError):
        pass
    return said


def span_of(function: Callable[..., Any]) -> Span | None:
    import linecache

    from loopgrad.diagnostics import Source

    code = getattr(inspect.unwrap(function), "__code__", None)
    text = "".join(linecache.getlines(code.co_filename)) if code else ""
    if not code or not text:
        return None
    source = Source(text, code.co_filename)
    line = code.co_firstlineno
    while line < len(source.line_starts) and not source.line_text(line).lstrip().startswith(
        ("def ", "async ", "lambda")
    ):
        line += 1
    shown = source.line_text(line)
    indent = len(shown) - len(shown.lstrip())
    start = source.line_starts[line - 1]
    return Span(source, start + indent, start + len(shown.rstrip()))


def _free(expression: Expression) -> Iterator[Index]:
    """The free indices, in the order in which the text names them."""
    match expression:
        case Index():
            yield expression
        case Conditional(condition, then, otherwise):
            for part in (then, condition, otherwise):
                yield from _free(part)
        case Reduce(name, ranges, body):
            own = {r.index for r in ranges}
            if name == "softmax":
                yield from (Index(r.index) for r in ranges)
                own = set()
            for part in (*bounds(ranges), body):
                yield from (n for n in _free(part) if n.name not in own)
        case _:
            for child in children(expression):
                yield from _free(child)


def _nodes(expression: Expression) -> Iterator[Expression]:
    yield expression
    for child in children(expression):
        yield from _nodes(child)


def _with_constants(program: Program) -> Program:
    """The program with the names in its extents' formulas told apart: extents and constants."""
    constants = {c.name for c in program.constants}

    def change(node: Expression) -> Expression:
        if isinstance(node, Extent) and node.name in constants:
            return Constant(node.name)
        return rebuild(node, change)

    return map_declared(program, change)

"""The faults of a claim, each with its mend, and the text with all mends made."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from loopgrad.analysis.infer import infer
from loopgrad.checking.aligning import Alignment
from loopgrad.checking.answers import Located
from loopgrad.checking.bench import Bench
from loopgrad.checking.claims import read_claim
from loopgrad.checking.deciding import Deciding
from loopgrad.checking.findings import How
from loopgrad.checking.headers import Task, certifiable, understand
from loopgrad.checking.likeness import in_order
from loopgrad.checking.locating import Locator
from loopgrad.checking.mending import Patch, Translation, patched
from loopgrad.checking.trials import Trial
from loopgrad.ir.nodes import Program
from loopgrad.ir.printer import show_statements
from loopgrad.simplify.reading.canonical import canonical

HOWS: tuple[How, ...] = ("insert after", "insert before")
REFUTED = 3  # mends tried, each on the trials that refuted those before


class Faults(Deciding):
    """Finds the faults on trials that show them, and mends that are right."""

    def _located(
        self, trials: Sequence[Trial], more: Sequence[Patch]
    ) -> tuple[list[Located], str | None]:
        """The faults that the trials show, and the text mended. A trial that refutes the mend is one more
        to look at."""
        found: list[Located] = []
        mended: str | None = None
        for _ in range(REFUTED if trials else 0):
            self.bench = Bench(self.task, trials)
            found = self._narrowed(self._placed(Locator(self.bench).locate()))
            self.refuting = None
            mended = self._mended(found, more)
            if mended is not None or self.refuting is None:
                break
            trials = [*trials, self.refuting]
        return found, mended

    def _placed(self, found: list[Located]) -> list[Located]:
        """With a statement that is put in at another place, where the first one breaks the order."""
        put_in = [f for f in found if f.patch is not None and f.patch.how == "insert after"]
        if len(put_in) != 1 or self._mended(found, [], whole=True) is not None:
            return found
        fault, claim = put_in[0], self.task.claim
        assert fault.patch is not None
        depth = claim.depth(fault.patch.at)
        for start in claim.stretches:
            if claim.depth(start) != depth:
                continue
            for how in HOWS:
                moved = replace(
                    fault,
                    patch=replace(fault.patch, at=start, how=how),
                    statement=start,
                    span=claim.stretch_span(start),
                )
                others = [moved if f is fault else f for f in found]
                if self._mended(others, [], whole=True) is not None:
                    return others
        return found

    def _narrowed(self, found: list[Located]) -> list[Located]:
        """With one of the statements that are missing, where a line that was left out for its sake is
        the other."""
        repaired = self.task.claim.repaired
        for fault in found:
            patch = fault.patch
            if patch is None or patch.how != "replace":
                continue
            unread = [
                start for start, r in repaired.items() if (r.text, r.target) == (None, fault.tensor)
            ]
            if unread in ([], [patch.at]):
                continue
            for line in (patch.text or "").split("\n"):
                one = replace(fault, patch=replace(patch, text=line))
                others = [one if f is fault else f for f in found]
                if self._mended(others, [], whole=True) is not None:
                    return others
        return found

    @property
    def _breaking(self) -> dict[int, int]:
        """Statements that break a rule or could not be read, with the numbers of the findings."""
        claim = self.task.claim
        unread = {start: r.finding for start, r in claim.repaired.items() if not r.text}
        return {**claim.faulty, **unread}

    def _idle(self, found: Sequence[Located]) -> list[int]:
        """Those of them that no mend changes."""
        at = {fault.patch.at for fault in found if fault.patch is not None}
        return [start for start in self._breaking if start not in at]

    def _aligned(self, found: list[Located]) -> tuple[list[Located], str | None]:
        """The faults as the derived program shows them beside the claim, if their mends make all right."""
        bench = self.bench or Bench(self.task, ())
        for by_value in (True, False) if self.bench else (False,):
            others = Alignment(bench, by_value).faults()
            mended = self._mended(others, [], whole=True) if others else None
            if mended is not None:
                return others, mended
        return found, None

    def _mended(
        self, found: Sequence[Located], more: Sequence[Patch], whole: bool | None = None
    ) -> str | None:
        """The text with all mends made; None where that is not right.

        whole: whether it has to be right, by default unless gradients are added that were not judged.
        """
        if any(f.patch is None for f in found):
            return None
        # Several faults may have one mend.
        patches = list(dict.fromkeys(f.patch for f in found if f.patch is not None))
        mended = {p.at for p in patches if p.how == "replace"}
        for start, repair in self.task.claim.repaired.items():
            if start not in mended and repair.text is not None:
                patches.append(Patch(start, "replace", repair.text))
        text = patched(self.task.claim, self.task.program, [*patches, *more])
        whole = not more if whole is None else whole
        return text if self._read(text, whole=whole) is not None else None

    def _read(self, text: str, whole: bool = False) -> Program | None:
        """The program of a mended text, if it is one, and if it is right where `whole`."""
        claim = read_claim(text, name=self.task.program.name)
        if claim.program is None or claim.findings:
            return None
        task, faults = understand(self.task.forward, claim, None)
        if task is None or faults:
            return None
        if whole and not (self._right(task) and self._certified(task)):
            return None
        return task.program if set(task.judged) >= set(self.task.judged) else None

    def _certified(self, task: Task) -> bool:
        mended = certifiable(task)
        if canonical(in_order(mended)) == canonical(in_order(self.task.right)):
            return True  # it is the derived program
        return self._verdict(mended).kind == "agree"

    def _gradient_patches(self) -> list[tuple[str, Patch]]:
        task = self.task
        if not task.missing:
            return []
        full = task.forward.backward()
        names = dict(zip((r.name for r in full.results), (r for r in full.results), strict=True))
        found: list[tuple[str, Patch]] = []
        inputs = [i.name for i in infer(task.forward).program.inputs if i.differentiable]
        of = dict(zip(names, inputs, strict=True))
        for name in task.missing:
            right = task.forward.backward([of[name]])
            translation = Translation(replace(task, right=right, judged=(name,)))
            pieces = translation.closure([name])
            statements = [translation.statement(p, None, ()) for p in pieces]
            arguments, _ = translation.needs(statements)
            anchor = max(task.claim.stretches)
            patch = Patch(
                anchor,
                "insert after",
                "\n".join(show_statements(statements)),
                tuple(arguments),
                (translation.result(name),),
                translation.locals_for(statements),
            )
            found.append((name, patch))
        return found

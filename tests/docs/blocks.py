"""The code blocks of a document, run in order, as a reader would.

    ```loops            programs: have to be read and to keep the rules
    ```loops error      a program with mistakes; the ```text block behind it is the message
    ```python           run; with >>> checked line by line. Names stay from block to block
    ```console          `$ command` lines, run by the shell, each with all that it prints
    <!-- file: NAME --> above a block: it is also written to a file of that name

    <!-- needs: NAME --> anywhere: without that package the document is skipped

`...` in expected output stands for anything. Everything else is left alone.
"""

from __future__ import annotations

import doctest
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import loopgrad as lg
from loopgrad.frontend.parser import parse
from loopgrad.pipeline import verify

FENCE = re.compile(r"^```(.*)$")
FILE = re.compile(r"^<!-- file: (\S+) -->$")
OPTIONS = doctest.ELLIPSIS


@dataclass
class Block:
    info: str
    lines: list[str]
    number: int  # of its first line, from 1
    file: str | None

    @property
    def text(self) -> str:
        return "\n".join(self.lines) + "\n"


def blocks(text: str) -> Iterator[Block]:
    open_block: Block | None = None
    file: str | None = None
    for number, line in enumerate(text.splitlines(), 1):
        fence = FENCE.match(line)
        if open_block is not None:
            if fence:
                yield open_block
                open_block, file = None, None
            else:
                open_block.lines.append(line)
        elif fence:
            open_block = Block(fence[1].strip(), [], number + 1, file)
        elif line.strip():
            found = FILE.match(line)
            file = found[1] if found else None
    assert open_block is None, "a fence is not closed"


class Document:
    """Runs the blocks of one document in a folder of their own; collects what went wrong."""

    def __init__(self, path: Path, folder: Path):
        self.path, self.folder = path, folder
        self.names: dict[str, object] = {}
        self.faults: list[str] = []
        self.replaced: dict[int, tuple[Block, str]] = {}
        self.expecting: str | None = None

    def run(self) -> None:
        for block in blocks(self.path.read_text(encoding="utf-8")):
            if block.file is not None:
                (self.folder / block.file).write_text(block.text, encoding="utf-8")
            if self.expecting is not None:
                self._compare(block, block.text, self.expecting)
                self.expecting = None
                continue
            match block.info:
                case "loops":
                    self._programs(block)
                case "loops error":
                    self._mistake(block)
                case "python":
                    self._python(block)
                case "console":
                    self._console(block)

    def _fault(self, block: Block, message: str) -> None:
        self.faults.append(f"{self.path.name}:{block.number}: {message}")

    def _compare(self, block: Block, expected: str, found: str) -> None:
        if not doctest.OutputChecker().check_output(expected, found, OPTIONS):
            self._fault(block, f"expected\n{expected}\nfound\n{found}")
            self.replaced[block.number] = (block, found)

    def _programs(self, block: Block) -> None:
        try:
            for program in parse(block.text):
                verify(program, warn=False)
        except lg.ProgramError as error:
            self._fault(block, str(error))

    def _mistake(self, block: Block) -> None:
        try:
            lg.program(block.text)
        except lg.ProgramError as error:
            self.expecting = f"{error}\n"
        else:
            self._fault(block, "is no mistake")
            self.expecting = ""

    def _python(self, block: Block) -> None:
        before = Path.cwd()
        os.chdir(self.folder)
        try:
            if ">>>" not in block.text:
                exec(compile(block.text, str(self.path), "exec"), self.names)
                return
            name = f"{self.path.name}:{block.number}"
            test = doctest.DocTestParser().get_doctest(block.text, self.names, name, None, 0)
            said: list[str] = []
            runner = doctest.DocTestRunner(optionflags=OPTIONS)
            runner.run(test, out=said.append, clear_globs=False)
            self.names.update(test.globs)
            if said:
                self._fault(block, "".join(said))
        except Exception as error:
            self._fault(block, repr(error))
        finally:
            os.chdir(before)

    def _console(self, block: Block) -> None:
        found: list[str] = []
        for command in (line[2:] for line in block.lines if line.startswith("$ ")):
            found += [f"$ {command}", *self._shell(command).splitlines()]
        self._compare(block, block.text, "\n".join(found) + "\n")

    def _shell(self, command: str) -> str:
        here = str(Path(sys.executable).parent)
        done = subprocess.run(
            command,
            shell=True,
            cwd=self.folder,
            env={**os.environ, "PATH": here + os.pathsep + os.environ["PATH"], "COLUMNS": "100"},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=120,
            text=True,
            encoding="utf-8",
        )
        return done.stdout

    def updated(self) -> str:
        """The document with the output that was found in place of what was expected."""
        lines = self.path.read_text(encoding="utf-8").splitlines()
        for number in sorted(self.replaced, reverse=True):
            block, found = self.replaced[number]
            lines[number - 1 : number - 1 + len(block.lines)] = found.splitlines()
        return "\n".join(lines) + "\n"

"""Every mutant of the page word: refuted by a word that tells it from the shipped code, or proved equal to it.

What cargo-mutants lists is compiled one by one. A mutant is *refuted* where some step of `steps.py`, or some question, differs on a reachable
word; *equal* where no function differs for any arguments; *equal where it matters* where one does, but on no reachable word that a step
or a question is asked of. What the solver or the translator gives up on is *open*.
"""

import json
import multiprocessing
import re
import subprocess
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field

import z3

from . import compile, llvm
from .fields import MAX, Word, reachable
from .statements import TIMEOUT_MS, values
from .steps import STEPS, Code, applied_by
from .transitions import EVERY, FUNCTIONS, QUESTIONS
from .words import as_seen, variables

WORKERS = 2


@dataclass
class Verdict:
    name: str
    verdict: str
    # Where it is refuted: what differs, and on which word.
    by: str = ""
    word: dict = field(default_factory=dict)


class NoCargoMutants(Exception):
    """The tool that lists the mutants isn't there."""


def listed():
    """What cargo-mutants lists for the page word. Printing a word is not asked."""
    command = ["cargo", "mutants", "--list", "--json", "--package", "tailpin"]
    for path in compile.SHIPPED:
        command += ["--file", str(path.relative_to(compile.ROOT))]
    command += ["--exclude-re", "impl fmt::(Debug|Display)"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=compile.ROOT)
    if done.returncode != 0:
        raise NoCargoMutants(f"cargo install cargo-mutants --locked\n{done.stderr.strip()}")
    return json.loads(done.stdout)


def changed(source, mutant):
    """The file with one change."""
    lines = source.splitlines(keepends=True)

    def offset(place):
        return sum(len(line) for line in lines[: place["line"] - 1]) + place["column"] - 1

    start, end = offset(mutant["span"]["start"]), offset(mutant["span"]["end"])
    return source[:start] + mutant["replacement"] + source[end:]


def harness_over(home, shipped, source):
    """The harness over another text of one file of the page word, `shipped`; all else is what ships."""
    parts = home / "page_word"
    parts.mkdir(parents=True, exist_ok=True)
    for path in [compile.PAGE_WORD / "mod.rs", *compile.SHIPPED]:
        (parts / path.name).write_text(source if path == shipped else path.read_text())
    harness = (compile.PROOF / "harness.rs").read_text()
    harness = re.sub(r'#\[path = "([^"]*)"\]', lambda path: f'#[path = "{compile.PROOF}/{path[1]}"]', harness)
    harness = harness.replace(f"{compile.PROOF}/../crates/tailpin/src/page_word/", "page_word/")
    (home / "harness.rs").write_text(harness)
    return compile.compile_harness(home, compile.RELEASE, root=home / "harness.rs", link=False)


def compiled(home, shipped, source):
    """The code of a mutant, or None where it doesn't compile."""
    try:
        return harness_over(home, shipped, source).module
    except compile.DoesNotCompile:
        return None


class Differs(Exception):
    def __init__(self, by, model):
        super().__init__(by)
        self.by, self.word = by, values(model)


class Comparison:
    """The shipped code beside a mutant."""

    def __init__(self, shipped, mutant):
        self.shipped, self.mutant = shipped, mutant

    def same_text(self, symbol):
        one, other = self.shipped.get(symbol), self.mutant.get(symbol)
        return (one.blocks, one.parameters, one.result_range) == (
            other.blocks,
            other.parameters,
            other.result_range,
        )

    def symbols(self):
        """Those whose code is not the same to the letter."""
        every = [
            s for f in FUNCTIONS for s in ([f.symbol, f"{f.symbol}_allowed"] if f.refuses else [f.symbol])
        ]
        return {s for s in every if not self.same_text(s)}

    def solve(self, by, difference, *given):
        solver = z3.Solver()
        solver.set("timeout", TIMEOUT_MS)
        solver.add(*given, difference)
        answer = solver.check()
        if answer == z3.sat:
            raise Differs(by, solver.model())
        if answer == z3.unknown:
            raise llvm.NotTranslated(f"{by}: no answer")

    def questions(self, symbols):
        for function in FUNCTIONS:
            asked = [s for s in (function.symbol, f"{function.symbol}_allowed") if s in symbols]
            if not asked or function not in QUESTIONS and f"{function.symbol}_allowed" not in asked:
                continue
            arguments, typed = variables(function)
            seen = as_seen(function, arguments)
            where = [reachable(w) for w in seen if isinstance(w, Word)]
            for symbol in asked:
                if symbol == function.symbol and function not in QUESTIONS:
                    continue
                one = llvm.call(self.shipped, symbol, *arguments)
                other = llvm.call(self.mutant, symbol, *arguments)
                # A split under way is asked where it goes, and no other word.
                when = (
                    function.when(*seen)
                    if symbol != "target"
                    else z3.And(seen[0].kind >= 3, seen[0].kind <= 4)
                )
                self.solve(symbol, z3.Or(one.bits != other.bits, other.fails), typed, when, *where)

    def steps(self, symbols):
        bits, o, n, other = z3.BitVecs("w o n b", 64)
        w, b = Word(bits), Word(other)
        for step in STEPS:
            if not applied_by(step) & symbols:
                continue
            two = Applied(self.mutant)
            given, got = step.apply(Code(self.shipped), bits, o, n, b), step.apply(two, bits, o, n, b)
            fails = z3.Or(two.fails) if two.fails else z3.BoolVal(False)
            self.solve(
                step.name, z3.Or(given != got, fails), reachable(w), z3.ULE(o, MAX), step.when(w, o, n, b)
            )
        for function in FUNCTIONS:
            # What the arguments of a step leave out: any number at once.
            if function.symbol in symbols and "n" in function.arguments and function not in QUESTIONS:
                arguments, typed = variables(function)
                seen = as_seen(function, arguments)
                allowed = z3.Not(function.refuses(*seen)) if function.refuses else EVERY
                where = [reachable(word) for word in seen if isinstance(word, Word)]
                if "begun" in function.arguments:
                    where += [z3.Or(seen[1].kind == 3, seen[1].kind == 4), seen[0].kind == 0]
                one = llvm.call(self.shipped, function.symbol, *arguments)
                two = llvm.call(self.mutant, function.symbol, *arguments)
                self.solve(
                    function.symbol,
                    z3.Or(one.bits != two.bits, two.fails),
                    typed,
                    function.when(*seen),
                    allowed,
                    *where,
                )

    def everywhere(self, symbols):
        for function in FUNCTIONS:
            for symbol in (function.symbol, f"{function.symbol}_allowed"):
                if symbol in symbols:
                    arguments, typed = variables(function)
                    one = llvm.call(self.shipped, symbol, *arguments)
                    other = llvm.call(self.mutant, symbol, *arguments)
                    self.solve(symbol, z3.Or(one.bits != other.bits, other.fails), typed)


class Applied(Code):
    """Code that notes when it fails."""

    def __init__(self, module):
        super().__init__(module)
        self.fails = []

    def __getattr__(self, symbol):
        def applied(*arguments):
            numbers = [z3.BitVecVal(a, 64) if isinstance(a, int) else a for a in arguments]
            outcome = llvm.call(self.module, symbol, *numbers)
            self.fails.append(outcome.fails)
            return outcome.bits

        return applied


def judged(name, shipped, mutant):
    if mutant is None:
        return Verdict(name, "unviable")
    comparison = Comparison(shipped, mutant)
    try:
        symbols = comparison.symbols()
        comparison.questions(symbols)
        comparison.steps(symbols)
        try:
            comparison.everywhere(symbols)
        except Differs as difference:
            return Verdict(name, "equal where it matters", difference.by, difference.word)
        return Verdict(name, "equal")
    except Differs as difference:
        return Verdict(name, "refuted", difference.by, difference.word)
    except llvm.NotTranslated as error:
        return Verdict(name, "open", str(error))


def one(number, mutant, folder, shipped):
    """Compiles and judges one mutant; in another process, as z3 is for one thread."""
    path = compile.ROOT / mutant["file"]
    code = compiled(folder / str(number), path, changed(path.read_text(), mutant))
    name = mutant["name"].split(f"{compile.PAGE_WORD.name}/", 1)[-1]
    return judged(name, shipped, code)


def verdicts(folder):
    shipped = compile.compile_harness(folder, compile.RELEASE, link=False).module
    with ProcessPoolExecutor(WORKERS, multiprocessing.get_context("spawn")) as pool:
        waiting = [
            pool.submit(one, number, mutant, folder, shipped)
            for number, mutant in enumerate(listed())
        ]
        for verdict in waiting:
            yield verdict.result()

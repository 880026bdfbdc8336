"""What the model checker saw the shipped code do, held against the steps of the proof.

`tailpin check --changes FILE` writes each distinct change of a page word that its executions met, with the words of all explored frames
before it and the line of code that made it. Each of them has to be

* a step of the table of states, taken by the function that the table names, from a word on which the step's `when` holds: what a caller
  has looked at before, which the proof takes for granted, is so in every execution that was explored;
* a step of a counting machine that names the same function, from a state that has the machine's invariant and looks as these words do, to
  one that looks as the words do afterwards; or no step, where
  these machines see no difference.
"""

import json
import re
from dataclasses import dataclass

import z3

from .counting import views
from .fields import LAYOUT, MAX, Word, reachable
from .statements import TIMEOUT_MS, Result
from .steps import CORE, STEPS, Code


@dataclass(frozen=True)
class Change:
    function: str
    frame: int
    # (frame, word) of each explored frame.
    words: tuple
    after: int

    @property
    def before(self):
        return dict(self.words)[self.frame]


class NoChanges(Exception):
    """The file isn't one of changes, or not of this source."""


def read(path):
    try:
        lines = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise NoChanges(f"{path}: {error}") from error
    if not lines:
        raise NoChanges(f"{path}: no changes")
    places = {}
    for line in lines:
        place = (line["file"], line["line"])
        if place not in places:
            places[place] = function_at(*place)
        words = tuple(sorted((int(frame), word) for frame, word in line["words"].items()))
        yield Change(places[place], line["frame"], words, line["after"])


def function_at(file, number):
    """`file::function` of a line of the one-word protocol."""
    path = CORE / file
    lines = path.read_text().splitlines()[:number] if path.exists() else []
    heads = [m[1] for line in lines if (m := re.match(r"\s*(?:pub(?:\([a-z]+\))? )?fn (\w+)", line))]
    if len(lines) < number or not heads:
        raise NoChanges(f"{file}:{number}: no such line; the changes are of another state of the source")
    return f"{path.stem}::{heads[-1]}"


def satisfiable(*given):
    solver = z3.Solver()
    solver.set("timeout", TIMEOUT_MS)
    solver.add(*given)
    return solver.check() == z3.sat


class Table:
    """The table of states: which function may make which word of which."""

    def __init__(self, module):
        self.code = Code(module)
        self.arguments = z3.BitVecs("o n b", 64)
        self.known = {}

    def step_of(self, change):
        """The name of a step that makes this change, or None."""
        key = (change.function, change.before, change.after)
        if key not in self.known:
            self.known[key] = self.found(*key)
        return self.known[key]

    def found(self, function, before, after):
        o, n, b = self.arguments
        bits = z3.BitVecVal(before, 64)
        w, other = Word(bits), Word(b)
        if not satisfiable(reachable(w)):
            return None
        for step in STEPS:
            if function not in step.by:
                continue
            made = step.apply(self.code, bits, o, n, other) == z3.BitVecVal(after, 64)
            if satisfiable(z3.ULE(o, MAX), step.when(w, o, n, other), made):
                return step.name
        return None


class Machines:
    """The counting machines, as the words of a change look to them."""

    def __init__(self):
        self.known = {}

    def step_of(self, change):
        """The machine whose step it is, and the step. It is "" where a machine that sees all kinds and counts of these words, or each one that
        covers them, sees no change; None where one sees a change that is no step of any; and the answer is None where no machine covers them."""
        answer, before = None, dict(change.words)
        after = {**before, change.frame: change.after}
        for view in views.VIEWS:
            for looks in view.looks(before, after, change.frame):
                step = self.step(view.machine, change.function, *looks)
                if step or step == "" and view.sees_all:
                    return view.machine.name, step
                if answer is None or step is None and answer[1] is not None:
                    answer = view.machine.name, step
        return answer

    def step(self, machine, function, before, after):
        key = (machine.name, function, before, after)
        if key not in self.known:
            self.known[key] = self.found(machine, function, before, after)
        return self.known[key]

    def found(self, machine, function, before, after):
        old, new = machine.state(), machine.state("'")
        start = [p(old) for p in machine.invariant().values()] + list(looks_so(machine, old, before))
        if satisfiable(*start, *looks_so(machine, old, after)):
            return ""
        choice = z3.Int("any number"), z3.Bool("any")
        for rule in machine.rules:
            if function in rule.by:
                taken = machine.step(rule, old, new, choice)
                if satisfiable(*start, taken, machine.in_range(new), *looks_so(machine, new, after)):
                    return rule.name
        return None


def looks_so(machine, state, look):
    """`look`: (variable, values it may have) of what can be seen."""
    for name, values in look:
        yield z3.Or([getattr(state, name) == value for value in values])


class Seen:
    """What came of all changes."""

    def __init__(self, module, path):
        self.changes = list(read(path))
        self.table, self.machines = Table(module), Machines()
        # Of each function: its changes, and the first that is no step of the table, and of the machine that is named.
        self.functions, self.no_step, self.no_rule = {}, {}, {}
        # How often each step of the table was seen.
        self.steps = {}
        # Changes that no machine sees, and changes of words in no machine.
        self.unseen, self.elsewhere = 0, {}
        for change in self.changes:
            self.functions[change.function] = self.functions.get(change.function, 0) + 1
            self.hold_against_table(change)
            self.hold_against_machines(change)

    def hold_against_table(self, change):
        step = self.table.step_of(change)
        if step is None:
            self.no_step.setdefault(change.function, change)
        else:
            self.steps[step] = self.steps.get(step, 0) + 1

    def hold_against_machines(self, change):
        found = self.machines.step_of(change)
        if found is None:
            self.elsewhere[change.function] = self.elsewhere.get(change.function, 0) + 1
        elif found[1] is None:
            self.no_rule.setdefault(change.function, (found[0], change))
        elif found[1] == "":
            self.unseen += 1

    def results(self):
        for function, count in sorted(self.functions.items()):
            change = self.no_step.get(function)
            yield result(f"{function}: each of {count} changes is a step of the table of states", change)
            machine, change = self.no_rule.get(function, ("", None))
            yield result(f"{function}: each of {count} changes is a step of a machine, or none", change, machine)

    def counts(self):
        return {
            "changes": len(self.changes),
            "steps_seen": len(self.steps),
            "steps": len({step.name for step in STEPS}),
            "seen_by_no_machine": self.unseen,
            "in_no_machine": sum(self.elsewhere.values()),
        }


def result(name, change, machine=""):
    if change is None:
        return Result(name, "proved", 0.0)
    words = {f"page {frame}": described(word) for frame, word in change.words}
    example = {**words, f"page {change.frame} after": described(change.after)}
    return Result(name, "refuted", 0.0, {**example, **({"machine": machine} if machine else {})})


def described(word):
    """The fields that are not 0."""
    fields = {name: getattr(views.fields(word), name) for name in LAYOUT}
    return " ".join(f"{name}={value}" for name, value in fields.items() if value) or "0"

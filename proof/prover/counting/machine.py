"""Machines: variables, steps, an invariant; and runs of machines that lack a safeguard."""

from dataclasses import dataclass, field
from typing import Callable

import z3

from ..statements import Result, prove, show


@dataclass
class Rule:
    """One atomic step. `does` gives the variables that change."""

    name: str
    # `file::function` under `one_word/`.
    by: tuple
    when: Callable
    does: Callable


@dataclass
class Missing:
    """A machine without one safeguard: the rules that replace those of the same names or come in addition, and a run by names."""

    rules: list
    run: list


class State:
    """The variables at one moment, by name."""

    def __init__(self, sorts, suffix):
        self.sorts = sorts
        for name, sort in sorts.items():
            make = z3.Bool if sort == "bool" else z3.Int
            setattr(self, name, make(f"{name}{suffix}"))

    def all(self):
        return {name: getattr(self, name) for name in self.sorts}


@dataclass
class Machine:
    name: str
    # Name → "count" (a number from 0 on), "bool", or a tuple with the names of its values.
    sorts: dict
    initial: Callable
    rules: list
    # Name → what holds in every state that can be reached. `safe` are those that a user would miss, `helps` carry the proof.
    safe: dict
    helps: dict
    # Safeguard → what happens without it.
    without: dict = field(default_factory=dict)
    # What is noted of every step besides what it does.
    notes: Callable = lambda before, after: {}

    def state(self, suffix=""):
        return State(self.sorts, suffix)

    def in_range(self, s):
        ranges = []
        for name, sort in self.sorts.items():
            value = getattr(s, name)
            if sort == "count":
                ranges.append(value >= 0)
            elif sort != "bool":
                ranges += [value >= 0, value < len(sort)]
        return z3.And(ranges)

    def step(self, rule, before, after, choice):
        """That `rule` leads from one state to the other. `choice`: a number and a truth value that nothing determines."""
        changed = rule.does(before, *choice)
        unknown = set(changed) - set(self.sorts)
        if unknown:
            raise ValueError(f"{self.name}, {rule.name}: no variable {unknown}")
        target = {name: changed.get(name, old) for name, old in before.all().items()}
        target.update(self.notes(before, target))
        return z3.And(
            rule.when(before),
            choice[0] >= 0,
            *[getattr(after, name) == value for name, value in target.items()],
        )

    def invariant(self):
        return {"counts are numbers from 0 on": self.in_range, **self.safe, **self.helps}

    def results(self):
        before, after = self.state(), self.state("'")
        choice = z3.Int("any number"), z3.Bool("any")
        invariant = self.invariant()
        start = z3.And([p(before) for p in invariant.values()])
        end = z3.And([p(after) for p in invariant.values()])
        yield prove(f"{self.name}: the invariant holds at first", start, self.initial(before))
        for rule in self.rules:
            taken = self.step(rule, before, after, choice)
            result = prove(f"{self.name}: {rule.name} ({', '.join(rule.by)}) keeps it", end, start, taken)
            if result.verdict == "refuted":
                result.counterexample["broken"] = [
                    name
                    for name, p in invariant.items()
                    if prove("", p(after), start, taken).verdict != "proved"
                ]
            yield result
            yield show(f"{self.name}: {rule.name} can happen", start, taken)

    def counterexample(self, safeguard):
        """The run of `without`, step by step: whether there is such a one, and it ends in a state that isn't safe."""
        missing = self.without[safeguard]
        rules = {rule.name: rule for rule in self.rules}
        rules.update((rule.name, rule) for rule in missing.rules)
        solver = z3.Solver()
        now = self.state(" 0")
        solver.add(self.initial(now), self.in_range(now))
        for at, name in enumerate(missing.run, 1):
            after = self.state(f" {at}")
            choice = z3.Int(f"any number {at}"), z3.Bool(f"any {at}")
            solver.add(self.step(rules[name], now, after, choice), self.in_range(after))
            now = after
        solver.add(z3.Not(z3.And([p(now) for p in self.safe.values()])))
        title = f"{self.name}: without {safeguard} there is a run that breaks it"
        if solver.check() != z3.sat:
            return Result(title, "refuted", 0.0, {"no such run": missing.run})
        model = solver.model()
        broken = [n for n, p in self.safe.items() if z3.is_false(model.eval(p(now), model_completion=True))]
        return Result(title, "proved", 0.0, {"run": missing.run, "broken": broken})

    def functions(self):
        """Every function that a step names."""
        rules = self.rules + [rule for missing in self.without.values() for rule in missing.rules]
        return {name for rule in rules for name in rule.by}

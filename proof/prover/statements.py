"""Statements, and what becomes of them."""

import time
from dataclasses import dataclass, field

import z3

TIMEOUT_MS = 120_000


@dataclass
class Result:
    name: str
    verdict: str
    ms: float
    # Where it is refuted: the values that do it.
    counterexample: dict = field(default_factory=dict)

    @property
    def proved(self):
        return self.verdict == "proved"


def prove(name, claim, *given):
    """Whether `claim` holds for all values for which everything `given` does."""
    solver = z3.Solver()
    solver.set("timeout", TIMEOUT_MS)
    solver.add(*given, z3.Not(claim))
    return verdict(name, solver, holds=z3.unsat, fails=z3.sat)


def show(name, *given):
    """Whether there are values for which everything `given` holds."""
    solver = z3.Solver()
    solver.set("timeout", TIMEOUT_MS)
    solver.add(*given)
    return verdict(name, solver, holds=z3.sat, fails=z3.unsat)


def verdict(name, solver, holds, fails):
    start = time.monotonic()
    answer = solver.check()
    ms = (time.monotonic() - start) * 1e3
    result = Result(name, "proved" if answer == holds else "refuted" if answer == fails else "open", ms)
    if answer == fails == z3.sat:
        result.counterexample = values(solver.model())
    return result


def values(model):
    found = {}
    for variable in model.decls():
        value = model[variable]
        if z3.is_bv_value(value):
            found[variable.name()] = hex(value.as_long())
        elif z3.is_int_value(value):
            found[variable.name()] = value.as_long()
        elif z3.is_true(value) or z3.is_false(value):
            found[variable.name()] = z3.is_true(value)
        else:
            found[variable.name()] = str(value)
    return dict(sorted(found.items()))

"""The translator against the machine: each compiled function is run, and its formula evaluated, on the same words.

And each form of instruction that the translator knows has to have met such a function; each flag is tried on operands that break
it and on some that don't.
"""

import ctypes
import random

import z3

from . import llvm
from .fields import LAYOUT
from .statements import Result

ROUNDS = 60

# What a whole module ends with.
END = "\n\n!llvm.ident = !{!0}\n"

# IR by hand, since running can't show poison: instruction, and whether the result of `f` is poison for (x, y).
FLAGS = [
    ("add nuw i8 %x, %y", 255, 1, True),
    ("add nuw i8 %x, %y", 254, 1, False),
    ("add nsw i8 %x, %y", 127, 1, True),
    ("add nsw i8 %x, %y", 255, 1, False),
    ("sub nuw i8 %x, %y", 0, 1, True),
    ("sub nuw i8 %x, %y", 1, 1, False),
    ("sub nsw i8 %x, %y", 128, 1, True),
    ("sub nsw i8 %x, %y", 0, 1, False),
    ("mul nuw i8 %x, %y", 16, 16, True),
    ("mul nuw i8 %x, %y", 16, 15, False),
    ("mul nsw i8 %x, %y", 16, 8, True),
    ("mul nsw i8 %x, %y", 16, 248, False),
    ("shl nuw i8 %x, %y", 2, 7, True),
    ("shl nuw i8 %x, %y", 1, 7, False),
    ("shl nsw i8 %x, %y", 1, 7, True),
    ("shl nsw i8 %x, %y", 255, 7, False),
    ("shl i8 %x, %y", 1, 8, True),
    ("lshr i8 %x, %y", 1, 8, True),
    ("ashr i8 %x, %y", 1, 9, True),
    ("lshr i8 %x, %y", 1, 7, False),
    ("lshr exact i8 %x, %y", 3, 1, True),
    ("lshr exact i8 %x, %y", 2, 1, False),
    ("ashr exact i8 %x, %y", 129, 1, True),
    ("ashr exact i8 %x, %y", 128, 1, False),
    ("udiv i8 %x, %y", 3, 0, True),
    ("udiv i8 %x, %y", 3, 2, False),
    ("urem i8 %x, %y", 3, 0, True),
    ("udiv exact i8 %x, %y", 3, 2, True),
    ("udiv exact i8 %x, %y", 4, 2, False),
    ("or disjoint i8 %x, %y", 3, 1, True),
    ("or disjoint i8 %x, %y", 2, 1, False),
    ("icmp samesign ult i8 %x, %y", 128, 1, True),
    ("icmp samesign ult i8 %x, %y", 129, 128, False),
    ("trunc nuw i8 %x to i4", 16, 0, True),
    ("trunc nuw i8 %x to i4", 15, 0, False),
    ("trunc nsw i8 %x to i4", 8, 0, True),
    ("trunc nsw i8 %x to i4", 248, 0, False),
    ("zext nneg i8 %x to i16", 128, 0, True),
    ("zext nneg i8 %x to i16", 127, 0, False),
    ("select i1 poison, i8 %x, i8 %y", 1, 1, True),
    ("select i1 true, i8 %x, i8 poison", 1, 1, False),
    ("select i1 false, i8 %x, i8 poison", 1, 1, True),
    ("and i8 poison, %y", 1, 0, True),
]

# Whole functions: whether (x, y) is a failure.
WHOLE = [
    (
        "define noundef range(i8 0, 2) i8 @f(i8 noundef %x, i8 noundef %y) {\nstart:\n  ret i8 %x\n}",
        1,
        0,
        False,
    ),
    (
        "define noundef range(i8 0, 2) i8 @f(i8 noundef %x, i8 noundef %y) {\nstart:\n  ret i8 %x\n}",
        2,
        0,
        True,
    ),
    (
        "define noundef range(i8 -2, 1) i8 @f(i8 noundef %x, i8 noundef %y) {\nstart:\n  ret i8 %x\n}",
        255,
        0,
        False,
    ),
    (
        "define noundef range(i8 -2, 1) i8 @f(i8 noundef %x, i8 noundef %y) {\nstart:\n  ret i8 %x\n}",
        1,
        0,
        True,
    ),
    (
        "define noundef i8 @f(i8 noundef %x, i8 noundef %y) {\nstart:\n  %c = icmp eq i8 %x, 0\n  br i1 %c, label %a, label %b\n\na:\n  unreachable\n\nb:\n  ret i8 %y\n}",
        0,
        1,
        True,
    ),
    (
        "define noundef i8 @f(i8 noundef %x, i8 noundef %y) {\nstart:\n  %c = icmp eq i8 %x, 0\n  br i1 %c, label %a, label %b\n\na:\n  unreachable\n\nb:\n  ret i8 %y\n}",
        1,
        1,
        False,
    ),
    (
        "define noundef i8 @f(i8 noundef %x, i8 noundef %y) {\nstart:\n  %c = icmp samesign ult i8 %x, %y\n  br i1 %c, label %a, label %a\n\na:\n  ret i8 %y\n}",
        128,
        1,
        True,
    ),
]

UNKNOWN = [
    "sdiv i8 %x, %y",
    "call i8 @llvm.ctpop.i8(i8 %x)",
    "load i8, ptr @table",
    "freeze i8 %x",
    "add nuw nsw nonsense i8 %x, %y",
    "xor disjoint i8 %x, %y",
    "getelementptr i8, ptr @table, i64 1",
    "and <2 x i8> %x, %y",
]


def words(random_source):
    """Numbers at the ends of every field, and any others."""
    ends = [0, 1, 2, 3, 9, 10, 18, 63, 64, (1 << 64) - 1, 1 << 63, 1 << 17, 1 << 18, 1 << 23, 1 << 24]
    choice = random_source.random()
    if choice < 0.3:
        return random_source.choice(ends)
    if choice < 0.7:
        word = 0
        for low, width in LAYOUT.values():
            word |= random_source.choice([0, 0, 1, (1 << width) - 1, random_source.getrandbits(width)]) << low
        return word
    return random_source.getrandbits(random_source.choice([8, 16, 32, 64]))


def evaluated(formula, arguments, numbers):
    pairs = [(a, z3.BitVecVal(n, a.size())) for a, n in zip(arguments, numbers)]
    return z3.simplify(z3.substitute(formula, *pairs))


def against_machine(compiled, symbols, seed):
    """The first difference, or None, and how many comparisons there were."""
    library = ctypes.CDLL(str(compiled.library))
    source = random.Random(seed)
    compared = 0
    for symbol in symbols:
        function = getattr(library, symbol)
        function.restype = ctypes.c_uint64
        parameters = compiled.module.get(symbol).parameters
        function.argtypes = [ctypes.c_uint64] * len(parameters)
        arguments = [z3.BitVec(f"a{i}", 64) for i in range(len(parameters))]
        outcome = llvm.call(compiled.module, symbol, *arguments)
        for _ in range(ROUNDS if parameters else 1):
            numbers = [words(source) for _ in parameters]
            said = evaluated(outcome.bits, arguments, numbers)
            fails = evaluated(outcome.fails, arguments, numbers)
            if not z3.is_false(fails):
                return {"function": symbol, "arguments": numbers, "fails": str(fails)}, compared
            if said.as_long() != function(*numbers):
                return {
                    "function": symbol,
                    "arguments": numbers,
                    "translated": hex(said.as_long()),
                    "run": hex(function(*numbers)),
                }, compared
            compared += 1
    return None, compared


def poison_case(instruction, x, y, is_poison):
    kind = (
        "i1"
        if instruction.startswith("icmp")
        else instruction.rsplit(" ", 1)[-1]
        if " to " in instruction
        else "i8"
    )
    text = f"define noundef {kind} @f(i8 noundef %x, i8 noundef %y) {{\nstart:\n  %r = {instruction}\n  ret {kind} %r\n}}"
    return whole_case(text, x, y, is_poison)


def whole_case(text, x, y, should_fail):
    outcome = llvm.call(llvm.parse(text + END), "f", z3.BitVecVal(x, 8), z3.BitVecVal(y, 8))
    solver = z3.Solver()
    solver.add(outcome.fails)
    return (solver.check() == z3.sat) == should_fail


def is_error(instruction):
    text = f"define noundef i8 @f(i8 noundef %x, i8 noundef %y) {{\nstart:\n  %r = {instruction}\n  ret i8 %r\n}}"
    try:
        llvm.call(llvm.parse(text + END), "f", z3.BitVec("x", 8), z3.BitVec("y", 8))
    except llvm.NotTranslated:
        return True
    return False


def outcome(name, wrong):
    return Result(name, "refuted" if wrong else "proved", 0.0, wrong or {})


def results(compiled, symbols, cases, case_symbols):
    llvm.MET.clear()
    wrong, count = against_machine(compiled, symbols, seed=1)
    yield outcome("the translator agrees with the machine on the page word's functions", wrong), count
    wrong, count = against_machine(cases, case_symbols, seed=2)
    yield outcome("the translator agrees with the machine on functions of each instruction", wrong), count
    unmet = sorted(llvm.KNOWN - llvm.MET)
    yield (
        outcome("each instruction the translator knows was run", {"never run": unmet} if unmet else None),
        len(llvm.KNOWN),
    )
    bad = [c for c in FLAGS if not poison_case(*c)] + [c for c in WHOLE if not whole_case(*c)]
    yield (
        outcome(
            "each flag makes poison of what breaks it, and of nothing else", {"cases": bad} if bad else None
        ),
        len(FLAGS) + len(WHOLE),
    )
    passed = [i for i in UNKNOWN if not is_error(i)]
    yield (
        outcome("an unknown instruction is an error", {"let through": passed} if passed else None),
        len(UNKNOWN),
    )

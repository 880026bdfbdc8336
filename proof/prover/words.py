"""The statements about single words: functions, pairs that undo each other, fields that hold what they are asked to."""

import z3

from . import llvm
from .fields import HEAD, HUGE, MAX, MOST_PINS, PIN_LIMIT, REF_LIMIT, Word, reachable, with_fields
from .statements import prove
from .transitions import EVERY, FUNCTIONS, may_split_to


def variables(function):
    """A variable for each argument; all that an argument's type lets through is said of it."""
    arguments, typed = [], []
    for name, kind in function.arguments.items():
        if not name:
            continue
        variable = z3.BitVec(name, 64)
        arguments.append(variable)
        if kind == "order":
            typed.append(z3.ULE(variable, MAX))
    return arguments, z3.And(typed) if typed else EVERY


def as_seen(function, arguments):
    """Words as words, all else as numbers."""
    kinds = [kind for name, kind in function.arguments.items() if name]
    return [Word(a) if kind == "word" else a for a, kind in zip(arguments, kinds)]


def expected(function, seen):
    """What the function gives, and that every value fits its field."""
    if function.answer:
        return function.answer(*seen), EVERY
    word = seen[0] if seen else Word(0)
    return with_fields(word, function.changes(*seen), function.keeps)


def what_it_says(function):
    if function.answer:
        return "answers by its field" if function.symbol == function.method else "answers what it is asked"
    kept = (
        "keeps every other field"
        if function.keeps == tuple(function.keeps) and len(function.keeps) > 5
        else "clears the rest"
    )
    refusal = ", refuses when it must and only then" if function.refuses else ""
    return f"changes what it names, {kept}{refusal}"


def function_statements(release, checked, only=None):
    for function in FUNCTIONS:
        if only not in (None, function.symbol):
            continue
        arguments, typed = variables(function)
        seen = as_seen(function, arguments)
        when = z3.And(typed, function.when(*seen))
        given = llvm.call(release, function.symbol, *arguments)
        yield prove(
            f"{function.symbol}: nothing undefined and no panic, for any arguments", z3.Not(given.fails)
        )
        careful = llvm.call(checked, function.symbol, *arguments)
        if not function.symbol.endswith("_limit") and function.symbol != "one_ref":
            yield prove(
                f"{function.symbol}: no arithmetic overflows, no assertion fails",
                z3.Not(careful.fails),
                when,
                sane(function, seen),
            )
        want, fits = expected(function, seen)
        allowed = EVERY
        if function.refuses:
            refused = function.refuses(*seen)
            allowed = z3.Not(refused)
            answer = llvm.call(release, function.symbol + "_allowed", *arguments)
            yield prove(
                f"{function.symbol}: refuses exactly when it has to", (answer.bits == 0) == refused, when
            )
            yield prove(
                f"{function.symbol}: whether it refuses is defined for any arguments", z3.Not(answer.fails)
            )
        yield prove(
            f"{function.symbol}: {what_it_says(function)}", z3.And(given.bits == want, fits), when, allowed
        )


def sane(function, seen):
    """A debug build asserts that orders are orders; a scribbled word may say anything, and `decode` alone is asked of such."""
    if function.symbol.startswith("decoded"):
        return EVERY
    return z3.And(
        [z3.And(z3.ULE(w.order, MAX), z3.ULE(w.fall, w.order)) for w in seen if isinstance(w, Word)] + [EVERY]
    )


def pair_statements(release):
    """Pairs that undo each other, through the compiled code on both sides."""
    w, n, o = z3.BitVecs("w n o", 64)
    begun = z3.BitVec("begun", 64)
    word = Word(w)

    def bits(symbol, *arguments):
        return llvm.call(
            release, symbol, *[z3.BitVecVal(a, 64) if isinstance(a, int) else a for a in arguments]
        ).bits

    def yes(symbol, *arguments):
        return bits(symbol, *arguments) == 1

    pinned = bits("pin", w, n)
    yield prove(
        "unpin undoes pin, any number of times at once",
        z3.And(yes("unpin_allowed", pinned, n), bits("unpin", pinned, n) == w),
        yes("pin_allowed", w, n),
    )
    more = bits("add_refs", w, n)
    yield prove(
        "drop_refs undoes add_refs, any number at once",
        z3.And(yes("drop_refs_allowed", more, n), bits("drop_refs", more, n) == w),
        yes("add_refs_allowed", w, n),
    )
    held = bits("hold", w, 1)
    yield prove(
        "unpin gives back a hold; what the hold marked stays marked",
        z3.And(yes("unpin_allowed", held, 1), bits("unpin", held, 1) == bits("hold", w, 0)),
        z3.ULT(word.pins, MOST_PINS),
    )
    splits = may_split_to(word, o)
    frozen = bits("begin_split", w, o)
    ended = Word(bits("end_split", frozen))
    kept = z3.And(
        [
            getattr(ended, f) == getattr(word, f)
            for f in ("pins", "refs", "generation", "piece", "hwpoison", "has_hwpoisoned")
        ]
    )
    yield prove(
        "a split keeps pins, references, generation and flags and arrives at its target",
        z3.And(kept, ended.order == o, ended.kind == HEAD),
        splits,
    )
    yield prove("target of a split under way is what it was begun with", bits("target", frozen) == o, splits)
    pinned_then_ended = bits("end_split", bits("pin", frozen, 1))
    yield prove(
        "a pin during a split is one after it",
        pinned_then_ended == bits("pin", bits("end_split", frozen), 1),
        splits,
        z3.ULT(word.pins, PIN_LIMIT),
    )
    yield prove(
        "a head that was split is still known as what it was",
        yes("was_of", ended.bits, word.order),
        splits,
    )
    uncoalesced = bits("frees_uncoalesced", w, o)
    yield prove(
        "what frees_uncoalesced makes is uncoalesced",
        z3.And(yes("is_uncoalesced", uncoalesced, o), z3.Not(yes("is_idle", uncoalesced))),
        yes("frees_uncoalesced_allowed", w, o),
        z3.ULE(o, MAX),
    )
    yield prove(
        "what is uncoalesced can't be taken for idle; claimed, it is",
        z3.And(z3.Not(yes("is_idle", w)), yes("is_idle", bits("claimed", w))),
        yes("is_uncoalesced", w, o),
        z3.ULE(o, MAX),
    )
    yield prove(
        "what is freed is idle or out of service, never live, and not uncoalesced",
        z3.And(
            yes("is_idle", bits("freed", w)) == (word.hwpoison == 0),
            z3.Not(yes("is_live_head", bits("freed", w))),
            z3.Not(yes("is_uncoalesced", bits("freed", w), o)),
        ),
        z3.ULE(o, MAX),
    )
    yield prove(
        "frees_at_once only without pin and reference",
        z3.And(word.pins == 0, word.refs == 0),
        yes("frees_at_once_allowed", w),
        yes("is_head", w),
    )
    yield prove(
        "what can be pinned alone is in use",
        z3.Or(word.pins != 0, word.refs != 0),
        yes("is_pinnable_alone", w),
    )
    merging = bits("begin_merge", w, o, n)
    yield prove(
        "a merge keeps pins and references of its head, and begins a generation",
        z3.And([getattr(Word(bits("end_merge", merging)), f) == getattr(word, f) for f in ("pins", "refs")]),
        z3.ULE(o, MAX),
    )
    piece = Word(bits("piece", w, begun, n))
    yield prove(
        "a piece keeps the pins of the tail it was, whatever split begun it",
        z3.And(piece.pins == word.pins, piece.hwpoison == word.hwpoison, piece.refs == n),
        z3.ULE(n, REF_LIMIT),
    )


def limit_statements(release):
    """Holds never overflow: a word full of callers' pins has room for one of each tail and part, and for millions in passing."""
    w, tails, passing = z3.BitVecs("w tails passing", 64)
    word = Word(w)
    most_tails = z3.ULE(tails, 2 * 511)
    room = MOST_PINS - PIN_LIMIT - 2 * 511
    held = llvm.call(release, "hold", w, z3.BitVecVal(1, 64)).bits
    yield prove(
        f"hold has room on every word with all its pins, a hold for each of 1,022 parts and {room - 1:,} in passing",
        z3.And(Word(held).pins == word.pins + 1, Word(held).refs == word.refs),
        z3.ULE(word.pins, PIN_LIMIT + tails + passing),
        most_tails,
        z3.ULT(passing, room),
    )
    added = w + 1
    yield prove(
        "one more pin on a word with room changes the pins alone",
        with_fields(word, {"pins": word.pins + 1})[0] == added,
        z3.ULT(word.pins, MOST_PINS),
    )
    yield prove(
        "one pin less on a word with pins changes the pins alone",
        with_fields(word, {"pins": word.pins - 1})[0] == w - 1,
        word.pins != 0,
    )
    yield prove(
        "one reference more below the limit changes the references alone",
        with_fields(word, {"refs": word.refs + 1})[0] == w + (1 << 24),
        z3.ULT(word.refs, REF_LIMIT),
    )
    yield prove(
        "one reference less where there is one changes the references alone",
        with_fields(word, {"refs": word.refs - 1})[0] == w - (1 << 24),
        word.refs != 0,
    )
    yield prove("a fresh map of zeros is reachable", reachable(Word(0)))

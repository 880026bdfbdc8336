"""What each function of the page word does, and each step that callers take with it.

Two lists. `FUNCTIONS` says what each function gives for *every* word (or, where it is said, for every word that its callers can hand
it): which fields it changes and which it keeps, and when it refuses. `STEPS` says between which states a frame passes by it, and who
takes the step.

A function of `page_word/` that no entry names, and an entry whose function isn't there, are errors.
"""

from dataclasses import dataclass
from typing import Callable

import z3

from .fields import (
    AGAIN,
    ALL,
    HEADS_ONLY,
    FREE,
    HEAD,
    HUGE,
    MAX,
    MERGING,
    MOST_PINS,
    PAGE,
    PIN_LIMIT,
    REF_LIMIT,
    OUT,
    SPLITTING,
    TAIL,
    UNKNOWN,
    UNSPLITTABLE,
    among,
    nothing_but,
    truth,
)

EVERY = z3.BoolVal(True)


@dataclass
class Function:
    """One function. `arguments`: of what type each is, by name."""

    symbol: str
    arguments: dict
    # In place of the fields: the number that a question answers.
    answer: Callable | None = None
    changes: Callable | None = None
    # Fields that stay as they were, besides those changed; all others become 0.
    keeps: Callable | tuple = ALL
    refuses: Callable | None = None
    when: Callable = lambda *_: EVERY
    # Its name in `page_word/`, where the symbol is another.
    method: str = ""


def question(symbol, answer, arguments=None, when=lambda *_: EVERY, method=""):
    wrapped = lambda *a: truth(r) if z3.is_bool(r := answer(*a)) else r
    return Function(symbol, arguments or {"w": "word"}, answer=wrapped, when=when, method=method)


W = {"w": "word"}
WITH_ORDER = {"w": "word", "o": "order"}
WITH_NUMBER = {"w": "word", "n": "number"}


def whole_generation(w):
    return (w.generation + 1) & 63


def becomes_heads_only(w, target, explicit_tails):
    return z3.And(z3.ULE(w.order, HUGE), target != 0, explicit_tails == 0)


def split_begun(w, target, pins, explicit_tails, drop):
    """The split is heads-only if all tails are implicit. `drop`: that of the head, or 0 where it is forgotten."""
    heads_only = becomes_heads_only(w, target, explicit_tails)
    small = z3.ULE(w.order, HUGE)
    return {
        "pins": pins,
        "drop": w.order - target + z3.If(drop == 0, z3.BitVecVal(0, 64), z3.BitVecVal(AGAIN, 64)),
        "kind": z3.If(heads_only, z3.BitVecVal(HEADS_ONLY, 64), z3.BitVecVal(SPLITTING, 64)),
        "explicit_tails": z3.If(z3.And(small, z3.Not(heads_only)), z3.BitVecVal(1, 64), explicit_tails),
    }


def may_fall_to(w, target):
    return z3.And(
        w.kind == HEAD, z3.ULE(w.order, MAX), z3.ULT(target, w.order), z3.ULE(w.order - target, HUGE)
    )


def may_split_to(w, target):
    """A head that has a rise has less room for its drop."""
    return z3.And(may_fall_to(w, target), z3.Or(w.drop == 0, z3.ULE(w.order - target + AGAIN, UNKNOWN)))


def smallest_pieces(w):
    floor = z3.If(z3.UGT(w.order, HUGE), z3.BitVecVal(HUGE, 64), z3.BitVecVal(PAGE, 64))
    step = UNKNOWN - AGAIN
    lower = z3.If(z3.UGT(w.order, step), w.order - step, z3.BitVecVal(0, 64))
    return z3.If(z3.Or(w.drop == 0, z3.ULT(lower, floor)), floor, lower)


def was_of(w, order):
    """Whether the block was of that order in this generation, as far as the word can tell."""
    splitting = among(w.kind, SPLITTING, HEADS_ONLY)
    unknown = z3.If(splitting, z3.UGT(w.drop, AGAIN), w.drop == UNKNOWN)
    rise = z3.If(splitting, z3.BitVecVal(0, 64), w.drop)
    return z3.And(z3.ULE(w.order, order), z3.Or(unknown, z3.ULE(order, w.order + rise)))


def explicit_tails_if(condition, w):
    return z3.If(condition, w.explicit_tails, z3.BitVecVal(0, 64))


def is_whole_pageblock(w):
    return z3.UGE(w.order, HUGE)


def freed_fields(w):
    return {
        "kind": z3.If(w.hwpoison == 1, z3.BitVecVal(OUT, 64), z3.BitVecVal(FREE, 64)),
        "explicit_tails": explicit_tails_if(is_whole_pageblock(w), w),
    }


def piece_fields(w, begun, n):
    page = begun.target == 0
    zero = z3.BitVecVal(0, 64)
    return {
        "kind": HEAD,
        "piece": 1,
        "order": begun.target,
        "refs": n,
        "generation": whole_generation(w),
        "has_hwpoisoned": z3.If(page, zero, begun.has_hwpoisoned),
        "explicit_tails": z3.If(page, zero, z3.If(z3.UGT(begun.order, HUGE), w.explicit_tails, begun.explicit_tails)),
    }


def sum_at_most(field, n, limit):
    """In numbers that don't wrap."""
    return z3.And(z3.ULE(n, limit), z3.ULE(field + n, limit))


def decoded_kind(w):
    # In the order of `protocol::Kind`.
    implicit, free, page, head, tail, splitting, merging, reserved, offline = (
        z3.BitVecVal(i, 64) for i in range(9)
    )
    cases = [
        (w.is_implicit, implicit),
        (w.kind == TAIL, tail),
        (w.kind == FREE, free),
        (z3.And(w.is_settled, w.order == 0), page),
        (w.is_settled, head),
        (among(w.kind, SPLITTING, HEADS_ONLY), splitting),
        (w.kind == MERGING, merging),
        (w.hwpoison == 0, reserved),
    ]
    result = offline
    for condition, kind in reversed(cases):
        result = z3.If(condition, kind, result)
    return result


def least(x, limit):
    return z3.If(z3.ULT(x, limit), x, z3.BitVecVal(limit, 64))


QUESTIONS = [
    question("pins", lambda w: w.pins),
    question("refs", lambda w: w.refs),
    question("generation", lambda w: w.generation),
    question("order_of", lambda w: w.order, method="order"),
    question("target", lambda w: w.target & 0xFF),
    question("is_unsplittable", lambda w: w.kind == UNSPLITTABLE),
    question("is_hwpoison", lambda w: w.hwpoison == 1),
    question("has_hwpoisoned", lambda w: w.has_hwpoisoned == 1),
    question("is_implicit", lambda w: w.is_implicit),
    question("all_tails_implicit", lambda w: w.explicit_tails == 0),
    question("is_tail", lambda w: w.kind == TAIL),
    question("is_head", lambda w: w.is_head),
    question("is_settled_head", lambda w: w.is_settled),
    question("is_splitting", lambda w: among(w.kind, SPLITTING, HEADS_ONLY)),
    question("is_heads_only_split", lambda w: w.kind == HEADS_ONLY),
    question("is_merging", lambda w: w.kind == MERGING),
    question("is_live_head", lambda w: w.is_live),
    question(
        "is_pinnable_alone",
        lambda w: z3.Or(z3.And(w.is_settled, w.is_live), z3.And(w.kind == TAIL, w.pins != 0)),
    ),
    question("is_settled_head_of", lambda w, o: z3.And(w.is_settled, w.order == o), WITH_ORDER),
    question(
        "is_head_to_hold_of", lambda w, o: z3.And(w.kind == HEAD, w.is_live, w.order == o), WITH_ORDER
    ),
    # Never more than the limit, so that more than it are none.
    question(
        "has_more_refs_than",
        lambda w, n: z3.UGT(w.refs, n),
        WITH_NUMBER,
        lambda w, _: z3.ULE(w.refs, REF_LIMIT),
    ),
    question(
        "has_room_for_refs",
        lambda w, n: z3.And(w.refs != 0, sum_at_most(w.refs, n, REF_LIMIT)),
        WITH_NUMBER,
    ),
    question(
        "is_plain_tail_of",
        lambda w, o: z3.And(nothing_but(w, "generation", "order"), z3.Or(w.order == 0, w.order == o)),
        WITH_ORDER,
    ),
    question("is_mergeable", lambda w: z3.And(w.kind == HEAD, w.refs == 1)),
    question(
        "is_plain_page",
        lambda w: z3.And(w.kind == HEAD, w.order == 0, z3.Not(w.flagged), w.pins == 0, w.refs == 1),
    ),
    question("is_idle", lambda w: w.is_idle),
    question("is_piece", lambda w: w.piece == 1),
    question("was_of", was_of, WITH_ORDER),
    question("smallest_pieces", smallest_pieces, when=lambda w: z3.ULE(w.order, MAX)),
    question("is_uncoalesced", lambda w, o: w.is_uncoalesced(o), WITH_ORDER),
    question("decoded_kind", decoded_kind, method="decode"),
    question("decoded_order", lambda w: least(w.order, MAX), method="decode"),
    question("decoded_pins", lambda w: w.pins, method="decode"),
    question("decoded_refs", lambda w: w.refs, method="decode"),
    question("decoded_generation", lambda w: w.generation, method="decode"),
    question("decoded_unsplittable", lambda w: w.kind == UNSPLITTABLE, method="decode"),
    question("decoded_hwpoison", lambda w: w.hwpoison == 1, method="decode"),
    question("pin_limit", lambda: z3.BitVecVal(PIN_LIMIT, 64), arguments={"": ""}, method="PIN_LIMIT"),
    question("ref_limit", lambda: z3.BitVecVal(REF_LIMIT, 64), arguments={"": ""}, method="REF_LIMIT"),
    question("one_ref", lambda: z3.BitVecVal(1 << 24, 64), arguments={"": ""}, method="ONE_REF"),
]

TRANSITIONS = [
    Function(
        "as_uncoalesced",
        WITH_ORDER,
        changes=lambda w, o: {"kind": FREE, "order": o, "has_hwpoisoned": 1, "explicit_tails": explicit_tails_if(o != 0, w)},
        keeps=("generation",),
    ),
    Function("claimed", W, changes=lambda w: {"kind": FREE}, keeps=("generation", "explicit_tails")),
    Function(
        "pin",
        WITH_NUMBER,
        changes=lambda w, n: {"pins": w.pins + n},
        refuses=lambda w, n: z3.Not(sum_at_most(w.pins, n, PIN_LIMIT)),
    ),
    Function(
        "hold",
        WITH_NUMBER,
        changes=lambda w, n: {
            "pins": w.pins + n,
            "explicit_tails": 1,
            "kind": z3.If(w.kind == HEADS_ONLY, z3.BitVecVal(SPLITTING, 64), w.kind),
        },
        when=lambda w, n: sum_at_most(w.pins, n, MOST_PINS),
    ),
    Function(
        "hold_settled",
        W,
        changes=lambda w: {"pins": w.pins + 1, "explicit_tails": 1},
        when=lambda w: z3.ULT(w.pins, MOST_PINS),
    ),
    Function("with_explicit_tails", W, changes=lambda w: {"explicit_tails": 1}),
    Function(
        "as_free",
        {"w": "word", "flag": "flag"},
        changes=lambda w, flag: {"kind": FREE, "explicit_tails": truth(flag == 0)},
        keeps=("generation",),
    ),
    Function(
        "unpin",
        WITH_NUMBER,
        changes=lambda w, n: {"pins": w.pins - n},
        refuses=lambda w, n: z3.ULT(w.pins, n),
    ),
    Function(
        "add_refs",
        WITH_NUMBER,
        changes=lambda w, n: {"refs": w.refs + n},
        refuses=lambda w, n: z3.Not(sum_at_most(w.refs, n, REF_LIMIT)),
    ),
    Function(
        "drop_refs",
        WITH_NUMBER,
        changes=lambda w, n: {"refs": w.refs - n},
        refuses=lambda w, n: z3.ULT(w.refs, n),
    ),
    Function(
        "tail_of",
        WITH_ORDER,
        changes=lambda w, o: {"kind": TAIL, "order": o},
        keeps=("pins", "generation", "hwpoison", "explicit_tails"),
    ),
    Function(
        "publish",
        {"w": "word", "o": "order", "flag": "flag"},
        changes=lambda w, o, flag: {
            "kind": z3.If(flag != 0, z3.BitVecVal(UNSPLITTABLE, 64), z3.BitVecVal(HEAD, 64)),
            "order": o,
            "refs": 1,
            "generation": whole_generation(w),
            "explicit_tails": explicit_tails_if(o != 0, w),
        },
        keeps=(),
    ),
    Function("freed", W, changes=freed_fields, keeps=("generation", "hwpoison")),
    Function(
        "frees_at_once",
        W,
        changes=freed_fields,
        keeps=("generation",),
        refuses=lambda w: z3.Or(w.is_live, z3.UGT(w.order, HUGE), w.hwpoison == 1, w.has_hwpoisoned == 1),
        # Words of an order that there is not are not asked.
        when=lambda w: z3.ULE(w.order, MAX),
    ),
    Function(
        "frees_uncoalesced",
        WITH_ORDER,
        changes=lambda w, o: {"kind": FREE, "order": o, "has_hwpoisoned": 1},
        keeps=("generation", "explicit_tails", "piece", "drop"),
        refuses=lambda w, o: z3.Not(
            z3.And(
                w.kind == HEAD,
                w.order == o,
                w.refs == 1,
                nothing_but(w, "kind", "order", "refs", "generation", "explicit_tails", "piece", "drop"),
                z3.Or(w.explicit_tails == 0, o != 0),
            )
        ),
    ),
    Function("as_implicit", W, changes=lambda w: {}, keeps=("generation",)),
    Function(
        "begin_split",
        WITH_ORDER,
        changes=lambda w, o: split_begun(w, o, w.pins, w.explicit_tails, w.drop),
        when=may_split_to,
    ),
    Function(
        "begin_last_split",
        WITH_ORDER,
        changes=lambda w, o: {"kind": SPLITTING, "drop": w.order - o},
        when=may_fall_to,
    ),
    Function(
        "begin_self_split",
        WITH_ORDER,
        changes=lambda w, o: {"kind": SPLITTING, "drop": w.order - o, "pins": w.pins + 1},
        when=lambda w, o: z3.And(may_fall_to(w, o), z3.ULT(w.pins, MOST_PINS)),
    ),
    Function(
        "end_split",
        W,
        changes=lambda w: {
            "kind": HEAD,
            "order": w.target,
            "drop": z3.If(z3.UGT(w.drop, AGAIN), z3.BitVecVal(UNKNOWN, 64), w.drop),
            "explicit_tails": explicit_tails_if(w.target != 0, w),
        },
        when=lambda w: z3.And(among(w.kind, SPLITTING, HEADS_ONLY), z3.ULE(w.order, MAX), z3.ULE(w.fall, w.order)),
    ),
    Function(
        "page",
        WITH_NUMBER,
        changes=lambda w, n: {"kind": HEAD, "piece": 1, "refs": n, "generation": whole_generation(w)},
        keeps=("pins", "hwpoison"),
        when=lambda w, n: z3.ULE(n, REF_LIMIT),
    ),
    Function(
        "piece",
        {"w": "word", "begun": "word", "n": "number"},
        changes=piece_fields,
        keeps=("pins", "hwpoison"),
        when=lambda w, begun, n: z3.And(
            z3.ULE(n, REF_LIMIT), z3.ULE(begun.order, MAX), z3.ULE(begun.fall, begun.order)
        ),
    ),
    Function(
        "begin_merge",
        {"w": "word", "o": "order", "flag": "flag"},
        changes=lambda w, o, flag: {
            "kind": MERGING,
            "drop": 0,
            "generation": whole_generation(w),
            "order": o,
            "explicit_tails": truth(flag == 0),
        },
    ),
    Function("end_merge", W, changes=lambda w: {"kind": HEAD}),
    Function("set_apart", W, changes=lambda w: {"kind": MERGING}),
    Function("adopted", W, changes=lambda w: {"generation": whole_generation(w), "piece": 0, "drop": 0}),
    Function("reserved", {"": ""}, changes=lambda: {"kind": OUT}, keeps=()),
    Function("as_offline", W, changes=lambda w: {"kind": OUT, "hwpoison": 1}, keeps=("generation",)),
    Function("back_in_service", W, changes=lambda w: {"kind": FREE}, keeps=("generation",)),
    Function(
        "mark_hwpoison",
        W,
        changes=lambda w: {
            "hwpoison": 1,
            "has_hwpoisoned": z3.If(z3.And(w.is_head, w.order != 0), z3.BitVecVal(1, 64), w.has_hwpoisoned),
        },
        when=lambda w: z3.ULE(w.order, MAX),
    ),
    Function("mark_has_hwpoisoned", W, changes=lambda w: {"has_hwpoisoned": 1}),
]

# Part of transitions, and no step alone.
HELPERS = [Function("renewed", W, changes=lambda w: {"generation": whole_generation(w)})]

FUNCTIONS = QUESTIONS + TRANSITIONS + HELPERS

# Private parts of the functions above, seen only through them, and the one constructor.
PARTS = {
    "build",
    "kind_bits",
    "generation_bits",
    "next_generation",
    "is_whole_pageblock",
    "drop_bits",
    "with_kind",
    "from_bits",
    "fmt",
}

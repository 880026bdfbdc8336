"""Implicit tails and the marks of heads: what a head says of its tails is so.

A block with head H, a frame Q that heads a piece of it after a split to larger pieces, and a tail T of that piece. T is implicit, or
explicit: it names the order of the block whose tail it is. A split of a block whose tails are all implicit writes the heads of the pieces alone;
a merge may make tails implicit.
"""

import z3

from .block import rule
from .machine import Machine, Missing

FREE, WHOLE, HEADS_ONLY, SPLIT, MERGE, PIECE = range(6)
IMPLICIT, OTHER, HEAD, PAGE = range(4)
OF_H, OF_Q, ALONE = 1, 2, 3
If, And, Or, Not, Implies = z3.If, z3.And, z3.Or, z3.Not, z3.Implies
NUMBER, YES, NO = z3.IntVal, z3.BoolVal(True), z3.BoolVal(False)

SORTS = {
    "h": ("free", "whole", "heads-only", "splitting", "merging", "piece"),
    "hm": "bool",  # H says that a tail may be explicit
    "q": ("implicit", "a tail or free", "head of a piece", "page"),
    "qm": "bool",  # Q says that a tail may be explicit
    "t": ("implicit", "tail of H", "tail of Q", "page"),
    "tp": "count",  # pins of T
    # Threads with a hold, about to make T's first pin: on which head, and how they saw T.
    "on_h_implicit": "count",
    "on_h": "count",
    "on_q_implicit": "count",
    "on_q": "count",
    "to_implicit": "bool",  # the merge makes tails implicit
}


def holds_h(s):
    return s.on_h_implicit + s.on_h + If(And(s.tp > 0, s.t == OF_H), 1, 0)


def holds_q(s):
    return s.on_q_implicit + s.on_q + If(And(s.tp > 0, s.t == OF_Q), 1, 0)


def no_counts(s):
    return And(holds_h(s) == 0, holds_q(s) == 0, s.tp == 0)


def heads_t(h):
    return Or(h == WHOLE, h == HEADS_ONLY, h == SPLIT, h == MERGE)


def hold(s, who, marks=YES, dirties=YES):
    """A hold on H says that a tail may be explicit; of a heads-only split it makes an ordinary one."""
    return {who: getattr(s, who) + 1, "hm": Or(s.hm, marks), "h": If(And(s.h == HEADS_ONLY, dirties), SPLIT, s.h)}


def handed_out(s, flag, says):
    all_implicit = And(s.t == IMPLICIT, s.q == IMPLICIT)
    return {
        "h": NUMBER(WHOLE),
        "t": If(s.t == IMPLICIT, IMPLICIT, OF_H),
        "q": If(s.q == IMPLICIT, IMPLICIT, OTHER),
        "hm": says(Or(Not(all_implicit), flag)),
    }


MERGED_Q = lambda s: Or(s.q == IMPLICIT, s.q == OTHER)

RULES = [
    rule(
        "the block is handed out",
        "life::prepare_tails life::publish",
        lambda s: s.h == FREE,
        lambda s, number, flag: handed_out(s, flag, lambda m: m),
    ),
    rule(
        "a free pageblock becomes implicit",
        "life::scrub",
        lambda s: s.h == FREE,
        lambda s: {"t": NUMBER(IMPLICIT), "q": NUMBER(IMPLICIT)},
    ),
    rule(
        "a hold on H for T, implicit",
        "pin::hold pin::count_on pin::hold_head_of",
        lambda s: And(heads_t(s.h), s.t == IMPLICIT),
        lambda s: hold(s, "on_h_implicit"),
    ),
    rule(
        "a hold on H for T",
        "pin::hold pin::count_on pin::hold_head_of",
        lambda s: And(heads_t(s.h), s.t == OF_H, s.tp == 0),
        lambda s: hold(s, "on_h"),
    ),
    rule(
        "first pin of T, implicit, under H",
        "pin::pin_first",
        lambda s: And(s.on_h_implicit > 0, s.t == IMPLICIT),
        lambda s: {"t": NUMBER(OF_H), "tp": NUMBER(1), "on_h_implicit": s.on_h_implicit - 1},
    ),
    rule(
        "first pin of T under H",
        "pin::pin_first",
        lambda s: And(s.on_h > 0, s.t == OF_H, s.tp == 0),
        lambda s: {"tp": NUMBER(1), "on_h": s.on_h - 1},
    ),
    rule(
        "a first pin under H fails",
        "pin::pin_first",
        lambda s: s.on_h_implicit > 0,
        lambda s: {"on_h_implicit": s.on_h_implicit - 1},
    ),
    rule(
        "a first pin under H fails, of T seen explicit",
        "pin::pin_first",
        lambda s: s.on_h > 0,
        lambda s: {"on_h": s.on_h - 1},
    ),
    rule(
        "a hold on Q for T, implicit",
        "pin::hold pin::count_on pin::hold_head_of",
        # Also while a split or merge of H is under way, by a thread that found Q to be a head before.
        lambda s: And(Or(s.h == PIECE, s.h == HEADS_ONLY, s.h == SPLIT, s.h == MERGE), s.q == HEAD, s.t == IMPLICIT),
        lambda s: {"on_q_implicit": s.on_q_implicit + 1, "qm": YES},
    ),
    rule(
        "first pin of Q, a tail",
        "pin::pin_first",
        lambda s: And(heads_t(s.h), s.hm, s.q == IMPLICIT, Not(s.to_implicit)),
        lambda s: {"q": NUMBER(OTHER)},
    ),
    rule(
        "a hold on Q for T",
        "pin::hold pin::count_on pin::hold_head_of",
        lambda s: And(s.q == HEAD, s.t == OF_Q, s.tp == 0),
        lambda s: {"on_q": s.on_q + 1, "qm": YES},
    ),
    rule(
        "first pin of T, implicit, under Q",
        "pin::pin_first",
        lambda s: And(s.on_q_implicit > 0, s.t == IMPLICIT),
        lambda s: {"t": NUMBER(OF_Q), "tp": NUMBER(1), "on_q_implicit": s.on_q_implicit - 1},
    ),
    rule(
        "first pin of T under Q",
        "pin::pin_first",
        lambda s: And(s.on_q > 0, s.t == OF_Q, s.tp == 0),
        lambda s: {"tp": NUMBER(1), "on_q": s.on_q - 1},
    ),
    rule(
        "a first pin under Q fails",
        "pin::pin_first",
        lambda s: s.on_q_implicit > 0,
        lambda s: {"on_q_implicit": s.on_q_implicit - 1},
    ),
    rule(
        "a first pin under Q fails, of T seen explicit",
        "pin::pin_first",
        lambda s: s.on_q > 0,
        lambda s: {"on_q": s.on_q - 1},
    ),
    rule(
        "one more pin of T",
        "pin::try_get pin::count_on pin::get",
        lambda s: Or(s.tp > 0, s.t == ALONE),
        lambda s: {"tp": s.tp + 1},
    ),
    rule("T is unpinned", "pin::unpin_step misuse::raw_put", lambda s: s.tp > 0, lambda s: {"tp": s.tp - 1}),
    rule(
        "the block is freed",
        "life::free_block",
        lambda s: And(s.h == WHOLE, no_counts(s)),
        lambda s: {"h": NUMBER(FREE)},
    ),
    # Its first page may be pinned, which is not told here.
    rule(
        "a dying block that was never held is taken apart",
        "split::scatter_pages",
        lambda s: And(s.h == WHOLE, Not(s.hm)),
        lambda s: {"h": NUMBER(FREE)},
    ),
    rule(
        "the pieces are freed",
        "life::free_block",
        lambda s: And(s.h == PIECE, no_counts(s)),
        lambda s: {"h": NUMBER(FREE), "q": NUMBER(OTHER), "t": If(s.t == IMPLICIT, IMPLICIT, OF_Q)},
    ),
    rule(
        "a split to pieces begins",
        "split::split_piece token::split_on",
        lambda s: s.h == WHOLE,
        lambda s: {"h": If(s.hm, SPLIT, HEADS_ONLY)},
    ),
    # Also by a helper that still takes the split for heads-only.
    rule(
        "Q becomes a head while all are implicit",
        "split::split_heads_only",
        lambda s: And(Or(s.h == HEADS_ONLY, s.h == SPLIT), s.q == IMPLICIT),
        lambda s: {"q": NUMBER(HEAD), "qm": NO},
    ),
    rule(
        "the heads-only split ends",
        "split::split_heads_only",
        lambda s: And(s.h == HEADS_ONLY, s.q != IMPLICIT),
        lambda s: {"h": NUMBER(PIECE)},
    ),
    rule(
        "Q becomes a head",
        "split::convert",
        lambda s: And(s.h == SPLIT, Or(s.q == IMPLICIT, s.q == OTHER)),
        lambda s: {"q": NUMBER(HEAD), "qm": YES},
    ),
    rule("Q is marked", "split::convert", lambda s: And(s.h == SPLIT, s.q == HEAD), lambda s: {"qm": YES}),
    # Q comes before T in the loop over the tails.
    rule(
        "T becomes a tail of Q",
        "split::convert",
        lambda s: And(s.h == SPLIT, s.q == HEAD, s.qm, Or(s.t == IMPLICIT, s.t == OF_H)),
        lambda s: {"t": NUMBER(OF_Q)},
    ),
    rule(
        "the split ends",
        "split::settle",
        lambda s: And(s.h == SPLIT, s.q == HEAD, s.t == OF_Q),
        lambda s: {"h": NUMBER(PIECE)},
    ),
    rule(
        "Q's piece is taken to pages",
        "split::split_piece split::convert merge::to_pages",
        lambda s: And(Or(s.h == PIECE, s.h == MERGE), s.q == HEAD),
        lambda s: {"q": NUMBER(PAGE), "t": If(Or(s.t == IMPLICIT, s.t == OF_Q), ALONE, s.t)},
    ),
    rule(
        "a merge begins",
        "merge::merge merge::check_pieces merge::join",
        lambda s: And(s.h == PIECE, Or(s.q == HEAD, s.q == PAGE)),
        lambda s, number, flag: {
            "h": NUMBER(MERGE),
            "to_implicit": And(flag, no_counts(s)),
            "hm": Not(And(flag, no_counts(s))),
        },
    ),
    rule(
        "Q is taken in",
        "merge::absorb merge::adopt",
        lambda s: And(s.h == MERGE, s.q == HEAD, holds_q(s) == 0),
        lambda s: {"q": If(s.to_implicit, IMPLICIT, OTHER)},
    ),
    rule(
        "Q, a page, is taken in",
        "merge::absorb merge::adopt",
        lambda s: And(s.h == MERGE, s.q == PAGE),
        lambda s: {
            "q": If(And(s.to_implicit, holds_q(s) == 0), IMPLICIT, OTHER),
            "to_implicit": And(s.to_implicit, holds_q(s) == 0),
        },
    ),
    rule(
        "T is taken in",
        "merge::adopt_tails merge::adopt merge::absorb",
        lambda s: And(s.h == MERGE, MERGED_Q(s), Or(s.t == OF_Q, s.t == ALONE)),
        lambda s: {"t": If(And(s.to_implicit, s.tp == 0), IMPLICIT, OF_H), "to_implicit": And(s.to_implicit, s.tp == 0)},
    ),
    rule(
        "the merge ends",
        "merge::join",
        lambda s: And(s.h == MERGE, MERGED_Q(s), Or(s.t == IMPLICIT, s.t == OF_H)),
        lambda s: {"h": NUMBER(WHOLE), "hm": Or(s.hm, Not(s.to_implicit)), "to_implicit": NO},
    ),
]


def initial(s):
    counts = [getattr(s, v) == 0 for v, sort in SORTS.items() if sort == "count"]
    return And(s.h == FREE, s.q == IMPLICIT, s.t == IMPLICIT, Not(s.hm), Not(s.qm), Not(s.to_implicit), *counts)


SAFE = {
    "a pinned tail's head heads it": lambda s: And(
        Implies(And(s.tp > 0, s.t == OF_H), heads_t(s.h)), Implies(And(s.tp > 0, s.t == OF_Q), s.q == HEAD)
    ),
    "an explicit tail of a settled block names that block": lambda s: And(
        Implies(s.h == WHOLE, Or(s.t == IMPLICIT, s.t == OF_H)),
        Implies(And(s.h == PIECE, s.q == HEAD), Or(s.t == IMPLICIT, s.t == OF_Q)),
    ),
    "a head that says its tails are implicit has none that is explicit": lambda s: And(
        Implies(And(s.h == WHOLE, Not(s.hm)), s.t == IMPLICIT),
        # Once Q heads a piece, T is no tail of H any more.
        Implies(And(s.h == HEADS_ONLY, Not(s.hm)), Or(s.t == IMPLICIT, And(s.q == HEAD, s.qm, s.t == OF_Q))),
        Implies(And(s.h == PIECE, s.q == HEAD, Not(s.qm)), s.t == IMPLICIT),
    ),
}

HELPS = {
    "and no one is about to change that": lambda s: And(
        Implies(And(heads_t(s.h), Not(s.hm)), And(s.on_h_implicit == 0, s.on_h == 0)),
        Implies(
            And(Or(s.h == WHOLE, And(s.h == HEADS_ONLY, s.q != HEAD)), Not(s.hm)),
            And(s.on_q_implicit == 0, s.on_q == 0),
        ),
        Implies(And(s.q == HEAD, Not(s.qm)), And(s.on_q_implicit == 0, s.on_q == 0)),
    ),
    # Holds are counted in the word.
    "a held word is not implicit": lambda s: And(
        Implies(s.q == IMPLICIT, And(s.on_q_implicit == 0, s.on_q == 0)), Implies(s.tp > 0, s.t != IMPLICIT)
    ),
    "a heads-only split": lambda s: Implies(s.h == HEADS_ONLY, And(Not(s.hm), Or(s.q == IMPLICIT, s.q == HEAD))),
    "an ordinary split": lambda s: Implies(
        s.h == SPLIT, And(s.hm, s.t != ALONE, s.q != PAGE, Implies(s.t == OF_Q, And(s.q == HEAD, s.qm)))
    ),
    "whole": lambda s: Implies(s.h == WHOLE, And(MERGED_Q(s), Implies(Not(s.hm), s.q == IMPLICIT))),
    "free": lambda s: Implies(s.h == FREE, And(no_counts(s), MERGED_Q(s), s.t != ALONE)),
    "pieces": lambda s: And(
        Implies(
            s.h == PIECE, Or(And(s.q == HEAD, Or(s.t == IMPLICIT, s.t == OF_Q)), And(s.q == PAGE, s.t == ALONE))
        ),
        Implies(And(s.h == PIECE, s.t == IMPLICIT), s.on_h_implicit == 0),
    ),
    "a merge": lambda s: And(
        Implies(s.to_implicit, s.h == MERGE),
        Implies(And(s.h == MERGE, s.q == HEAD), And(s.t != ALONE, Implies(s.t == OF_Q, s.qm))),
        Implies(And(s.h == MERGE, s.q == PAGE), Or(s.t == ALONE, s.t == OF_H)),
        Implies(And(s.to_implicit, MERGED_Q(s)), And(s.q == IMPLICIT, s.on_q_implicit == 0, s.on_q == 0)),
        Implies(And(s.to_implicit, s.t == OF_H), s.hm),
    ),
    # So a compare-and-swap from what was seen is right about the head.
    "a first pin under Q": lambda s: And(
        Implies(And(s.on_q_implicit > 0, s.t == IMPLICIT), s.q == HEAD),
        Implies(And(s.on_q > 0, s.t == OF_Q), s.q == HEAD),
    ),
    "a first pin under H": lambda s: And(
        Implies(And(s.on_h_implicit > 0, s.t == IMPLICIT), heads_t(s.h)),
        Implies(And(s.on_h > 0, s.t == OF_H), heads_t(s.h)),
    ),
}


def like(name, when=None, does=None):
    original = next(r for r in RULES if r.name == name)
    return (
        rule(name, " ".join(original.by), when or original.when, does)
        if does
        else type(original)(name, original.by, when, original.does)
    )


WITHOUT = {
    "W8": Missing(
        [
            like(
                "a hold on H for T, implicit",
                does=lambda s: hold(s, "on_h_implicit", marks=s.h != HEADS_ONLY, dirties=NO),
            )
        ],
        [
            "the block is handed out",
            "a split to pieces begins",
            "a hold on H for T, implicit",
            "Q becomes a head while all are implicit",
            "the heads-only split ends",
            "first pin of T, implicit, under H",
        ],
    ),
    "W13": Missing(
        [like("Q is taken in", lambda s: And(s.h == MERGE, s.q == HEAD))],
        [
            "the block is handed out",
            "a split to pieces begins",
            "Q becomes a head while all are implicit",
            "the heads-only split ends",
            "a hold on Q for T, implicit",
            "a merge begins",
            "Q is taken in",
            "first pin of T, implicit, under Q",
        ],
    ),
    "W14": Missing(
        [like("a hold on H for T, implicit", does=lambda s: hold(s, "on_h_implicit", marks=s.h != WHOLE))],
        [
            "the block is handed out",
            "a hold on H for T, implicit",
            "a split to pieces begins",
            "Q becomes a head while all are implicit",
            "the heads-only split ends",
            "first pin of T, implicit, under H",
        ],
    ),
    "W15": Missing(
        [
            like(
                "T becomes a tail of Q",
                lambda s: And(s.h == SPLIT, s.q == HEAD, Or(s.t == IMPLICIT, s.t == OF_H)),
            )
        ],
        [
            "the block is handed out",
            "a split to pieces begins",
            "Q becomes a head while all are implicit",
            "a hold on H for T, implicit",
            "T becomes a tail of Q",
            "the split ends",
        ],
    ),
    "W16": Missing(
        [
            rule(
                "the block is handed out",
                "life::prepare_tails life::publish",
                lambda s: s.h == FREE,
                lambda s: handed_out(s, NO, lambda _: NO),
            )
        ],
        [
            "the block is handed out",
            "a hold on H for T, implicit",
            "first pin of T, implicit, under H",
            "T is unpinned",
            "the block is freed",
            "the block is handed out",
        ],
    ),
    "W17": Missing(
        [
            rule(
                "a merge begins",
                "merge::join",
                lambda s: And(s.h == PIECE, Or(s.q == HEAD, s.q == PAGE)),
                lambda s: {"h": NUMBER(MERGE), "to_implicit": YES, "hm": NO},
            )
        ],
        [
            "the block is handed out",
            "a hold on H for T, implicit",
            "a split to pieces begins",
            "Q becomes a head",
            "T becomes a tail of Q",
            "the split ends",
            "a merge begins",
            "Q is taken in",
            "T is taken in",
            "the merge ends",
            "first pin of T, implicit, under H",
        ],
    ),
}

MARKS = Machine("marks of heads", SORTS, initial, RULES, SAFE, HELPS, WITHOUT)

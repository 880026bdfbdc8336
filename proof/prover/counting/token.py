"""Tokens of the raw interface: a thread that may have no reference splits a block, under a pin of its own.

A token names a frame and its generation. Any thread may have a copy, also of a block that was freed since. A step by a token is taken
from a word that still has that generation, and a split by one counts a pin on the head in the same step.
"""

import z3

from .machine import Machine, Missing, Rule

FREE, WHOLE, SPLIT, PAGE = range(4)

If, And, Or, Not, Implies = z3.If, z3.And, z3.Or, z3.Not, z3.Implies

SORTS = {
    "h": ("free", "whole", "splitting", "page"),
    "same": "bool",  # H lives the life that the tokens name
    "R": "count",  # references of H
    "P": "count",  # pins of H
    "own": "count",  # handles, of whatever life H lives
    "pins": "count",  # pins of callers
    "helpers": "count",  # threads that split by a token, each with a pin
    "late": "count",  # the same without one; used only without the safeguard
    "U": "count",  # tails that are not rewritten yet
    "astray": "bool",  # a helper rewrote a tail of another life, or unpinned what had no pin
}


def rule(name, by, when, does):
    return Rule(
        name,
        tuple(by.split()),
        when,
        lambda s, number, flag: does(s, number) if does.__code__.co_argcount == 2 else does(s),
    )


def dies(s, refs, pins):
    """What H becomes with so many references and pins: free, if there are none and no split is under way."""
    gone = And(refs == 0, pins == 0, s.h != SPLIT)
    return {"R": refs, "P": pins, "h": If(gone, FREE, s.h), "U": If(gone, 0, s.U)}


RULES = [
    rule(
        "the block is handed out anew",
        "life::publish",
        lambda s: s.h == FREE,
        lambda s, tails: {
            "h": z3.IntVal(WHOLE),
            "R": z3.IntVal(1),
            "own": s.own + 1,
            "U": tails,
            "same": z3.BoolVal(False),
        },
    ),
    rule(
        "a handle is cloned",
        "blocks::get_refs_on",
        lambda s: And(s.own > 0, Or(s.h == WHOLE, s.h == PAGE)),
        lambda s: {"R": s.R + 1, "own": s.own + 1},
    ),
    rule(
        "a reference is taken by a token",
        "token::get_on",
        lambda s: And(s.same, Or(s.h == WHOLE, s.h == PAGE), s.R > 0),
        lambda s: {"R": s.R + 1, "own": s.own + 1},
    ),
    # Not while the block is being split: who wants to helps first.
    rule(
        "a handle is dropped",
        "blocks::put_block blocks::free_page_in blocks::put_last_ref blocks::drop_refs_from life::free_at_once life::free_uncoalesced_at token::put_on",
        lambda s: And(s.own > 0, Or(s.h == WHOLE, s.h == PAGE), Not(And(s.h == WHOLE, s.R == 1, s.P > 0))),
        lambda s: {**dies(s, s.R - 1, s.P), "own": s.own - 1},
    ),
    rule(
        "H is pinned",
        "pin::count_on pin::hold pin::try_get pin::get",
        lambda s: And(s.h != FREE, s.R + s.P > 0),
        lambda s: {"P": s.P + 1, "pins": s.pins + 1},
    ),
    rule(
        "H is unpinned",
        "pin::unpin_step misuse::raw_put",
        lambda s: s.pins > 0,
        lambda s: {**dies(s, s.R, s.P - 1), "pins": s.pins - 1},
    ),
    rule(
        "a split by a token begins",
        "token::split_on",
        lambda s: And(s.same, s.h == WHOLE, s.R > 0),
        lambda s: {"h": z3.IntVal(SPLIT), "P": s.P + 1, "helpers": s.helpers + 1},
    ),
    rule(
        "another helps by a token",
        "token::help_pinned",
        lambda s: And(s.same, s.h == SPLIT),
        lambda s: {"P": s.P + 1, "helpers": s.helpers + 1},
    ),
    rule(
        "a tail becomes a page",
        "split::convert_all",
        lambda s: And(s.helpers > 0, s.U > 0, Or(s.h == SPLIT, s.h == WHOLE)),
        lambda s: {"U": s.U - 1, "astray": Or(s.astray, Not(s.same), s.h != SPLIT)},
    ),
    rule(
        "the split ends",
        "split::settle",
        lambda s: And(s.helpers > 0, s.h == SPLIT, s.U == 0),
        lambda s: {"h": z3.IntVal(PAGE)},
    ),
    rule(
        "a helper is done",
        "token::split_on token::help_pinned",
        lambda s: And(s.helpers > 0, s.h != SPLIT),
        lambda s: {**dies(s, s.R, s.P - 1), "helpers": s.helpers - 1, "astray": Or(s.astray, s.P == 0)},
    ),
]


def initial(s):
    """One owner has the block that the tokens name."""
    none = [getattr(s, name) == 0 for name in ("P", "pins", "helpers", "late")]
    return And(s.h == WHOLE, s.same, s.R == 1, s.own == 1, s.U >= 0, Not(s.astray), *none)


SAFE = {
    "a helper helps the life that its token names": lambda s: And(
        Implies(s.helpers > 0, And(s.same, Or(s.h == SPLIT, s.h == PAGE))), Not(s.astray)
    ),
    "what has a pin or a handle is not free": lambda s: Implies(s.own + s.pins > 0, s.h != FREE),
    "what no one has is free": lambda s: Or(s.h == FREE, s.own + s.pins + s.helpers > 0),
}

HELPS = {
    "references of H": lambda s: s.R == s.own,
    "pins of H": lambda s: s.P == s.pins + s.helpers,
    "a split": lambda s: And(
        Implies(s.h == SPLIT, And(s.helpers > 0, s.R > 0)),
        Implies(Or(s.h == PAGE, s.h == FREE), s.U == 0),
    ),
    "no helper without a pin": lambda s: s.late == 0,
}

WITHOUT = {
    "the pin of a split by token": Missing(
        [
            rule(
                "a split by a token begins",
                "token::split_on",
                lambda s: And(s.same, s.h == WHOLE, s.R > 0),
                lambda s: {"h": z3.IntVal(SPLIT), "late": s.late + 1},
            ),
            rule(
                "another helps by a token",
                "token::help_pinned",
                lambda s: And(s.same, s.h == SPLIT),
                lambda s: {"late": s.late + 1},
            ),
            rule(
                "the split ends",
                "split::settle",
                lambda s: And(s.late > 0, s.h == SPLIT),
                lambda s: {"h": z3.IntVal(PAGE), "U": z3.IntVal(0)},
            ),
            rule(
                "a tail becomes a page",
                "split::convert_all",
                lambda s: And(s.late > 0, s.U > 0, Or(s.h == SPLIT, s.h == WHOLE)),
                lambda s: {"U": s.U - 1, "astray": Or(s.astray, Not(s.same), s.h != SPLIT)},
            ),
        ],
        [
            "a split by a token begins",
            "another helps by a token",
            "the split ends",
            "a handle is dropped",
            "the block is handed out anew",
            "a tail becomes a page",
        ],
    )
}

TOKEN = Machine("tokens", SORTS, initial, RULES, SAFE, HELPS, WITHOUT)

"""Pages that are merged while other threads find them, and the whole, by number.

A head H, a page T that stands for each of the others, and all other pages as numbers. A thread that knows a number takes a reference on
what is there now, without having any. A merge takes each page in from a word with one reference, and is undone, to pages, where one has more.
"""

import z3

from .machine import Machine, Missing, Rule

FREE, PAGE, MERGING, WHOLE, UNDOING = range(5)
GONE, ALONE, TAIL = range(3)

If, And, Or, Not, Implies = z3.If, z3.And, z3.Or, z3.Not, z3.Implies

SORTS = {
    "h": ("free", "page", "merging", "whole", "merge undone"),
    "t": ("free", "page", "tail"),
    "R": "count",  # references of H
    "tr": "count",  # references of T
    "n": "count",  # the owner's handle of all of it
    "merger": "count",  # the same while it merges
    "dropping": "count",  # the same, given back on H and not yet on T
    "fh": "count",  # references to H, a page, that were found
    "ft": "count",  # references to T, found
    "fw": "count",  # references to the whole, found
    "M": "count",  # other pages
    "F": "count",  # of these, pages with a reference that was found
    "fo": "count",  # such references
    "U": "count",  # other tails
    "misuse": "bool",  # a reference was given back to what is no page or block any more
}


def rule(name, by, when, does):
    return Rule(
        name,
        tuple(by.split()),
        when,
        lambda s, number, flag: does(s, flag) if does.__code__.co_argcount == 2 else does(s),
    )


def drop_on_head(s):
    return {"R": s.R - 1, "h": If(s.R == 1, FREE, s.h)}


def drop_on_tail(s):
    return {"tr": s.tr - 1, "t": If(s.tr == 1, GONE, s.t)}


def drop_whole(s):
    return {"R": s.R - 1, "h": If(s.R == 1, FREE, s.h), "t": If(s.R == 1, GONE, s.t), "U": If(s.R == 1, 0, s.U)}


def given_back(s, where, does, found):
    """A reference that was found goes; where the page or block is not there any more that is a misuse."""
    changed = {name: If(where, value, getattr(s, name)) for name, value in does.items()}
    return {**changed, found: getattr(s, found) - 1, "misuse": Or(s.misuse, Not(where))}


RULES = [
    rule(
        "H is found by its number",
        "blocks::get_block_found",
        lambda s: s.h == PAGE,
        lambda s: {"R": s.R + 1, "fh": s.fh + 1},
    ),
    rule(
        "T is found by its number",
        "blocks::get_block_found",
        lambda s: s.t == ALONE,
        lambda s: {"tr": s.tr + 1, "ft": s.ft + 1},
    ),
    rule(
        "another page is found by its number",
        "blocks::get_block_found",
        lambda s: s.M > 0,
        # The first reference to a page, or one more.
        lambda s, first: {"fo": s.fo + 1, "F": If(Or(s.F == 0, And(first, s.F < s.M)), s.F + 1, s.F)},
    ),
    rule(
        "the whole is found by its number",
        "blocks::get_block_found",
        lambda s: s.h == WHOLE,
        lambda s: {"R": s.R + 1, "fw": s.fw + 1},
    ),
    rule(
        "H is given back by who found it",
        "blocks::put_block blocks::free_page_in blocks::drop_refs_from life::free_at_once life::free_uncoalesced_at",
        lambda s: s.fh > 0,
        lambda s: given_back(s, s.h == PAGE, drop_on_head(s), "fh"),
    ),
    rule(
        "T is given back by who found it",
        "blocks::put_block blocks::free_page_in blocks::drop_refs_from life::free_at_once life::free_uncoalesced_at",
        lambda s: s.ft > 0,
        lambda s: given_back(s, s.t == ALONE, drop_on_tail(s), "ft"),
    ),
    rule(
        "another page is given back by who found it",
        "blocks::put_block blocks::free_page_in blocks::drop_refs_from life::free_at_once life::free_uncoalesced_at",
        lambda s: s.fo > 0,
        lambda s, last: {
            "fo": s.fo - 1,
            "F": If(s.fo == 1, 0, If(Or(s.F == s.fo, And(last, s.F > 1)), s.F - 1, s.F)),
        },
    ),
    rule(
        "the whole is given back by who found it",
        "blocks::put_block blocks::free_page_in blocks::drop_refs_from life::free_at_once life::free_uncoalesced_at",
        lambda s: s.fw > 0,
        lambda s: given_back(s, s.h == WHOLE, drop_whole(s), "fw"),
    ),
    rule(
        "a merge begins",
        "merge::join",
        lambda s: And(s.n > 0, s.h == PAGE, s.R == 1),
        lambda s: {"h": z3.IntVal(MERGING), "n": s.n - 1, "merger": s.merger + 1},
    ),
    rule(
        "T is taken in",
        "merge::adopt merge::join",
        lambda s: And(s.h == MERGING, s.t == ALONE, s.tr == 1),
        lambda s: {"t": z3.IntVal(TAIL), "tr": z3.IntVal(0)},
    ),
    rule(
        "another page is taken in",
        "merge::adopt",
        lambda s: And(s.h == MERGING, s.M > s.F),
        lambda s: {"M": s.M - 1, "U": s.U + 1},
    ),
    rule(
        "the merge ends",
        "merge::join",
        lambda s: And(s.h == MERGING, s.t == TAIL, s.M == 0),
        lambda s: {"h": z3.IntVal(WHOLE), "merger": s.merger - 1, "n": s.n + 1},
    ),
    rule(
        "the merge is undone, as a page has another reference",
        "merge::to_pages",
        lambda s: And(s.h == MERGING, Or(And(s.t == ALONE, s.tr > 1), s.F > 0)),
        lambda s: {"h": z3.IntVal(UNDOING)},
    ),
    rule(
        "T becomes a page again",
        "split::convert_all",
        lambda s: And(s.h == UNDOING, s.t == TAIL),
        lambda s: {"t": z3.IntVal(ALONE), "tr": z3.IntVal(1)},
    ),
    rule(
        "another tail becomes a page again",
        "split::convert_all",
        lambda s: And(s.h == UNDOING, s.U > 0),
        lambda s: {"U": s.U - 1, "M": s.M + 1},
    ),
    rule(
        "all are pages again",
        "split::settle",
        lambda s: And(s.h == UNDOING, s.t == ALONE, s.U == 0),
        lambda s: {"h": z3.IntVal(PAGE), "merger": s.merger - 1, "n": s.n + 1},
    ),
    rule(
        "the owner drops the whole",
        "blocks::put_block blocks::free_page_in blocks::drop_refs_from life::free_at_once life::free_uncoalesced_at",
        lambda s: And(s.n > 0, s.h == WHOLE),
        lambda s: {**drop_whole(s), "n": s.n - 1},
    ),
    # The other pages go their own ways from here on, each as T does.
    rule(
        "the owner drops the pages: H",
        "blocks::drop_refs_from life::free_at_once life::free_uncoalesced_at",
        lambda s: And(s.n > 0, s.h == PAGE),
        lambda s: {
            **drop_on_head(s),
            "n": s.n - 1,
            "dropping": s.dropping + 1,
            "M": z3.IntVal(0),
            "F": z3.IntVal(0),
            "fo": z3.IntVal(0),
        },
    ),
    rule(
        "the owner drops the pages: T",
        "blocks::drop_refs_from life::free_at_once life::free_uncoalesced_at",
        lambda s: s.dropping > 0,
        lambda s: {**drop_on_tail(s), "dropping": s.dropping - 1},
    ),
]


def initial(s):
    """One owner has all the pages, however many."""
    none = ("merger", "dropping", "fh", "ft", "fw", "F", "fo", "U")
    counts = [getattr(s, name) == 0 for name in none]
    return And(s.h == PAGE, s.t == ALONE, s.R == 1, s.tr == 1, s.n == 1, s.M >= 0, Not(s.misuse), *counts)


SAFE = {
    "what was found is what it was, and not free": lambda s: And(
        Implies(s.fh > 0, s.h == PAGE), Implies(s.ft > 0, s.t == ALONE), Implies(s.fw > 0, s.h == WHOLE)
    ),
    "what the owner has is not free": lambda s: And(
        Implies(s.n + s.merger > 0, And(s.h != FREE, s.t != GONE)), Implies(s.dropping > 0, s.t == ALONE)
    ),
    "what no one has a reference of is free": lambda s: And(
        Or(s.h == FREE, s.n + s.merger + s.fh + s.fw > 0),
        Or(s.t == GONE, s.n + s.merger + s.dropping + s.ft + s.fw > 0),
    ),
    "nothing is given back that was not there": lambda s: Not(s.misuse),
}

HELPS = {
    "one owner": lambda s: And(s.n + s.merger + s.dropping <= 1, Implies(s.fw > 0, s.dropping == 0)),
    "references of H": lambda s: s.R == s.n + s.merger + s.fh + s.fw,
    "references of T": lambda s: s.tr == If(s.t == ALONE, s.n + s.merger + s.dropping + s.ft, 0),
    "a merge": lambda s: And(
        (s.merger > 0) == Or(s.h == MERGING, s.h == UNDOING),
        Implies(s.merger > 0, s.R == 1),
        Implies(s.h == WHOLE, And(s.t == TAIL, s.M == 0)),
        Implies(Or(s.h == FREE, s.h == PAGE), And(s.t != TAIL, s.U == 0)),
    ),
    "other pages": lambda s: And(s.F <= s.M, s.F <= s.fo, Implies(s.fo > 0, s.F > 0)),
}

WITHOUT = {
    "W19": Missing(
        [
            rule(
                "T is taken in",
                "merge::adopt",
                lambda s: And(s.h == MERGING, s.t == ALONE),
                lambda s: {"t": z3.IntVal(TAIL), "tr": z3.IntVal(0)},
            )
        ],
        [
            "a merge begins",
            "T is found by its number",
            "T is taken in",
            "T is given back by who found it",
        ],
    )
}

FOUND = Machine("found by number", SORTS, initial, RULES, SAFE, HELPS, WITHOUT)

"""Two levels: a tail T of a 2 MiB part A of a larger block with head H.

A pinned T holds A, a held or pinned A holds H. A counts for T as H counts for A, so what is shown here is that the two levels go together:
splits to 2 MiB and merges from it leave T alone.
"""

import z3

from .block import less, one_if, rule, some
from .machine import Machine, Missing

FREE, WHOLE, SPLIT, MERGE, SELF, AREA = range(6)
PART, HEAD, GONE = range(3)
If, And, Or, Not, Implies = z3.If, z3.And, z3.Or, z3.Not, z3.Implies

SORTS = {
    "h": ("free", "whole", "splitting", "merging", "splitting itself", "2 MiB"),
    "a": ("part", "2 MiB", "free"),
    "R": "count",  # refs of H
    "P": "count",  # pins of H
    "ar": "count",  # refs of A
    "ap": "count",  # pins of A
    "tp": "count",  # pins of T
    "hfree": "bool",
    "afree": "bool",
    "K": "count",  # other parts that are pinned
    "L": "count",  # other tails of A that are pinned
    "own": "count",  # pins of H's first page
    "owna": "count",  # pins of A's first page
    "ht": "count",  # pins of T
    "first": "count",  # threads with a hold on H, about to count on A
    "back": "count",  # holds on H to be given back
    "firsta": "count",  # threads with a hold on A, about to pin T or another tail
    "backa": "count",  # holds on A to be given back
    "bare": "count",  # threads about to count on A with no hold on H; used only without a safeguard
    "n": "count",  # handles of the whole
    "busy": "count",  # of these, in use by one who helps to split
    "sh": "count",  # handles of H's 2 MiB alone
    "sa": "count",  # handles of A alone
    "merger": "count",
    "ma": "count",  # the merger's hold for A
    "r0": "count",  # references when the split began
    "selfsplit": "count",
    "misuse": "bool",
}


def covers(h):
    return Or(h == WHOLE, h == SPLIT, h == MERGE, h == SELF)


def unpin_head(s):
    dies = And(s.P == 1, s.R == 0, s.h == AREA)
    return {
        "P": less(s.P),
        "h": If(dies, FREE, s.h),
        "hfree": Or(s.hfree, dies),
        "misuse": Or(s.misuse, s.P == 0, And(dies, s.hfree)),
    }


def unpin_area(s, gives_back=1, count=1):
    """So many pins or holds less on A; more than one at once where it takes itself apart, which a part does not."""
    last = s.ap == count
    dies = And(last, s.a == HEAD, s.ar == 0)
    return {
        "ap": If(s.ap >= count, s.ap - count, 0),
        "back": If(And(last, s.a == PART), s.back + gives_back, s.back),
        "a": If(dies, GONE, s.a),
        "afree": Or(s.afree, dies),
        "misuse": Or(s.misuse, s.ap < count, And(dies, s.afree)),
    }


def drop_whole(s):
    last, pinned = s.R == 1, s.P > 0
    dies, apart = And(last, Not(pinned)), And(last, pinned)
    return {
        "R": less(s.R),
        "n": s.n - 1,
        "h": If(dies, FREE, If(apart, SELF, s.h)),
        "hfree": Or(s.hfree, dies),
        "afree": Or(s.afree, dies),
        "P": If(apart, s.P + 1, s.P),
        "selfsplit": If(apart, 1, s.selfsplit),
    }


def drop_area(s):
    """The last reference to A; with pins it is taken apart in turn, as a block of its own."""
    dies = And(s.ar == 1, s.ap == 0)
    return {
        "ar": less(s.ar),
        "a": If(dies, GONE, s.a),
        "afree": Or(s.afree, dies),
        "misuse": Or(s.misuse, s.ar == 0, s.a != HEAD),
    }


def drop_head(s):
    dies = And(s.R == 1, s.P == 0)
    return {
        "R": less(s.R),
        "h": If(dies, FREE, s.h),
        "hfree": Or(s.hfree, dies),
        "misuse": Or(s.misuse, s.R == 0, s.h != AREA),
    }


NUMBER = z3.IntVal
YES, NO = z3.BoolVal(True), z3.BoolVal(False)

RULES = [
    rule(
        "the block is handed out",
        "life::publish",
        lambda s: And(s.hfree, s.afree),
        lambda s: {
            "h": NUMBER(WHOLE),
            "a": NUMBER(PART),
            "R": NUMBER(1),
            "n": s.n + 1,
            "hfree": NO,
            "afree": NO,
        },
    ),
    rule(
        "a hold on H for A",
        "pin::hold pin::count_on",
        lambda s: And(covers(s.h), s.R + s.P > 0),
        lambda s: {"P": s.P + 1, "first": s.first + 1},
    ),
    rule(
        "first hold on A",
        "pin::pin_first",
        lambda s: And(s.first > 0, s.a == PART, s.ap == 0),
        lambda s: {"ap": NUMBER(1), "firsta": s.firsta + 1, "first": s.first - 1},
    ),
    rule(
        "first pin of A itself",
        "pin::pin_first",
        lambda s: And(s.first > 0, s.a == PART, s.ap == 0),
        lambda s: {"ap": NUMBER(1), "owna": s.owna + 1, "first": s.first - 1},
    ),
    rule(
        "a first count on A fails",
        "pin::pin_first",
        lambda s: s.first > 0,
        lambda s: {"first": s.first - 1, "back": s.back + 1},
    ),
    rule(
        "first pin in another part",
        "pin::pin_first",
        lambda s: And(s.first > 0, covers(s.h)),
        lambda s: {"K": s.K + 1, "first": s.first - 1},
    ),
    rule(
        "a hold on H is given back",
        "pin::unpin_step",
        lambda s: s.back > 0,
        lambda s: {**unpin_head(s), "back": s.back - 1},
    ),
    rule(
        "one more hold on A",
        "pin::hold pin::count_on",
        lambda s: Or(And(s.a == PART, s.ap > 0), And(s.a == HEAD, s.ap + s.ar > 0)),
        lambda s: {"ap": s.ap + 1, "firsta": s.firsta + 1},
    ),
    rule(
        "one more pin of A itself",
        "pin::try_get pin::get",
        lambda s: Or(And(s.a == PART, s.ap > 0), And(s.a == HEAD, s.ap + s.ar > 0)),
        lambda s: {"ap": s.ap + 1, "owna": s.owna + 1},
    ),
    rule(
        "first pin of T",
        "pin::pin_first",
        lambda s: And(s.firsta > 0, s.tp == 0),
        lambda s: {"tp": NUMBER(1), "ht": s.ht + 1, "firsta": s.firsta - 1},
    ),
    rule(
        "first pin of another tail of A",
        "pin::pin_first",
        lambda s: s.firsta > 0,
        lambda s: {"L": s.L + 1, "firsta": s.firsta - 1},
    ),
    rule(
        "a first pin under A fails",
        "pin::pin_first",
        lambda s: s.firsta > 0,
        lambda s: {"firsta": s.firsta - 1, "backa": s.backa + 1},
    ),
    rule(
        "one more pin of T",
        "pin::try_get pin::get",
        lambda s: s.tp > 0,
        lambda s: {"tp": s.tp + 1, "ht": s.ht + 1},
    ),
    rule(
        "T is unpinned",
        "pin::unpin_step misuse::raw_put pin::last_pin_went",
        lambda s: s.ht > 0,
        lambda s: {
            "tp": less(s.tp),
            "ht": s.ht - 1,
            "backa": If(s.tp == 1, s.backa + 1, s.backa),
            "misuse": Or(s.misuse, s.tp == 0),
        },
    ),
    rule(
        "another tail of A is unpinned for the last time",
        "pin::last_pin_went",
        lambda s: s.L > 0,
        lambda s: {"L": s.L - 1, "backa": s.backa + 1},
    ),
    rule(
        "a hold on A is given back",
        "pin::unpin_step pin::last_pin_went",
        lambda s: s.backa > 0,
        lambda s: {**unpin_area(s), "backa": s.backa - 1},
    ),
    rule(
        "A itself is unpinned",
        "pin::unpin_step misuse::raw_put pin::last_pin_went",
        lambda s: s.owna > 0,
        lambda s: {**unpin_area(s), "owna": s.owna - 1},
    ),
    rule(
        "another part is unpinned for the last time",
        "pin::last_pin_went",
        lambda s: s.K > 0,
        lambda s: {"K": s.K - 1, "back": s.back + 1},
    ),
    rule(
        "H is pinned",
        "pin::try_get",
        lambda s: And(s.h != FREE, s.R + s.P > 0),
        lambda s: {"P": s.P + 1, "own": s.own + 1},
    ),
    rule(
        "H is unpinned", "pin::unpin_step misuse::raw_put", lambda s: s.own > 0, lambda s: {**unpin_head(s), "own": s.own - 1}
    ),
    rule(
        "the block is cloned",
        "blocks::get_refs_on",
        lambda s: And(s.n > 0, s.h == WHOLE),
        lambda s: {"R": s.R + 1, "n": s.n + 1},
    ),
    rule(
        "the block is dropped",
        "blocks::drop_refs_from life::free_at_once split::self_split",
        lambda s: And(s.n > 0, s.h == WHOLE),
        drop_whole,
    ),
    rule(
        "a split to 2 MiB begins",
        "split::split_piece",
        lambda s: And(s.n > 0, s.h == WHOLE),
        lambda s: {"h": NUMBER(SPLIT), "r0": s.R, "n": s.n - 1, "busy": s.busy + 1},
    ),
    rule(
        "another helps",
        "split::help_split",
        lambda s: And(s.n > 0, s.h == SPLIT),
        lambda s: {"n": s.n - 1, "busy": s.busy + 1},
    ),
    rule(
        "A becomes a block",
        "split::convert",
        lambda s: And(s.busy > 0, s.a == PART),
        lambda s: {"a": NUMBER(HEAD), "ar": s.r0, "back": If(s.ap > 0, s.back + 1, s.back)},
    ),
    rule(
        "another pinned part becomes a block",
        "split::convert",
        lambda s: And(s.busy > 0, s.h == SPLIT, s.K > 0),
        lambda s: {"K": s.K - 1, "back": s.back + 1},
    ),
    rule(
        "the split ends",
        "split::settle",
        lambda s: And(s.busy > 0, s.h == SPLIT, s.a != PART, s.K == 0),
        lambda s: {"h": NUMBER(AREA)},
    ),
    rule(
        "a helper is done",
        "split::help_split",
        lambda s: And(s.busy > 0, s.h != SPLIT),
        lambda s: {"busy": s.busy - 1, "n": s.n + 1},
    ),
    rule(
        "the pieces become handles of their own",
        "blocks::get_refs_on",
        lambda s: And(s.n > 0, s.h == AREA, s.a == HEAD),
        lambda s: {"n": s.n - 1, "sh": s.sh + 1, "sa": s.sa + 1},
    ),
    rule(
        "H's 2 MiB are dropped",
        "blocks::drop_refs_from life::free_at_once life::free_uncoalesced_at",
        lambda s: s.sh > 0,
        lambda s: {**drop_head(s), "sh": s.sh - 1},
    ),
    rule(
        "A is dropped", "blocks::drop_refs_from life::free_at_once life::free_uncoalesced_at", lambda s: s.sa > 0, lambda s: {**drop_area(s), "sa": s.sa - 1}
    ),
    rule(
        "A of a dying block is left to itself",
        "split::scatter_pageblock",
        lambda s: And(s.selfsplit > 0, s.a == PART),
        lambda s: {
            "a": If(s.ap > 0, HEAD, GONE),
            "ar": NUMBER(0),
            "afree": Or(s.afree, s.ap == 0),
            # The thread takes A apart in turn, under a hold of its own.
            "ap": If(s.ap > 0, s.ap + 1, 0),
            "backa": If(s.ap > 0, s.backa + 1, s.backa),
            "back": If(s.ap > 0, s.back + 1, s.back),
            "misuse": Or(s.misuse, And(s.ap == 0, s.afree)),
        },
    ),
    # Its pinned tails are pages of their own by then, and their holds the thread's.
    rule(
        "A of a dying block is taken apart",
        "split::scatter_pages",
        lambda s: And(s.a == HEAD, s.ar == 0, s.backa > 0),
        lambda s, number, flag: {
            **unpin_area(s, count=some(number, s.backa)),
            "backa": s.backa - some(number, s.backa),
        },
    ),
    rule(
        "another pinned part of a dying block",
        "split::scatter_pageblock",
        lambda s: And(s.selfsplit > 0, s.K > 0),
        lambda s: {"K": s.K - 1, "back": s.back + 1},
    ),
    rule(
        "a dying block is taken apart",
        "split::scatter_pageblocks",
        lambda s: And(s.selfsplit > 0, s.a != PART, s.K == 0),
        lambda s: {"h": NUMBER(AREA), "selfsplit": NUMBER(0), "back": s.back + 1},
    ),
    rule(
        "a merge of pageblocks begins",
        "merge::merge merge::join",
        lambda s: And(s.sh > 0, s.sa > 0, s.h == AREA, s.R == 1, s.a == HEAD, s.ar == 1),
        lambda s: {"h": NUMBER(MERGE), "sh": s.sh - 1, "sa": s.sa - 1, "merger": NUMBER(1)},
    ),
    rule(
        "A is taken in without pins",
        "merge::adopt",
        lambda s: And(s.merger > 0, s.a == HEAD, s.ap == 0, s.ma == 0),
        lambda s: {"a": NUMBER(PART), "ar": NUMBER(0)},
    ),
    rule(
        "the merger takes a hold for A",
        "merge::adopt_pinned",
        lambda s: And(s.merger > 0, s.a == HEAD, s.ap > 0, s.ma == 0),
        lambda s: {"P": s.P + 1, "ma": NUMBER(1)},
    ),
    rule(
        "A is taken in with its pins",
        "merge::adopt_pinned",
        lambda s: And(s.ma > 0, s.a == HEAD, s.ap > 0),
        lambda s: {"a": NUMBER(PART), "ar": NUMBER(0), "ma": NUMBER(0)},
    ),
    rule(
        "the merger gives its hold for A back",
        "merge::adopt_pinned",
        lambda s: s.ma > 0,
        lambda s: {"ma": NUMBER(0), "back": s.back + 1},
    ),
    rule(
        "the merge ends",
        "merge::join",
        lambda s: And(s.merger > 0, s.a == PART, s.ma == 0),
        lambda s: {"h": NUMBER(WHOLE), "merger": NUMBER(0), "n": s.n + 1},
    ),
]


def initial(s):
    counts = [getattr(s, v) == 0 for v, sort in SORTS.items() if sort == "count"]
    return And(s.h == FREE, s.a == GONE, s.hfree, s.afree, Not(s.misuse), *counts)


HANDLES = lambda s: s.n + s.busy + s.merger

SAFE = {
    "a pinned tail has a part or block that is in use": lambda s: Implies(
        s.ht + s.L > 0, And(Not(s.afree), s.a != GONE)
    ),
    "a pinned part has a head that is in use": lambda s: And(
        Implies(s.owna + s.ht + s.L > 0, Or(s.a == HEAD, And(covers(s.h), Not(s.hfree)))),
        Implies(s.own > 0, Not(s.hfree)),
    ),
    "a block with a reference is not free": lambda s: And(
        Implies(HANDLES(s) + s.sh > 0, Not(s.hfree)), Implies(HANDLES(s) + s.sa > 0, Not(s.afree))
    ),
    "no pin gets lost": lambda s: s.tp == s.ht,
    "what no one has a pin, hold or reference of is free": lambda s: And(
        Or(
            s.hfree,
            HANDLES(s)
            + s.sh
            + s.own
            + s.K
            + s.first
            + s.back
            + s.ma
            + s.selfsplit
            + one_if(And(s.a == PART, s.owna + s.firsta + s.backa + s.ht + s.L > 0))
            > 0,
        ),
        Or(
            s.afree,
            And(s.a == PART, covers(s.h)),
            HANDLES(s) + s.sa + s.owna + s.firsta + s.backa + s.ht + s.L > 0,
        ),
    ),
    "nothing is given back that was not there, and nothing freed twice": lambda s: Not(s.misuse),
}

HELPS = {
    "pins of H": lambda s: (
        s.P == s.own + s.K + s.first + s.back + s.ma + s.selfsplit + one_if(And(s.a == PART, s.ap > 0))
    ),
    "pins of A": lambda s: s.ap == s.owna + s.L + s.firsta + s.backa + one_if(s.tp > 0),
    "references of H": lambda s: s.R == s.n + s.busy + s.sh + s.merger,
    "references of A": lambda s: s.ar == If(s.a == HEAD, s.n + s.busy + s.sa + s.merger, 0),
    "H free": lambda s: And(
        (s.h == FREE) == s.hfree, Implies(s.hfree, And(s.R == 0, s.P == 0)), Or(s.hfree, s.R + s.P > 0)
    ),
    "A free": lambda s: And(
        Implies(s.a == GONE, s.afree),
        Implies(s.afree, And(s.a != HEAD, s.ap == 0)),
        Implies(s.a == PART, s.afree == Not(covers(s.h))),
        Implies(s.a == HEAD, s.ap + s.ar > 0),
    ),
    "handles": lambda s: And(
        Implies(And(s.a != HEAD, HANDLES(s) > 0), And(s.a == PART, covers(s.h))),
        Implies(s.a != HEAD, s.sa == 0),
        Implies(s.sh > 0, s.h == AREA),
    ),
    "whole": lambda s: Implies(s.h == WHOLE, And(s.a == PART, s.R > 0)),
    "split": lambda s: And(
        Implies(s.h == SPLIT, And(s.busy > 0, s.r0 == s.R, s.a != GONE, Implies(s.a == HEAD, s.ar == s.R))),
        Implies(And(s.busy > 0, s.h != SPLIT), And(s.h == AREA, s.a == HEAD)),
    ),
    "merge": lambda s: And(
        s.merger == one_if(s.h == MERGE),
        s.ma <= 1,
        Implies(s.ma > 0, And(s.h == MERGE, s.a == HEAD)),
        Implies(s.h == MERGE, And(s.R == 1, s.a != GONE, Implies(s.a == HEAD, s.ar == 1))),
    ),
    "dying": lambda s: And(s.selfsplit == one_if(s.h == SELF), Implies(s.h == SELF, s.R == 0)),
    "others": lambda s: Implies(Not(covers(s.h)), And(s.K == 0, Implies(s.a == PART, s.first == 0))),
    "no thread without a hold": lambda s: s.bare == 0,
}


def like(name, does):
    original = next(r for r in RULES if r.name == name)
    return rule(name, " ".join(original.by), original.when, does)


WITHOUT = {
    "W1": Missing(
        [
            rule(
                "the hold on H is let go before the first on A",
                "pin::pin_first",
                lambda s: s.first > 0,
                lambda s: {**unpin_head(s), "first": s.first - 1, "bare": s.bare + 1},
            ),
            rule(
                "first hold on A without one on H",
                "pin::pin_first",
                lambda s: And(s.bare > 0, s.a == PART, s.ap == 0),
                lambda s: {"ap": NUMBER(1), "owna": s.owna + 1, "bare": s.bare - 1},
            ),
        ],
        [
            "the block is handed out",
            "a hold on H for A",
            "the hold on H is let go before the first on A",
            "first hold on A without one on H",
            "the block is dropped",
        ],
    ),
    "W6": Missing(
        [
            like("a hold on A is given back", lambda s: {**unpin_area(s, 0), "backa": s.backa - 1}),
            like("A itself is unpinned", lambda s: {**unpin_area(s, 0), "owna": s.owna - 1}),
        ],
        [
            "the block is handed out",
            "a hold on H for A",
            "first pin of A itself",
            "A itself is unpinned",
            "a split to 2 MiB begins",
            "A becomes a block",
            "the split ends",
            "a helper is done",
            "the pieces become handles of their own",
            "H's 2 MiB are dropped",
        ],
    ),
    "W7": Missing(
        [
            rule(
                "A is taken in with its pins and no hold",
                "merge::adopt_pinned",
                lambda s: And(s.merger > 0, s.a == HEAD, s.ap > 0),
                lambda s: {"a": NUMBER(PART), "ar": NUMBER(0)},
            ),
        ],
        [
            "the block is handed out",
            "a split to 2 MiB begins",
            "A becomes a block",
            "the split ends",
            "a helper is done",
            "the pieces become handles of their own",
            "one more pin of A itself",
            "a merge of pageblocks begins",
            "A is taken in with its pins and no hold",
            "the merge ends",
            "the block is dropped",
        ],
    ),
}

PARTS = Machine("parts of 2 MiB", SORTS, initial, RULES, SAFE, HELPS, WITHOUT)

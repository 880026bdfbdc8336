"""One block, its head H, one tail T that stands for each of its tails, and all other tails as numbers.

Pins, holds, references; split by any number of helpers; the split of a block whose last reference goes; merge; death and reuse; a block that
is not to be split.
"""

import z3

from .machine import Machine, Missing, Rule

# H's word.
FREE, WHOLE, SPLIT, MERGE, SELF, PAGE = range(6)
# T's word: a tail (also while the frame is free and its word says so still), a page, free.
TAIL, ALONE, GONE = range(3)

If, And, Or, Not = z3.If, z3.And, z3.Or, z3.Not

SORTS = {
    "h": ("free", "whole", "splitting", "merging", "splitting itself", "page"),
    "t": ("tail", "page", "free"),
    "uns": "bool",  # the block is not to be split
    "R": "count",  # refs of H
    "P": "count",  # pins of H
    "tp": "count",  # pins of T
    "tr": "count",  # refs of T
    "hfree": "bool",  # the allocator has H
    "tfree": "bool",  # the allocator has T
    "U": "count",  # other tails without pins, not rewritten yet
    "K": "count",  # other tails with pins, not rewritten yet
    "M": "count",  # other pages that a merge has still to take in
    "r0": "count",  # references of the block when its split began
    "p0": "count",  # pins of H then; used only without a safeguard
    "moved": "count",  # holds the split has moved since; the same
    # Threads and handles.
    "own": "count",  # pins of the first page
    "hu": "count",  # pins of tails that are counted on H
    "ht": "count",  # pins of T
    "first": "count",  # threads with a hold on H, about to make a first pin
    "back": "count",  # holds on H that are about to be given back
    "bare": "count",  # threads about to make a first pin with no hold; used only without a safeguard
    "mt": "count",  # the merger's hold for T
    "mo": "count",  # the merger's holds for others
    "n": "count",  # handles of the whole range
    "busy": "count",  # of these, in use by one who helps to split
    "cloning": "count",  # handles being cloned, by any number, counted on H and not yet on T
    "made": "count",  # the new handles of these
    "dropping": "count",  # handles given back on H and not yet on T
    "sh": "count",  # handles of H alone
    "st": "count",  # handles of T alone
    "merger": "count",
    "held": "count",  # holds of tails that are pages now, of one who takes a block apart
    "selfsplit": "count",  # one who takes a block apart whose last reference went: 1 with a hold, 2 about to look at the end
    # One who looks for T by its number: 1 has seen an unpinned tail, 2 has found no head for it.
    "looker": "count",
    "changed": "bool",  # T's word has changed since
    "was_free": "bool",  # T was not in use at some moment since
    "misuse": "bool",  # a count that was not there was given back, or a frame freed twice
}


def less(count):
    """One less; where there is none that is a misuse, and none stays."""
    return If(count > 0, count - 1, 0)


def covers(h):
    return Or(h == WHOLE, h == SPLIT, h == MERGE, h == SELF)


def unused(t, h):
    return Not(Or(t == ALONE, And(t == TAIL, covers(h))))


def unpin_head(s):
    """One pin or hold less on H: the last one of a settled head without references frees it."""
    dies = And(s.P == 1, s.R == 0, Or(s.h == WHOLE, s.h == PAGE))
    whole = And(dies, s.h == WHOLE)
    return {
        "P": less(s.P),
        "h": If(dies, FREE, s.h),
        "hfree": Or(s.hfree, dies),
        "tfree": Or(s.tfree, whole),
        "uns": And(s.uns, Not(whole)),
        "U": If(whole, 0, s.U),
        "misuse": Or(s.misuse, s.P == 0, And(dies, s.hfree)),
    }


def some(number, most):
    """At least one, and at most that many."""
    return If(And(number >= 1, number <= most), number, 1)


def drop_on_head(s, count=1):
    """So many references less on H, a page."""
    dies = And(s.R == count, s.P == 0)
    return {
        "R": If(s.R >= count, s.R - count, 0),
        "h": If(dies, FREE, s.h),
        "hfree": Or(s.hfree, dies),
        "misuse": Or(s.misuse, s.R < count, And(dies, s.hfree)),
    }


def drop_on_tail(s, count=1):
    """So many references less on T, which must be a page."""
    dies = And(s.tr == count, s.tp == 0)
    return {
        "tr": If(s.tr >= count, s.tr - count, 0),
        "t": If(dies, GONE, s.t),
        "tfree": Or(s.tfree, dies),
        "misuse": Or(s.misuse, s.tr < count, s.t != ALONE, And(dies, s.tfree)),
    }


def drop_whole(s, hold, count=1):
    """So many references less on a whole block; the last one frees it, or begins to take it apart, with a hold or without."""
    last = s.R == count
    dies = And(last, s.P == 0)
    apart = And(last, s.P > 0, Not(s.uns))
    return {
        "R": If(s.R >= count, s.R - count, 0),
        "n": s.n - count,
        "h": If(dies, FREE, If(apart, SELF, s.h)),
        "hfree": Or(s.hfree, dies),
        "tfree": Or(s.tfree, dies),
        "uns": And(s.uns, Not(dies)),
        "U": If(dies, 0, s.U),
        "P": If(apart, s.P + hold, s.P),
        "selfsplit": If(apart, 1, s.selfsplit),
        "misuse": Or(s.misuse, s.R < count),
    }


def clone_on_tail(s, number):
    """One of the handles that are being cloned, and its new ones: the last takes those that are left."""
    made = If(s.cloning == 1, s.made, If(number <= s.made, number, s.made))
    return {
        "tr": s.tr + made,
        "cloning": s.cloning - 1,
        "made": s.made - made,
        "n": s.n + 1 + made,
        "misuse": Or(s.misuse, s.t != ALONE),
    }


def convert_tail(s, refs):
    return {
        "t": z3.IntVal(ALONE),
        "tr": refs,
        "back": If(s.tp > 0, s.back + 1, s.back),
        "moved": If(s.tp > 0, s.moved + 1, s.moved),
    }


def unpin_tail(s, gives_back):
    last = s.tp == 1
    dies = And(last, s.t == ALONE, s.tr == 0)
    return {
        "tp": less(s.tp),
        "ht": s.ht - 1,
        "back": If(And(last, s.t == TAIL), s.back + (1 if gives_back else 0), s.back),
        "t": If(dies, GONE, s.t),
        "tfree": Or(s.tfree, dies),
        "misuse": Or(s.misuse, s.tp == 0, And(dies, s.tfree)),
    }


def rule(name, by, when, does):
    return Rule(
        name,
        tuple(by.split()),
        when,
        lambda s, number, flag: does(s, number, flag) if does.__code__.co_argcount == 3 else does(s),
    )


ALLOCATE = [
    rule(
        "the block is handed out",
        "life::publish life::claim_as life::claim_and_publish_among",
        lambda s: And(s.hfree, s.tfree),
        lambda s, number, flag: {
            "h": z3.IntVal(WHOLE),
            "t": z3.IntVal(TAIL),
            "R": z3.IntVal(1),
            "n": s.n + 1,
            "U": number,
            "uns": flag,
            "hfree": z3.BoolVal(False),
            "tfree": z3.BoolVal(False),
        },
    ),
    rule(
        "H is handed out by itself",
        "life::publish life::claim_as life::claim_and_publish_among",
        lambda s: s.hfree,
        lambda s: {"h": z3.IntVal(PAGE), "R": z3.IntVal(1), "sh": s.sh + 1, "hfree": z3.BoolVal(False)},
    ),
    rule(
        "T is handed out by itself",
        "life::publish life::claim_as life::claim_and_publish_among",
        lambda s: s.tfree,
        lambda s: {"t": z3.IntVal(ALONE), "tr": z3.IntVal(1), "st": s.st + 1, "tfree": z3.BoolVal(False)},
    ),
]

PINS = [
    rule(
        "a hold for a first pin",
        "pin::hold pin::count_on",
        lambda s: And(covers(s.h), s.R + s.P > 0, Not(s.uns)),
        lambda s: {"P": s.P + 1, "first": s.first + 1},
    ),
    rule(
        "first pin of T",
        "pin::pin_first",
        lambda s: And(s.first > 0, s.t == TAIL, s.tp == 0),
        lambda s: {"tp": z3.IntVal(1), "ht": s.ht + 1, "first": s.first - 1},
    ),
    rule(
        "first pin of another tail",
        "pin::pin_first",
        lambda s: And(s.first > 0, s.U > 0),
        lambda s: {"U": s.U - 1, "K": s.K + 1, "first": s.first - 1},
    ),
    rule(
        "a first pin fails",
        "pin::pin_first",
        lambda s: s.first > 0,
        lambda s: {"first": s.first - 1, "back": s.back + 1},
    ),
    rule(
        "a hold is given back",
        "pin::unpin_step",
        lambda s: s.back > 0,
        lambda s: {**unpin_head(s), "back": s.back - 1},
    ),
    rule(
        "one more pin of T",
        "pin::try_get pin::count_on pin::get",
        lambda s: Or(And(s.t == TAIL, s.tp > 0), And(s.t == ALONE, s.tp + s.tr > 0)),
        lambda s: {"tp": s.tp + 1, "ht": s.ht + 1},
    ),
    rule(
        "T is unpinned", "pin::unpin_step misuse::raw_put pin::last_pin_went", lambda s: s.ht > 0, lambda s: unpin_tail(s, True)
    ),
    rule(
        "another tail is unpinned for the last time",
        "pin::unpin_step pin::last_pin_went",
        lambda s: s.K > 0,
        lambda s: {"K": s.K - 1, "U": s.U + 1, "back": s.back + 1},
    ),
    rule(
        "H is pinned",
        "pin::try_get pin::count_on pin::get token::help_pinned",
        lambda s: And(s.h != FREE, s.R + s.P > 0, Not(s.uns)),
        lambda s: {"P": s.P + 1, "own": s.own + 1},
    ),
    rule(
        "H is unpinned", "pin::unpin_step misuse::raw_put", lambda s: s.own > 0, lambda s: {**unpin_head(s), "own": s.own - 1}
    ),
    rule(
        "a page of an unsplittable block is pinned",
        "pin::count_on",
        lambda s: And(s.uns, s.R + s.P > 0),
        lambda s: {"P": s.P + 1, "hu": s.hu + 1},
    ),
    rule(
        "a page of an unsplittable block is unpinned",
        "pin::unpin_step misuse::raw_put",
        lambda s: s.hu > 0,
        lambda s: {**unpin_head(s), "hu": s.hu - 1},
    ),
]

REFERENCES = [
    # By any number at once, and so below.
    rule(
        "the block is cloned",
        "blocks::get_block blocks::get_refs_on token::get_on",
        lambda s: And(s.n > 0, s.h == WHOLE),
        lambda s, number, flag: {"R": s.R + number, "n": s.n + number},
    ),
    rule(
        "the block is dropped",
        "blocks::put_block blocks::free_page_in blocks::put_last_ref blocks::put_last_of_pageblock blocks::put_last_of_parked blocks::put_last_of_any blocks::free_parked_at blocks::drop_refs_from life::free_at_once life::free_uncoalesced_at split::self_split",
        lambda s: And(s.n > 0, s.h == WHOLE),
        lambda s, number, flag: drop_whole(s, 1, some(number, s.n)),
    ),
    rule(
        "the pieces are cloned: H",
        "blocks::get_refs_on",
        lambda s: And(s.n > 0, s.h == PAGE),
        lambda s, number, flag: {
            "R": s.R + number,
            "n": s.n - 1,
            "cloning": s.cloning + 1,
            "made": s.made + number,
        },
    ),
    rule(
        "the pieces are cloned: T",
        "blocks::get_refs_on",
        lambda s: s.cloning > 0,
        lambda s, number, flag: clone_on_tail(s, number),
    ),
    rule(
        "the pieces are dropped: H",
        "blocks::drop_refs_from life::free_at_once life::free_uncoalesced_at",
        lambda s: And(s.n > 0, s.h == PAGE),
        lambda s, number, flag: {
            **drop_on_head(s, some(number, s.n)),
            "n": s.n - some(number, s.n),
            "dropping": s.dropping + some(number, s.n),
        },
    ),
    rule(
        "the pieces are dropped: T",
        "blocks::drop_refs_from life::free_at_once life::free_uncoalesced_at",
        lambda s: s.dropping > 0,
        lambda s, number, flag: {
            **drop_on_tail(s, some(number, s.dropping)),
            "dropping": s.dropping - some(number, s.dropping),
        },
    ),
    rule(
        "the pieces become handles of their own",
        "blocks::get_refs_on",
        lambda s: And(s.n > 0, s.h == PAGE, s.t == ALONE),
        lambda s: {"n": s.n - 1, "sh": s.sh + 1, "st": s.st + 1},
    ),
    rule(
        "handles of pages become one",
        "merge::merge",
        lambda s: And(s.sh > 0, s.st > 0),
        lambda s: {"n": s.n + 1, "sh": s.sh - 1, "st": s.st - 1},
    ),
    rule(
        "H's handle is cloned",
        "blocks::get_block blocks::get_refs_on token::get_on",
        lambda s: s.sh > 0,
        lambda s, number, flag: {"R": s.R + number, "sh": s.sh + number},
    ),
    rule(
        "T's handle is cloned",
        "blocks::get_block blocks::get_refs_on token::get_on",
        lambda s: s.st > 0,
        lambda s, number, flag: {"tr": s.tr + number, "st": s.st + number},
    ),
    rule(
        "H's handle is dropped",
        "blocks::put_block blocks::free_page_in blocks::put_last_ref blocks::put_last_of_pageblock blocks::put_last_of_parked blocks::put_last_of_any blocks::free_parked_at blocks::drop_refs_from life::free_at_once life::free_uncoalesced_at",
        lambda s: s.sh > 0,
        lambda s, number, flag: {**drop_on_head(s, some(number, s.sh)), "sh": s.sh - some(number, s.sh)},
    ),
    rule(
        "T's handle is dropped",
        "blocks::put_block blocks::free_page_in blocks::put_last_ref blocks::put_last_of_pageblock blocks::put_last_of_parked blocks::put_last_of_any blocks::free_parked_at blocks::drop_refs_from life::free_at_once life::free_uncoalesced_at",
        lambda s: s.st > 0,
        lambda s, number, flag: {**drop_on_tail(s, some(number, s.st)), "st": s.st - some(number, s.st)},
    ),
]


def never_held(s):
    return And(Not(tail_pinned(s)), s.K == 0, s.first == 0, s.back == 0)


def taken_apart(s, held):
    """The head of a dying block is a page, or free, and what is still a tail of it is free."""
    dies = And(s.R == 0, s.P == held)
    still = s.t == TAIL
    return {
        "h": If(dies, FREE, PAGE),
        "P": s.P - held,
        "hfree": Or(s.hfree, dies),
        "tfree": Or(s.tfree, still),
        "U": z3.IntVal(0),
        "held": z3.IntVal(0),
        "selfsplit": z3.IntVal(0),
        "misuse": Or(s.misuse, And(dies, s.hfree), And(still, s.tfree)),
    }


def all_rewritten(s):
    """A helper has looked at every tail since the split began; what was rewritten is no tail of the block again while it helps."""
    return And(s.t != TAIL, s.U == 0, s.K == 0)


SPLITS = [
    rule(
        "a split begins",
        "split::split_piece merge::to_pages",
        lambda s: And(s.n > 0, s.h == WHOLE, Not(s.uns)),
        lambda s: {
            "h": z3.IntVal(SPLIT),
            "r0": s.R,
            "p0": s.P,
            "moved": z3.IntVal(0),
            "n": s.n - 1,
            "busy": s.busy + 1,
        },
    ),
    rule(
        "another helps",
        "split::help_split",
        lambda s: And(s.n > 0, s.h == SPLIT),
        lambda s: {"n": s.n - 1, "busy": s.busy + 1},
    ),
    # A helper may be late: that the block is being split still is not asked here, but follows.
    rule(
        "T becomes a page",
        "split::convert split::convert_all",
        lambda s: And(s.busy > 0, s.t == TAIL),
        lambda s: convert_tail(s, s.r0),
    ),
    rule(
        "another tail becomes a page",
        "split::convert split::convert_all",
        lambda s: And(s.busy > 0, s.h == SPLIT, s.U > 0),
        lambda s: {"U": s.U - 1},
    ),
    rule(
        "another pinned tail becomes a page",
        "split::convert",
        lambda s: And(s.busy > 0, s.h == SPLIT, s.K > 0),
        lambda s: {"K": s.K - 1, "back": s.back + 1, "moved": s.moved + 1},
    ),
    rule(
        "the split ends",
        "split::settle",
        lambda s: And(s.busy > 0, s.h == SPLIT, all_rewritten(s)),
        lambda s: {"h": z3.IntVal(PAGE)},
    ),
    rule(
        "a helper is done",
        "split::help_split",
        lambda s: And(s.busy > 0, s.h != SPLIT),
        lambda s: {"busy": s.busy - 1, "n": s.n + 1},
    ),
    # Its hold is from then on one of the splitter's.
    rule(
        "T of a dying block becomes a page",
        "split::scatter_tails",
        lambda s: And(s.selfsplit == 1, s.t == TAIL, s.tp > 0),
        lambda s: {"t": z3.IntVal(ALONE), "tr": z3.IntVal(0), "held": s.held + 1},
    ),
    rule(
        "T of a dying block is freed",
        "split::scatter_tails",
        lambda s: And(s.selfsplit == 1, s.t == TAIL, s.tp == 0),
        lambda s: {"t": z3.IntVal(GONE), "tfree": z3.BoolVal(True), "misuse": Or(s.misuse, s.tfree)},
    ),
    rule(
        "another tail of a dying block is freed",
        "split::scatter_tails",
        lambda s: And(s.selfsplit == 1, s.U > 0),
        lambda s: {"U": s.U - 1},
    ),
    rule(
        "another pinned tail of a dying block becomes a page",
        "split::scatter_tails",
        lambda s: And(s.selfsplit == 1, s.K > 0),
        lambda s: {"K": s.K - 1, "held": s.held + 1},
    ),
    # Every tail was rewritten, or H has no pin but the splitter's; or it says that it was never held: `marks.py` has that then none is pinned,
    # and no thread about to pin one.
    rule(
        "a dying block is taken apart",
        "split::scatter_pages",
        lambda s: And(s.selfsplit == 1, Or(all_rewritten(s), s.P == s.held + 1, never_held(s))),
        lambda s: taken_apart(s, s.held + 1),
    ),
]

MERGES = [
    rule(
        "a merge begins",
        "merge::join",
        lambda s: And(s.n > 0, s.h == PAGE, s.R == 1, s.t == ALONE, s.tr == 1),
        lambda s, number, flag: {"h": z3.IntVal(MERGE), "n": s.n - 1, "merger": s.merger + 1, "M": number},
    ),
    # It is to be merged with others, or heads them: from here on no one has a reference but the merger.
    rule(
        "the block is set apart",
        "merge::check_pieces token::set_apart merge::join",
        lambda s: And(s.n > 0, s.h == WHOLE, s.R == 1, Not(s.uns)),
        lambda s: {"h": z3.IntVal(MERGE), "n": s.n - 1, "merger": s.merger + 1, "M": z3.IntVal(0)},
    ),
    rule(
        "the merge goes back to pages",
        "merge::to_pages",
        lambda s: And(s.merger > 0, s.mt == 0, s.mo == 0),
        lambda s: {
            "h": z3.IntVal(SPLIT),
            "r0": s.R,
            "p0": s.P,
            "moved": z3.IntVal(0),
            "M": z3.IntVal(0),
            "merger": s.merger - 1,
            "busy": s.busy + 1,
        },
    ),
    rule(
        "T is taken in without pins",
        "merge::adopt merge::join",
        lambda s: And(s.merger > 0, s.t == ALONE, s.tp == 0, s.mt == 0),
        lambda s: {"t": z3.IntVal(TAIL), "tr": z3.IntVal(0)},
    ),
    rule(
        "the merger takes a hold for T",
        "merge::adopt_pinned",
        lambda s: And(s.merger > 0, s.t == ALONE, s.tp > 0, s.mt == 0),
        lambda s: {"P": s.P + 1, "mt": z3.IntVal(1)},
    ),
    rule(
        "T is taken in with its pins",
        "merge::adopt_pinned",
        lambda s: And(s.mt > 0, s.t == ALONE, s.tp > 0),
        lambda s: {"t": z3.IntVal(TAIL), "tr": z3.IntVal(0), "mt": s.mt - 1},
    ),
    rule(
        "the merger gives its hold for T back",
        "merge::adopt_pinned",
        lambda s: s.mt > 0,
        lambda s: {"mt": s.mt - 1, "back": s.back + 1},
    ),
    rule(
        "another page is taken in",
        "merge::join merge::adopt",
        lambda s: And(s.merger > 0, s.M > 0),
        lambda s: {"M": s.M - 1, "U": s.U + 1},
    ),
    rule(
        "the merger takes a hold for another",
        "merge::adopt_pinned",
        lambda s: And(s.merger > 0, s.M > 0),
        lambda s: {"P": s.P + 1, "mo": s.mo + 1},
    ),
    rule(
        "another page is taken in with its pins",
        "merge::adopt_pinned",
        lambda s: And(s.mo > 0, s.M > 0),
        lambda s: {"mo": s.mo - 1, "M": s.M - 1, "K": s.K + 1},
    ),
    rule(
        "the merger gives its hold for another back",
        "merge::adopt_pinned",
        lambda s: s.mo > 0,
        lambda s: {"mo": s.mo - 1, "back": s.back + 1},
    ),
    rule(
        "the merge ends",
        "merge::join merge::set_together",
        lambda s: And(s.merger > 0, s.t == TAIL, s.M == 0, s.mt == 0, s.mo == 0),
        lambda s: {"h": z3.IntVal(WHOLE), "merger": s.merger - 1, "n": s.n + 1},
    ),
]

LOOKS = [
    rule(
        "one who wants T sees an unpinned tail",
        "pin::try_get",
        lambda s: And(s.looker == 0, s.t == TAIL, s.tp == 0),
        lambda s: {"looker": z3.IntVal(1), "changed": z3.BoolVal(False), "was_free": unused(s.t, s.h)},
    ),
    rule(
        "no head is found for it",
        "pin::hold_head_of pin::count_on",
        lambda s: And(s.looker == 1, Not(And(covers(s.h), s.R + s.P > 0))),
        lambda s: {"looker": z3.IntVal(2)},
    ),
    rule(
        "not in use, it says",
        "pin::pin_first",
        lambda s: And(s.looker == 2, Not(s.changed)),
        lambda s: {"looker": z3.IntVal(0), "misuse": Or(s.misuse, Not(s.was_free))},
    ),
    rule(
        "it looks again",
        "pin::count_on",
        lambda s: And(s.looker > 0, s.changed),
        lambda s: {"looker": z3.IntVal(0)},
    ),
]


def notes(before, after):
    different = Or([after[v] != getattr(before, v) for v in ("t", "tp", "tr")])
    began = And(before.looker == 0, after["looker"] == 1)
    return {
        "changed": If(began, after["changed"], Or(before.changed, different)),
        "was_free": If(began, after["was_free"], Or(before.was_free, unused(after["t"], after["h"]))),
    }


def initial(s):
    counts = [getattr(s, v) == 0 for v, sort in SORTS.items() if sort == "count"]
    return And(
        s.h == FREE,
        s.t == GONE,
        s.hfree,
        s.tfree,
        Not(s.uns),
        Not(s.misuse),
        Not(s.changed),
        Not(s.was_free),
        *counts,
    )


def tail_pinned(s):
    return And(s.t == TAIL, s.tp > 0)


def one_if(condition):
    return If(condition, 1, 0)


HANDLES_OF_H = lambda s: s.n + s.busy + s.cloning + s.sh + s.merger
HOLDS = lambda s: (
    s.K + s.first + s.back + s.mt + s.mo + s.held + one_if(s.selfsplit == 1) + one_if(And(s.t == TAIL, s.ht > 0))
)

SAFE = {
    "a pinned page is not free, and a pinned tail has a head": lambda s: And(
        Implies(s.ht > 0, And(Not(s.tfree), s.t != GONE, Or(s.t != TAIL, covers(s.h)))),
        Implies(s.own + s.hu > 0, Not(s.hfree)),
    ),
    "a page with a reference is not free": lambda s: And(
        Implies(s.n + s.busy + s.cloning + s.sh + s.merger > 0, Not(s.hfree)),
        Implies(s.n + s.busy + s.cloning + s.st + s.dropping + s.merger > 0, Not(s.tfree)),
    ),
    "no pin gets lost": lambda s: s.tp == s.ht,
    "what no one has a pin, hold or reference of is free": lambda s: And(
        Or(s.hfree, HANDLES_OF_H(s) + s.own + s.hu + HOLDS(s) + s.selfsplit > 0),
        Or(
            s.tfree,
            And(s.t == TAIL, covers(s.h)),
            s.n + s.busy + s.cloning + s.dropping + s.st + s.merger + s.ht > 0,
        ),
    ),
    "nothing is given back that was not there, nothing freed twice, and no page in use is refused": lambda s: (
        Not(s.misuse)
    ),
}

Implies = z3.Implies

HELPS = {
    "pins of H": lambda s: (
        s.P
        == s.own
        + s.hu
        + s.K
        + s.first
        + s.back
        + s.mt
        + s.mo
        + s.held
        + one_if(s.selfsplit == 1)
        + one_if(tail_pinned(s))
    ),
    "references of H": lambda s: s.R == s.n + s.busy + s.cloning + s.made + s.sh + s.merger,
    "references of T": lambda s: (
        s.tr == If(s.t == ALONE, s.n + s.busy + s.cloning + s.dropping + s.st + s.merger, 0)
    ),
    "H free": lambda s: And(
        (s.h == FREE) == s.hfree, Implies(s.hfree, And(s.R == 0, s.P == 0)), Or(s.hfree, s.R + s.P > 0)
    ),
    "T free": lambda s: And(
        Implies(s.t == GONE, s.tfree),
        Implies(s.tfree, And(s.t != ALONE, s.tp == 0)),
        Implies(s.t == TAIL, s.tfree == Not(covers(s.h))),
        Implies(s.t == ALONE, s.tp + s.tr > 0),
    ),
    "handles": lambda s: And(
        Implies(And(s.t != ALONE, s.n + s.busy + s.merger > 0), And(s.t == TAIL, covers(s.h))),
        Implies(s.t != ALONE, And(s.cloning == 0, s.dropping == 0, s.st == 0)),
        Implies(s.cloning > 0, And(s.h == PAGE, s.t == ALONE)),
        Implies(s.made > 0, s.cloning > 0),
        Implies(s.sh > 0, s.h == PAGE),
    ),
    "whole": lambda s: Implies(s.h == WHOLE, And(s.t == TAIL, Or(s.uns, s.R > 0))),
    "split": lambda s: And(
        Implies(s.h == SPLIT, And(s.busy > 0, s.r0 == s.R, s.t != GONE, Implies(s.t == ALONE, s.tr == s.R))),
        Implies(And(s.busy > 0, s.h != SPLIT), And(s.h == PAGE, s.t == ALONE)),
    ),
    "merge": lambda s: And(
        s.merger == one_if(s.h == MERGE),
        s.mt <= 1,
        Implies(s.mt + s.mo > 0, s.h == MERGE),
        Implies(s.h == MERGE, And(s.R == 1, s.t != GONE, Implies(s.t == ALONE, s.tr == 1))),
        Implies(And(s.h == MERGE, s.mt > 0), s.t == ALONE),
    ),
    "dying": lambda s: And(
        s.selfsplit == one_if(s.h == SELF), Implies(s.h == SELF, s.R == 0), Implies(s.held > 0, s.h == SELF)
    ),
    "others": lambda s: Implies(Not(covers(s.h)), And(s.U == 0, s.K == 0)),
    # A hold keeps H in its life; once H heads no block with T, what was T's tail word there is T's no more.
    "first pins": lambda s: Implies(And(s.t == TAIL, Not(covers(s.h))), s.first == 0),
    "unsplittable": lambda s: And(
        Implies(s.uns, And(s.h == WHOLE, s.tp == 0, s.K == 0, s.first == 0)), Implies(s.hu > 0, s.uns)
    ),
    "a look": lambda s: And(
        s.looker <= 2,
        Implies(And(s.looker == 1, Not(s.changed)), And(s.t == TAIL, s.tp == 0)),
        Implies(And(s.looker == 2, Not(s.changed)), And(s.was_free, s.t == TAIL, s.tp == 0)),
    ),
    "no thread without a hold": lambda s: s.bare == 0,
}


def like(name, when=None, does=None):
    """The rule of that name, changed."""
    original = next(r for r in RULES if r.name == name)
    return (
        rule(name, " ".join(original.by), when or original.when, does)
        if does
        else Rule(name, original.by, when, original.does)
    )


RULES = ALLOCATE + PINS + REFERENCES + SPLITS + MERGES + LOOKS

WITHOUT = {
    "W1": Missing(
        [
            rule(
                "the hold is let go before the first pin",
                "pin::pin_first",
                lambda s: s.first > 0,
                lambda s: {**unpin_head(s), "first": s.first - 1, "bare": s.bare + 1},
            ),
            rule(
                "first pin of T without a hold",
                "pin::pin_first",
                lambda s: And(s.bare > 0, s.t == TAIL, s.tp == 0),
                lambda s: {"tp": z3.IntVal(1), "ht": s.ht + 1, "bare": s.bare - 1},
            ),
        ],
        [
            "the block is handed out",
            "a hold for a first pin",
            "the hold is let go before the first pin",
            "first pin of T without a hold",
            "the block is dropped",
        ],
    ),
    "W2": Missing(
        [like("a hold for a first pin", lambda s: And(s.h != FREE, s.R + s.P > 0, Not(s.uns)))],
        [
            "the block is handed out",
            "the block is dropped",
            "H is handed out by itself",
            "a hold for a first pin",
            "first pin of T",
        ],
    ),
    "W3": Missing(
        [
            rule(
                "a failed first pin is believed",
                "pin::pin_first",
                lambda s: And(s.first > 0, Or(s.t != TAIL, s.tp > 0)),
                lambda s: {"ht": s.ht + 1, "first": s.first - 1},
            )
        ],
        [
            "the block is handed out",
            "a hold for a first pin",
            "a split begins",
            "T becomes a page",
            "a failed first pin is believed",
        ],
    ),
    "W4": Missing(
        [like("not in use, it says", lambda s: s.looker == 2)],
        [
            "the block is handed out",
            "one who wants T sees an unpinned tail",
            "a split begins",
            "T becomes a page",
            "the split ends",
            "no head is found for it",
            "not in use, it says",
        ],
    ),
    "W5": Missing(
        [
            like("the block is cloned", lambda s: And(s.n > 0, Or(s.h == WHOLE, s.h == SPLIT))),
            rule(
                "a reference goes during the split",
                "blocks::put_refs_on",
                lambda s: And(s.n > 0, s.h == SPLIT, s.R > 1),
                lambda s: {"R": less(s.R), "n": s.n - 1},
            ),
        ],
        [
            "the block is handed out",
            "the block is cloned",
            "a split begins",
            "a reference goes during the split",
            "T becomes a page",
            "the split ends",
            "a helper is done",
            "the pieces are dropped: H",
            "the pieces are dropped: T",
        ],
    ),
    "W6": Missing(
        [like("T is unpinned", does=lambda s: unpin_tail(s, False))],
        [
            "the block is handed out",
            "a hold for a first pin",
            "first pin of T",
            "T is unpinned",
            "a split begins",
            "T becomes a page",
            "the split ends",
            "a helper is done",
            "the pieces are dropped: H",
            "the pieces are dropped: T",
        ],
    ),
    "W7": Missing(
        [
            rule(
                "T is taken in with its pins and no hold",
                "merge::adopt_pinned",
                lambda s: And(s.merger > 0, s.t == ALONE, s.tp > 0),
                lambda s: {"t": z3.IntVal(TAIL), "tr": z3.IntVal(0)},
            )
        ],
        [
            "H is handed out by itself",
            "T is handed out by itself",
            "handles of pages become one",
            "one more pin of T",
            "a merge begins",
            "T is taken in with its pins and no hold",
            "the merge ends",
            "the block is dropped",
        ],
    ),
    "W9": Missing(
        [like("the split ends", lambda s: And(s.busy > 0, s.h == SPLIT))],
        [
            "the block is handed out",
            "a split begins",
            "the split ends",
            "a helper is done",
            "the pieces are dropped: H",
            "the pieces are dropped: T",
        ],
    ),
    "W10": Missing(
        [like("T becomes a page", lambda s: And(s.busy > 0, s.t != GONE))],
        [
            "the block is handed out",
            "the block is cloned",
            "a split begins",
            "another helps",
            "T becomes a page",
            "the split ends",
            "a helper is done",
            "the pieces are dropped: H",
            "the pieces are dropped: T",
            "T becomes a page",
            "a helper is done",
            "the pieces are dropped: H",
            "the pieces are dropped: T",
        ],
    ),
    "W11": Missing(
        [like("the split ends", does=lambda s: {"h": z3.IntVal(PAGE), "P": s.p0})],
        [
            "the block is handed out",
            "a split begins",
            "H is pinned",
            "T becomes a page",
            "the split ends",
            "a helper is done",
            "the pieces are dropped: H",
        ],
    ),
    "W11-value": Missing(
        [
            like(
                "the split ends",
                does=lambda s: {"h": z3.IntVal(PAGE), "P": If(s.p0 > s.moved, s.p0 - s.moved, 0)},
            )
        ],
        [
            "the block is handed out",
            "H is pinned",
            "a split begins",
            "H is unpinned",
            "T becomes a page",
            "the split ends",
            "a helper is done",
            "the pieces are dropped: H",
        ],
    ),
    "W12": Missing(
        [like("T becomes a page", does=lambda s: convert_tail(s, z3.IntVal(1)))],
        [
            "the block is handed out",
            "the block is cloned",
            "a split begins",
            "T becomes a page",
            "the split ends",
            "a helper is done",
            "the pieces are dropped: H",
            "the pieces are dropped: T",
        ],
    ),
    "W18": Missing(
        [
            like("the block is dropped", does=lambda s: drop_whole(s, 0)),
            like(
                "a dying block is taken apart",
                does=lambda s: {
                    **taken_apart(s, s.held),
                    "h": z3.IntVal(PAGE),
                    "hfree": s.hfree,
                    "selfsplit": z3.IntVal(2),
                },
            ),
            rule(
                "who took it apart looks at the end",
                "split::settle_and_look",
                lambda s: s.selfsplit == 2,
                lambda s: {
                    "selfsplit": z3.IntVal(0),
                    "h": If(And(s.R == 0, s.P == 0), FREE, s.h),
                    "hfree": Or(s.hfree, And(s.R == 0, s.P == 0)),
                    "misuse": Or(s.misuse, And(s.R == 0, s.P == 0, s.hfree)),
                },
            ),
        ],
        [
            "the block is handed out",
            "H is pinned",
            "the block is dropped",
            "T of a dying block is freed",
            "a dying block is taken apart",
            "H is unpinned",
            "who took it apart looks at the end",
        ],
    ),
    "W20": Missing(
        [like("a dying block is taken apart", lambda s: s.selfsplit == 1)],
        [
            "the block is handed out",
            "H is pinned",
            "a hold for a first pin",
            "the block is dropped",
            "a dying block is taken apart",
            "first pin of T",
        ],
    ),
}

BLOCK = Machine(
    "block",
    SORTS,
    initial,
    RULES,
    SAFE,
    HELPS,
    WITHOUT,
    notes=notes,
)

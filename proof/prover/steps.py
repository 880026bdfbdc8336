"""The table of states: between which kinds of frame each step passes, who takes it, and that there is no other way.

`when` is what the caller has looked at before it takes the step; it is read off the caller, and the caller is named. `arrows` are the
states before and after. Of each step is proved that it leads from each of its states to exactly those named (each by some word), and that it
leads from a reachable word to a reachable word.
"""

import re
from dataclasses import dataclass
from functools import cache
from typing import Callable

import z3

from . import llvm
from .compile import ROOT
from .fields import (
    HEADS_ONLY,
    HEAD,
    HUGE,
    MAX,
    MERGING,
    MOST_PINS,
    OUT,
    PAGE,
    PIN_LIMIT,
    REF_LIMIT,
    SPLITTING,
    STATES,
    TAIL,
    UNSPLITTABLE,
    Word,
    among,
    falls_to_pages,
    reachable,
)
from .statements import prove, show
from .transitions import smallest_pieces

CORE = ROOT / "crates/tailpin/src/one_word"


@dataclass(eq=False)
class Step:
    name: str
    # `file::function` under `one_word/`.
    by: tuple
    # The compiled functions in the order in which they are applied, or steps on the bare word.
    apply: Callable
    when: Callable
    arrows: dict


class Code:
    """Applies compiled functions to words."""

    def __init__(self, module):
        self.module = module

    def __getattr__(self, symbol):
        def applied(*arguments):
            numbers = [z3.BitVecVal(a, 64) if isinstance(a, int) else a for a in arguments]
            return llvm.call(self.module, symbol, *numbers).bits

        return applied


class Recorder(Code):
    """Code that notes what is applied, and applies nothing."""

    def __init__(self):
        super().__init__(None)
        self.seen = set()

    def __getattr__(self, symbol):
        self.seen.add(symbol)
        return lambda *_: z3.BitVec("any", 64)


@cache
def applied_by(step):
    """What a step applies."""
    recorder, any_word = Recorder(), z3.BitVec("any", 64)
    step.apply(recorder, any_word, any_word, any_word, Word(any_word))
    return frozenset(recorder.seen)


HEADS = ("page", "head", "unsplittable", "splitting", "heads-only", "merging")


def same(*states):
    return {state: (state,) for state in states}


def live(w):
    return z3.Or(w.pins != 0, w.refs != 0)


def all_refs(w, n):
    """The last references of a settled head, however many."""
    return z3.And(w.is_settled, w.refs != 0, w.refs == n)


def dead(w):
    return z3.And(w.is_settled, w.pins == 0, w.refs == 0)


def splittable(w):
    return w.kind == HEAD


def split_target(w, o):
    """`split_piece`: below the order, and no smaller than one step can make them."""
    return z3.And(z3.ULT(o, w.order), z3.UGE(o, smallest_pieces(w)))


def mergeable(w):
    """A piece of the caller's alone, or one that was set apart as such."""
    return z3.And(among(w.kind, HEAD, MERGING), w.refs == 1)


def unpinned_tail(w):
    return z3.And(w.kind == TAIL, w.pins == 0)


def begun(b):
    """A word that a split under way has, and reachable."""
    return z3.And(reachable(b), among(b.kind, SPLITTING, HEADS_ONLY))


# What a block that is handed out has for a head.
NEW = ("page", "head", "unsplittable")

# What a tail can be, and what it is once it names an order.
TAILS = ("implicit", "tail", "pinned tail")
NAMED = {"implicit": ("tail",), "tail": ("tail",), "pinned tail": ("pinned tail",)}

# Arguments: w the word, o an order up to 18, n a number of references or a truth value, b another word.
STEPS = [
    Step(
        "publish",
        ("life::publish",),
        lambda c, w, o, n, b: c.publish(w, o, n),
        lambda w, o, n, b: w.is_idle,
        {"implicit": NEW, "tail": NEW, "free": NEW},
    ),
    Step(
        "publish",
        ("life::claim_as", "life::claim_left", "life::claim_and_publish_among"),
        lambda c, w, o, n, b: c.publish(w, o, n),
        lambda w, o, n, b: w.is_uncoalesced(o),
        {"uncoalesced": NEW},
    ),
    Step(
        "claimed",
        ("life::claim_as",),
        lambda c, w, o, n, b: c.claimed(w),
        lambda w, o, n, b: w.is_uncoalesced(o),
        {"uncoalesced": ("free",)},
    ),
    Step(
        "as_uncoalesced",
        ("life::leave_uncoalesced",),
        lambda c, w, o, n, b: c.as_uncoalesced(w, o),
        lambda w, o, n, b: z3.And(w.is_idle, z3.ULE(o, HUGE)),
        {"implicit": ("uncoalesced",), "tail": ("uncoalesced",), "free": ("uncoalesced",)},
    ),
    Step(
        "as_free",
        ("life::prepare_tails",),
        lambda c, w, o, n, b: c.as_free(w, n),
        lambda w, o, n, b: w.is_idle,
        {"implicit": ("free",), "tail": ("free",), "free": ("free",)},
    ),
    Step(
        "tail_of, in preparation",
        ("life::prepare_tails",),
        lambda c, w, o, n, b: c.tail_of(w, o),
        lambda w, o, n, b: z3.And(w.is_idle, o != 0),
        {"implicit": ("tail",), "tail": ("tail",), "free": ("tail",)},
    ),
    Step(
        "as_implicit, of a free pageblock",
        ("life::scrub",),
        lambda c, w, o, n, b: c.as_implicit(w),
        lambda w, o, n, b: w.is_idle,
        {"implicit": ("implicit",), "tail": ("implicit",), "free": ("implicit",)},
    ),
    Step(
        "a first pin",
        ("pin::pin_first",),
        lambda c, w, o, n, b: c.tail_of(w, o) + 1,
        lambda w, o, n, b: z3.And(unpinned_tail(w), o != 0),
        {"implicit": ("pinned tail",), "tail": ("pinned tail",)},
    ),
    Step(
        "a first hold on a 2 MiB part",
        ("pin::pin_first",),
        lambda c, w, o, n, b: c.hold(c.tail_of(w, o), 1),
        lambda w, o, n, b: z3.And(unpinned_tail(w), z3.UGT(w.order, HUGE), z3.UGT(o, HUGE)),
        {"tail": ("pinned tail",)},
    ),
    Step(
        "pin",
        ("pin::try_get", "pin::count_on"),
        lambda c, w, o, n, b: c.pin(w, 1),
        lambda w, o, n, b: z3.And(
            z3.ULT(w.pins, PIN_LIMIT), z3.Or(z3.And(w.kind == TAIL, w.pins != 0), w.is_live)
        ),
        same("pinned tail", *HEADS),
    ),
    Step(
        "one more pin, unpin",
        ("pin::get", "pin::unpin_step", "misuse::raw_put"),
        lambda c, w, o, n, b: z3.If(n == 0, w + 1, c.unpin(w, 1)),
        lambda w, o, n, b: z3.And(w.pins != 0, z3.ULT(w.pins, MOST_PINS), z3.Or(w.kind == TAIL, w.is_head)),
        {**same(*HEADS), "pinned tail": ("pinned tail", "tail")},
    ),
    Step(
        "hold on a settled head",
        ("pin::hold",),
        lambda c, w, o, n, b: c.hold_settled(w),
        lambda w, o, n, b: z3.And(w.kind == HEAD, w.is_live, w.order != 0, z3.ULT(w.pins, MOST_PINS)),
        {"head": ("head",)},
    ),
    Step(
        "hold",
        ("pin::count_on",),
        lambda c, w, o, n, b: c.hold(w, 1),
        lambda w, o, n, b: z3.And(w.is_live, w.kind != UNSPLITTABLE, w.order != 0, z3.ULT(w.pins, MOST_PINS)),
        {
            "head": ("head",),
            "splitting": ("splitting",),
            "heads-only": ("splitting",),
            "merging": ("merging",),
        },
    ),
    Step(
        "hold on a 2 MiB part",
        ("pin::count_on",),
        lambda c, w, o, n, b: c.hold(w, 1),
        lambda w, o, n, b: z3.And(
            w.kind == TAIL, z3.UGT(w.order, HUGE), w.pins != 0, z3.ULT(w.pins, MOST_PINS)
        ),
        same("pinned tail"),
    ),
    Step(
        "add_refs",
        ("blocks::get_refs_on", "blocks::get_block", "blocks::get_block_found", "token::get_on"),
        lambda c, w, o, n, b: c.add_refs(w, n),
        lambda w, o, n, b: z3.And(
            w.is_settled, w.refs != 0, z3.ULE(n, REF_LIMIT), z3.ULE(w.refs + n, REF_LIMIT)
        ),
        same("page", "head", "unsplittable"),
    ),
    Step(
        "drop_refs",
        ("blocks::drop_refs_from", "blocks::drops_one_of_more"),
        lambda c, w, o, n, b: c.drop_refs(w, n),
        lambda w, o, n, b: z3.And(w.is_settled, z3.ULE(n, w.refs)),
        same("page", "head", "unsplittable"),
    ),
    Step(
        "frees_uncoalesced",
        (
            "life::free_uncoalesced_at",
            "blocks::free_page_in",
            "blocks::free_parked_at",
            "blocks::put_last_of_pageblock",
            "blocks::put_refs_on",
            "token::raw_free",
        ),
        lambda c, w, o, n, b: c.frees_uncoalesced(w, o),
        lambda w, o, n, b: z3.And(z3.ULE(o, HUGE), c_frees_uncoalesced(w, o)),
        {"page": ("uncoalesced",), "head": ("uncoalesced",)},
    ),
    Step(
        "freed",
        ("life::free_block", "life::store_freed"),
        lambda c, w, o, n, b: c.freed(w),
        lambda w, o, n, b: dead(w),
        {state: ("free", "offline") for state in NEW},
    ),
    Step(
        "freed, then as_uncoalesced",
        ("life::free_block",),
        lambda c, w, o, n, b: c.as_uncoalesced(c.frees_at_once(w), o),
        lambda w, o, n, b: z3.And(dead(w), w.hwpoison == 0, w.has_hwpoisoned == 0, w.order == o, among(o, PAGE, HUGE)),
        {state: ("uncoalesced",) for state in NEW},
    ),
    Step(
        "drop_refs of all, then freed",
        ("life::free_at_once", "blocks::put_last_of_any"),
        lambda c, w, o, n, b: c.frees_at_once(c.drop_refs(w, n)),
        lambda w, o, n, b: z3.And(all_refs(w, n), w.pins == 0, z3.Not(w.flagged), z3.ULE(w.order, HUGE)),
        {state: ("free",) for state in NEW},
    ),
    Step(
        "drop_refs of all, freed, then as_uncoalesced",
        ("life::free_at_once",),
        lambda c, w, o, n, b: c.as_uncoalesced(c.frees_at_once(c.drop_refs(w, n)), o),
        lambda w, o, n, b: z3.And(
            all_refs(w, n), w.pins == 0, z3.Not(w.flagged), w.order == o, among(o, PAGE, HUGE)
        ),
        {state: ("uncoalesced",) for state in NEW},
    ),
    Step(
        "freed, a tail with its block",
        ("life::store_freed", "split::scatter_tails"),
        lambda c, w, o, n, b: c.freed(w),
        lambda w, o, n, b: unpinned_tail(w),
        {"implicit": ("free",), "tail": ("free", "offline")},
    ),
    Step(
        "begin_split",
        ("split::split_piece",),
        lambda c, w, o, n, b: c.begin_split(w, o),
        lambda w, o, n, b: z3.And(splittable(w), split_target(w, o)),
        {"head": ("splitting", "heads-only")},
    ),
    Step(
        "begin_split under a pin of the splitter",
        ("token::split_on",),
        lambda c, w, o, n, b: c.begin_split(w + 1, o),
        lambda w, o, n, b: z3.And(splittable(w), w.refs != 0, split_target(w, o), z3.ULT(w.pins, MOST_PINS)),
        {"head": ("splitting", "heads-only")},
    ),
    Step(
        "a pin of one who helps",
        ("token::help_pinned",),
        lambda c, w, o, n, b: w + 1,
        lambda w, o, n, b: z3.And(among(w.kind, SPLITTING, HEADS_ONLY), w.refs != 0, z3.ULT(w.pins, MOST_PINS)),
        same("splitting", "heads-only"),
    ),
    Step(
        "adopted",
        ("token::raw_adopt",),
        lambda c, w, o, n, b: c.adopted(w),
        lambda w, o, n, b: z3.And(w.is_settled, w.refs == 1),
        same(*NEW),
    ),
    Step(
        "set_apart",
        ("token::set_apart", "token::raw_merge", "merge::check_pieces"),
        lambda c, w, o, n, b: c.set_apart(w),
        lambda w, o, n, b: z3.And(splittable(w), w.refs == 1),
        {"page": ("merging",), "head": ("merging",)},
    ),
    Step(
        "drop_refs of all, then begin_self_split",
        ("split::self_split",),
        lambda c, w, o, n, b: c.begin_self_split(c.drop_refs(w, n), o),
        lambda w, o, n, b: z3.And(
            splittable(w),
            all_refs(w, n),
            w.pins != 0,
            z3.ULT(w.pins, MOST_PINS),
            w.order != 0,
            o == z3.If(z3.UGT(w.order, HUGE), z3.BitVecVal(HUGE, 64), z3.BitVecVal(PAGE, 64)),
        ),
        {"head": ("splitting",)},
    ),
    Step(
        "end_split, then begin_last_split to pages",
        ("split::scatter_pageblocks",),
        lambda c, w, o, n, b: c.begin_last_split(c.end_split(w), PAGE),
        lambda w, o, n, b: z3.And(w.kind == SPLITTING, z3.UGT(w.order, HUGE), w.target == HUGE, w.refs == 0),
        {"splitting": ("splitting",)},
    ),
    Step(
        "end_split",
        ("split::settle", "split::split_heads_only"),
        lambda c, w, o, n, b: c.end_split(w),
        lambda w, o, n, b: among(w.kind, SPLITTING, HEADS_ONLY),
        {"splitting": ("page", "head"), "heads-only": ("head",)},
    ),
    Step(
        "end_split, then the splitter's holds are given back",
        ("split::scatter_pages",),
        lambda c, w, o, n, b: c.end_split(w) - n,
        lambda w, o, n, b: z3.And(w.kind == SPLITTING, falls_to_pages(w), z3.ULT(n, w.pins)),
        {"splitting": ("page",)},
    ),
    Step(
        "end_split, then all pins are given back, freed",
        ("split::scatter_pages", "split::settle_and_look"),
        lambda c, w, o, n, b: c.freed(c.end_split(w) - n),
        lambda w, o, n, b: z3.And(w.kind == SPLITTING, falls_to_pages(w), n == w.pins),
        {"splitting": ("free", "offline")},
    ),
    Step(
        "piece",
        ("split::convert", "split::split_heads_only", "split::scatter_pageblock"),
        lambda c, w, o, n, b: c.piece(w, b.bits, n),
        lambda w, o, n, b: z3.And(w.kind == TAIL, begun(b), n == b.refs),
        {state: ("page", "head") for state in TAILS},
    ),
    Step(
        "page",
        ("split::convert_all", "split::scatter_tails"),
        lambda c, w, o, n, b: c.page(w, n),
        lambda w, o, n, b: z3.And(w.kind == TAIL, z3.ULE(n, REF_LIMIT)),
        {state: ("page",) for state in TAILS},
    ),
    Step(
        "piece, then begin_self_split",
        ("split::scatter_pageblock",),
        lambda c, w, o, n, b: c.begin_self_split(c.piece(w, b.bits, 0), PAGE),
        lambda w, o, n, b: z3.And(
            w.kind == TAIL,
            w.pins != 0,
            z3.ULT(w.pins, MOST_PINS),
            begun(b),
            z3.UGT(b.order, HUGE),
            b.target == HUGE,
        ),
        {"pinned tail": ("splitting",)},
    ),
    Step(
        "tail_of, in a split",
        ("split::convert",),
        lambda c, w, o, n, b: c.tail_of(w, o),
        lambda w, o, n, b: z3.And(w.kind == TAIL, begun(b), o == b.target, o != 0),
        NAMED,
    ),
    Step(
        "with_explicit_tails",
        ("split::convert", "merge::join"),
        lambda c, w, o, n, b: c.with_explicit_tails(w),
        lambda w, o, n, b: z3.And(w.kind == HEAD, w.order != 0),
        same("head"),
    ),
    Step(
        "end_merge, adopted, then begin_split to pages",
        ("merge::to_pages",),
        lambda c, w, o, n, b: c.begin_split(c.adopted(c.end_merge(w)), o),
        # The first piece is not set apart before.
        lambda w, o, n, b: z3.And(
            among(w.kind, HEAD, MERGING), w.refs == 1, w.order != 0, z3.ULE(w.order, HUGE), o == 0
        ),
        {"head": ("splitting",), "merging": ("splitting",)},
    ),
    Step(
        "begin_merge",
        ("merge::join",),
        lambda c, w, o, n, b: c.begin_merge(w, o, n),
        lambda w, o, n, b: z3.And(mergeable(w), z3.ULT(w.order, o)),
        {"page": ("merging",), "head": ("merging",), "merging": ("merging",)},
    ),
    Step(
        "tail_of, in a merge",
        ("merge::join", "merge::adopt", "merge::adopt_pinned"),
        lambda c, w, o, n, b: c.tail_of(w, o),
        lambda w, o, n, b: z3.And(z3.Or(mergeable(w), w.kind == TAIL), z3.ULT(w.order, o)),
        {**NAMED, **{state: ("tail", "pinned tail") for state in ("page", "head", "merging")}},
    ),
    Step(
        "as_implicit, in a merge",
        ("merge::join", "merge::adopt"),
        lambda c, w, o, n, b: c.as_implicit(w),
        lambda w, o, n, b: z3.And(z3.Or(mergeable(w), w.kind == TAIL), w.pins == 0, w.hwpoison == 0),
        {state: ("implicit",) for state in ("page", "head", "merging", "tail", "implicit")},
    ),
    Step(
        "end_merge",
        ("merge::join", "merge::set_together"),
        lambda c, w, o, n, b: z3.If(
            n & 1 == 0,
            c.end_merge(w),
            z3.If(n & 2 == 0, c.mark_has_hwpoisoned(c.end_merge(w)), c.with_explicit_tails(c.mark_has_hwpoisoned(c.end_merge(w)))),
        ),
        lambda w, o, n, b: z3.And(w.kind == MERGING, z3.Or(n & 1 == 0, w.order != 0)),
        {"merging": ("page", "head")},
    ),
    Step(
        "mark_has_hwpoisoned or with_explicit_tails, where another merge follows",
        ("merge::join",),
        lambda c, w, o, n, b: z3.If(n == 0, c.mark_has_hwpoisoned(w), c.with_explicit_tails(w)),
        lambda w, o, n, b: z3.And(w.kind == MERGING, w.order != 0),
        same("merging"),
    ),
    Step(
        "mark_hwpoison, in use",
        ("misuse::mark_hwpoison", "misuse::mark_hwpoison_pinned"),
        lambda c, w, o, n, b: c.mark_hwpoison(w),
        lambda w, o, n, b: z3.Or(w.is_live, z3.And(w.kind == TAIL, w.pins != 0)),
        same("pinned tail", *HEADS),
    ),
    Step(
        "hold of none, then mark_has_hwpoisoned, for a tail that is to go offline",
        ("misuse::mark_hwpoison_held",),
        lambda c, w, o, n, b: c.mark_has_hwpoisoned(c.hold(w, 0)),
        lambda w, o, n, b: z3.And(w.is_live, w.order != 0),
        {
            "head": ("head",),
            "unsplittable": ("unsplittable",),
            "splitting": ("splitting",),
            "heads-only": ("splitting",),
            "merging": ("merging",),
        },
    ),
    Step(
        "with_explicit_tails, of a 2 MiB part",
        ("misuse::mark_hwpoison_held",),
        lambda c, w, o, n, b: c.with_explicit_tails(w),
        lambda w, o, n, b: z3.And(w.kind == TAIL, z3.UGT(w.order, HUGE)),
        same("tail", "pinned tail"),
    ),
    Step(
        "mark_hwpoison, of a tail",
        ("misuse::mark_hwpoison_held",),
        lambda c, w, o, n, b: c.mark_hwpoison(z3.If(Word(w).is_implicit, c.tail_of(w, o), w)),
        lambda w, o, n, b: z3.And(w.kind == TAIL, o != 0),
        NAMED,
    ),
    Step(
        "mark_has_hwpoisoned",
        ("misuse::mark_hwpoison_pinned", "split::mark_pieces_hwpoisoned"),
        lambda c, w, o, n, b: c.mark_has_hwpoisoned(w),
        lambda w, o, n, b: w.is_head,
        same(*HEADS),
    ),
    Step(
        "reserved",
        ("life::reserve",),
        lambda c, w, o, n, b: c.reserved(),
        lambda w, o, n, b: w.is_implicit,
        {"implicit": ("reserved",)},
    ),
    Step(
        "as_offline",
        ("life::take_offline",),
        lambda c, w, o, n, b: c.as_offline(w),
        lambda w, o, n, b: w.is_idle,
        {"implicit": ("offline",), "tail": ("offline",), "free": ("offline",)},
    ),
    Step(
        "back_in_service",
        ("life::enter_service",),
        lambda c, w, o, n, b: c.back_in_service(w),
        lambda w, o, n, b: w.kind == OUT,
        {"reserved": ("free",), "offline": ("free",)},
    ),
]


def c_frees_uncoalesced(w, o):
    """`frees_uncoalesced` agrees."""
    return z3.And(
        w.kind == HEAD,
        w.order == o,
        w.refs == 1,
        w.pins == 0,
        z3.Not(w.flagged),
        z3.Or(o != 0, w.explicit_tails == 0),
    )


def step_statements(module):
    code = Code(module)
    bits, o, n, other = z3.BitVecs("w o n b", 64)
    w, b = Word(bits), Word(other)
    for step in STEPS:
        when = z3.And(reachable(w), z3.ULE(o, MAX), step.when(w, o, n, b))
        after = Word(step.apply(code, bits, o, n, b))
        title = f"{step.name} ({', '.join(step.by)})"
        yield prove(
            f"{title}: from {', '.join(step.arrows)} only", z3.Or([STATES[s](w) for s in step.arrows]), when
        )
        for source, targets in step.arrows.items():
            yield prove(
                f"{title}: {source} → {' or '.join(targets)}, and nowhere else",
                z3.Or([STATES[t](after) for t in targets]),
                when,
                STATES[source](w),
            )
            for target in targets:
                yield show(
                    f"{title}: {source} → {target} happens", when, STATES[source](w), STATES[target](after)
                )
        yield prove(f"{title}: from a reachable word to a reachable one", reachable(after), when)


def arrows():
    """(from, to) → the steps."""
    table = {}
    for step in STEPS:
        for source, targets in step.arrows.items():
            for target in targets:
                table.setdefault((source, target), []).append(step)
    return table


def table():
    """The table of states, as docs/proof.md has it."""
    rows = {}
    for step in STEPS:
        for source, targets in step.arrows.items():
            to = targets if targets != (source,) else ("the same",)
            rows.setdefault((step.name, to, step.by), []).append(source)
    lines = ["| from | to | by | in |", "| --- | --- | --- | --- |"]
    for (name, targets, by), sources in rows.items():
        lines.append(f"| {', '.join(sources)} | {', '.join(targets)} | {name} | {', '.join(f'`{b}`' for b in by)} |")
    return "\n".join(lines)


def missing_callers(names, folder=CORE):
    """Which of `file::function` are not there."""
    gone = []
    for name in names:
        file, function = name.split("::")
        path = folder / f"{file}.rs"
        if not path.exists() or not re.search(rf"\bfn {function}\b", path.read_text()):
            gone.append(name)
    return gone

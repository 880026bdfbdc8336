"""The fields of a page word, as `page_word/layout.rs` documents them, and which words there can be.

Written down here a second time, on purpose: that the compiled code reads the same fields is the first thing proved.
"""

import z3

# Lowest bit and width of each field.
LAYOUT = {
    "pins": (0, 24),
    "refs": (24, 18),
    "generation": (42, 6),
    "piece": (48, 1),
    "hwpoison": (49, 1),
    # Of a free frame: that it is uncoalesced.
    "has_hwpoisoned": (50, 1),
    "explicit_tails": (51, 1),
    "drop": (52, 4),
    "order": (56, 5),
    "kind": (61, 3),
}
ALL = tuple(LAYOUT)

TAIL, FREE, OUT, SPLITTING, HEADS_ONLY, MERGING, HEAD, UNSPLITTABLE = range(8)
# In `drop`: of a split of a head that has a rise, this much more; of a settled head, that its rise is not known any more.
AGAIN, UNKNOWN = 9, 15
PIN_LIMIT, REF_LIMIT, MOST_PINS = 1 << 23, 1 << 17, (1 << 24) - 1
PAGE, HUGE, MAX = 0, 9, 18


def number(value):
    return z3.BitVecVal(value, 64) if isinstance(value, int) else value


def truth(condition):
    """A truth value as the field or result that stands for it."""
    return z3.If(condition, number(1), number(0))


class Word:
    """A word, its fields by name, each as 64 bits."""

    def __init__(self, bits):
        self.bits = number(bits)

    def __getattr__(self, field):
        low, width = LAYOUT[field]
        return z3.ZeroExt(64 - width, z3.Extract(low + width - 1, low, self.bits))

    @property
    def target(self):
        return self.order - self.fall

    @property
    def fall(self):
        """By how many orders a split under way goes down."""
        return z3.If(z3.UGT(self.drop, AGAIN), self.drop - AGAIN, self.drop)

    @property
    def is_settled(self):
        return among(self.kind, HEAD, UNSPLITTABLE)

    @property
    def flagged(self):
        return z3.Or(self.hwpoison == 1, self.has_hwpoisoned == 1)

    @property
    def is_head(self):
        return among(self.kind, HEAD, SPLITTING, HEADS_ONLY, MERGING, UNSPLITTABLE)

    @property
    def is_live(self):
        return z3.And(self.is_head, z3.Or(self.pins != 0, self.refs != 0))

    @property
    def is_implicit(self):
        return nothing_but(self, "generation")

    @property
    def is_idle(self):
        return z3.And(among(self.kind, TAIL, FREE), self.pins == 0, z3.Not(self.flagged))

    def is_uncoalesced(self, order):
        return z3.And(
            self.kind == FREE,
            self.order == order,
            self.has_hwpoisoned == 1,
            nothing_but(self, "kind", "order", "has_hwpoisoned", "generation", "explicit_tails", "piece", "drop"),
        )


def among(value, *which):
    return z3.Or([value == one for one in which])


def nothing_but(word, *fields):
    """All other fields are 0."""
    return z3.And([getattr(word, f) == 0 for f in ALL if f not in fields])


def with_fields(word, changed, keep=ALL):
    """The word with these fields changed; of the others those in `keep` stay and the rest are 0. Also whether each value fits."""
    parts, fits = [], []
    for field in reversed(ALL):
        _, width = LAYOUT[field]
        if field in changed:
            value = number(changed[field])
            fits.append(z3.LShR(value, width) == 0)
        else:
            value = getattr(word, field) if field in keep else number(0)
        parts.append(z3.Extract(width - 1, 0, value))
    return z3.Concat(parts), z3.And(fits)


# What a frame is, in the words of the table in `page_word/mod.rs`; what is a head there is a page or a head of more here.
STATES = {
    "implicit": lambda w: w.is_implicit,
    "tail": lambda w: z3.And(w.kind == TAIL, z3.Not(w.is_implicit), w.pins == 0),
    "pinned tail": lambda w: z3.And(w.kind == TAIL, w.pins != 0),
    "free": lambda w: z3.And(w.kind == FREE, w.has_hwpoisoned == 0),
    "uncoalesced": lambda w: z3.And(w.kind == FREE, w.has_hwpoisoned == 1),
    "page": lambda w: z3.And(w.kind == HEAD, w.order == 0),
    "head": lambda w: z3.And(w.kind == HEAD, w.order != 0),
    "splitting": lambda w: w.kind == SPLITTING,
    "heads-only": lambda w: w.kind == HEADS_ONLY,
    "merging": lambda w: w.kind == MERGING,
    "unsplittable": lambda w: w.kind == UNSPLITTABLE,
    "reserved": lambda w: z3.And(w.kind == OUT, w.hwpoison == 0),
    "offline": lambda w: z3.And(w.kind == OUT, w.hwpoison == 1),
}


def reachable(w):
    """An invariant of every word in memory: the zero word has it, and no step leads out of it.

    The bound on pins is not in here: how many holds there can be at once is a matter of counting, not of one word.
    """
    le = z3.ULE
    no = lambda *fields: z3.And([getattr(w, f) == 0 for f in fields])
    by_kind = {
        # Implicit, or explicit: it names its order. A 2 MiB part of a larger block may have explicit tails itself.
        TAIL: z3.And(
            no("refs", "piece", "has_hwpoisoned", "drop"), le(w.order, MAX), z3.Implies(w.order == 0, w.is_implicit)
        ),
        FREE: z3.And(
            no("pins", "refs", "hwpoison"),
            # One that is uncoalesced still says what the block was part of that became so.
            z3.Or(
                no("has_hwpoisoned", "drop", "order", "piece"),
                z3.And(w.has_hwpoisoned == 1, has_rise(w), w.order == PAGE, w.explicit_tails == 0),
                z3.And(w.has_hwpoisoned == 1, has_rise(w), w.order != PAGE, le(w.order, HUGE)),
            ),
        ),
        HEAD: z3.And(blocks(w), has_rise(w)),
        UNSPLITTABLE: z3.And(blocks(w), no("drop", "piece")),
        SPLITTING: z3.And(splits(w), z3.Implies(le(w.order, HUGE), z3.Or(w.explicit_tails == 1, falls_to_pages(w)))),
        HEADS_ONLY: z3.And(splits(w), le(w.order, HUGE), w.target != 0, w.explicit_tails == 0),
        MERGING: z3.And(blocks(w), has_rise(w), w.refs == 1),
        OUT: z3.Or(
            nothing_but(w, "kind"),
            z3.And(no("pins", "refs", "piece", "has_hwpoisoned", "drop", "order"), w.hwpoison == 1),
        ),
    }
    return z3.And([z3.Implies(w.kind == kind, rule) for kind, rule in by_kind.items()])


def falls_to_pages(w):
    """A block without references is being split to pages: no tail is going to name an order."""
    return z3.And(w.refs == 0, w.target == PAGE)


def blocks(w):
    """The head of a block: a page has no tails that could be explicit."""
    return z3.And(
        z3.ULE(w.order, MAX), z3.ULE(w.refs, REF_LIMIT), z3.Implies(w.order == PAGE, w.explicit_tails == 0)
    )


def has_rise(w):
    """How many orders larger its block once was, up to a step of a split; or that is not known any more."""
    return z3.Or(w.drop == UNKNOWN, z3.And(z3.ULE(w.drop, HUGE), z3.ULE(w.order + w.drop, MAX)))


def splits(w):
    """A split under way: to a lower order, above 2 MiB to 2 MiB at the lowest, of a block that can be split."""
    return z3.And(
        z3.ULE(w.refs, REF_LIMIT),
        w.order != 0,
        z3.ULE(w.order, MAX),
        w.drop != 0,
        z3.ULE(w.fall, w.order),
        z3.Or(z3.ULE(w.order, HUGE), z3.UGE(w.target, HUGE)),
    )

"""How the words of frames look to the machines.

A view picks the frames that a machine speaks of, and says of each state of their words what the machine's variables are. What a word doesn't
tell, as how many threads are about to do what, is left open. Where the words are in no state that the machine has, they are no concern of it.
"""

from dataclasses import dataclass
from functools import lru_cache
from typing import Callable

from ..fields import AGAIN, HEADS_ONLY, HEAD, HUGE, LAYOUT, MAX, MERGING, PAGE, SPLITTING, TAIL, UNSPLITTABLE
from . import block, found, marks, parts, token
from .machine import Machine


class Fields:
    """A word's fields as numbers."""

    def __init__(self, bits):
        self.bits = bits
        for name, (low, width) in LAYOUT.items():
            setattr(self, name, bits >> low & ((1 << width) - 1))

    @property
    def target(self):
        return self.order - (self.drop - AGAIN if self.drop > AGAIN else self.drop)

    @property
    def is_splitting(self):
        return self.kind in (SPLITTING, HEADS_ONLY)

    @property
    def is_head(self):
        return self.kind in (HEAD, SPLITTING, HEADS_ONLY, MERGING, UNSPLITTABLE)

    @property
    def is_live(self):
        return self.is_head and self.pins + self.refs > 0

    @property
    def is_implicit(self):
        return self.bits & ~(63 << LAYOUT["generation"][0]) == 0


@lru_cache(maxsize=None)
def fields(bits):
    return Fields(bits)


class Elsewhere(Exception):
    """The words are in a state that the machine doesn't have."""


@dataclass
class View:
    machine: Machine
    # Frames it may speak of, given all words and the one that changes.
    frames: Callable
    # What the variables may be, given the words and those frames.
    look: Callable
    # Whether these tell the kinds of the words and all their counts.
    sees_all: bool = False

    def looks(self, before, after, frame):
        """Before and after, for all frames that it may be about."""
        for frames in self.frames(before, frame):
            try:
                one, other = (self.look({f: fields(w) for f, w in words.items()}, *frames) for words in (before, after))
            except Elsewhere:
                continue
            yield one, other


def start(frame, order):
    return frame >> order << order


def pairs(words, frame):
    """A frame, and one that may be a tail of it, or None for either that isn't seen: the one that changes is one of the two."""
    for head in words:
        tails = [tail for tail in words if tail != head and any(start(tail, o) == head for o in range(1, HUGE + 1))]
        for tail in tails or [None]:
            if frame in (head, tail):
                yield head, tail
    if has_unseen_head(words, frame):
        yield None, frame


def has_unseen_head(words, frame):
    """Whether a frame may be a tail of a block whose head isn't among the words: what heads a block there has no word for it."""
    word = fields(words[frame])
    if word.kind != TAIL:
        return False
    heads = {start(frame, o) for o in (range(1, HUGE + 1) if word.is_implicit else (word.order,))} - {frame}
    covered = any(
        at != frame and fields(bits).is_live and start(frame, fields(bits).order) == at for at, bits in words.items()
    )
    return not covered and not heads <= set(words)


def only_heads(words, allowed, *covered):
    """That no other live head covers these frames. One that is merging or being split doesn't cover what has a head of its own still, or already."""
    for at, word in words.items():
        passing = (word.kind == MERGING or word.is_splitting) and words[allowed[0]].is_head
        if at in allowed or not word.is_live or passing:
            continue
        if any(start(frame, word.order) == at for frame in covered):
            raise Elsewhere


def one(**variables):
    return tuple(sorted((name, value if isinstance(value, tuple) else (value,)) for name, value in variables.items()))


def page_or_none(word):
    """Whether a word is that of a page in use; it may be one that another merge has set apart."""
    if not word.is_head:
        return False
    if word.order != PAGE:
        raise Elsewhere
    return word.is_live


def covers(word, head, tail):
    """Whether the block of this word is whole: has more than a page, and the tail, if there is one."""
    return word.order > PAGE if tail is None else start(tail, word.order) == head


def block_look(words, head, tail):
    if head is None:
        t = words[tail]
        there = (block.ALONE,) if page_or_none(t) else (block.TAIL, block.GONE)
        return one(t=there, tp=t.pins, tr=t.refs)
    h = words[head]
    only_heads(words, (head, tail), *(frame for frame in (head, tail) if frame is not None))
    whole, uns, state = h.is_head and covers(h, head, tail), False, block.FREE
    if h.is_live:
        if not whole and h.order > PAGE:
            raise Elsewhere
        if h.kind in (HEAD, UNSPLITTABLE):
            state, uns = (block.WHOLE if whole else block.PAGE), whole and h.kind == UNSPLITTABLE
        elif h.kind == MERGING:
            # A page that is set apart is a page still.
            state = block.MERGE if whole else block.PAGE
        elif not h.refs:
            state = block.SELF
        elif h.target == PAGE:
            state = block.SPLIT
        elif tail is not None and start(tail, h.target) == head:
            # To larger pieces, of which the first has both.
            state = block.WHOLE
        else:
            raise Elsewhere
    elif h.is_head and h.order > PAGE and not whole:
        raise Elsewhere
    counts, whole = h.is_live, whole and h.is_live
    seen = dict(h=state, uns=uns, R=h.refs if counts else 0, P=h.pins if counts else 0)
    if tail is None:
        return one(**seen)
    t = words[tail]
    if page_or_none(t):
        there = (block.ALONE,)
    elif t.kind == TAIL and (t.pins or whole):
        if not t.is_implicit and start(tail, min(t.order, HUGE)) != head:
            raise Elsewhere
        there = (block.TAIL,)
    elif whole:
        there = (block.GONE,)
    else:
        there = (block.TAIL, block.GONE)
    return one(**seen, t=there, tp=t.pins, tr=t.refs)


def found_look(words, head, tail):
    if head is None or tail is None:
        raise Elsewhere
    h, t = words[head], words[tail]
    only_heads(words, (head, tail), head, tail)
    state, whole = found.FREE, h.is_head and h.refs > 0 and covers(h, head, tail)
    if h.is_head and h.refs:
        if not whole and h.order > PAGE:
            raise Elsewhere
        if h.kind == HEAD or not whole:
            state = found.WHOLE if whole else found.PAGE
        elif h.kind == MERGING:
            state = found.MERGING
        elif h.is_splitting and h.target == PAGE and h.refs == 1:
            state = found.UNDOING
        else:
            raise Elsewhere
    if page_or_none(t) and t.refs:
        there = found.ALONE
    elif whole and t.kind == TAIL and (t.is_implicit or start(tail, min(t.order, HUGE)) == head):
        there = found.TAIL
    elif whole:
        raise Elsewhere
    else:
        there = found.GONE
    return one(h=state, R=h.refs if state != found.FREE else 0, t=there, tr=t.refs if there == found.ALONE else 0)


def part_frames(words, frame):
    """A larger block, one of its 2 MiB, and a frame in these, if there is one."""
    for order in range(HUGE + 1, MAX + 1):
        head = start(frame, order)
        if head not in words:
            continue
        for area in words:
            if area == head or start(area, order) != head or area != start(area, HUGE):
                continue
            tails = [f for f in words if f != area and start(f, HUGE) == area]
            for tail in tails or [None]:
                if frame in (head, area, tail):
                    yield head, area, tail, order


def part_look(words, head, area, tail, order):
    h, a = words[head], words[area]
    only_heads(words, (head, area), head, area)
    state, whole = parts.FREE, h.is_live and h.order == order
    if h.is_live:
        if h.order > HUGE and not whole or h.kind == UNSPLITTABLE:
            raise Elsewhere
        # What becomes of the 2 MiB is another machine's.
        if h.kind == HEAD or not whole:
            state = parts.WHOLE if whole else parts.AREA
        elif h.kind == MERGING:
            state = parts.MERGE
        elif h.target != HUGE:
            raise Elsewhere
        else:
            state = parts.SPLIT if h.refs else parts.SELF
    elif h.is_head and h.order > HUGE and h.order != order:
        raise Elsewhere
    if a.is_live:
        if a.order > HUGE:
            raise Elsewhere
        there = (parts.HEAD,)
    elif a.kind == TAIL and (a.pins or whole):
        if not a.is_implicit and a.order != order:
            raise Elsewhere
        there = (parts.PART,)
    elif whole:
        there = (parts.GONE,)
    else:
        there = (parts.PART, parts.GONE)
    seen = dict(h=state, R=h.refs if h.is_live else 0, P=h.pins if h.is_live else 0, a=there, ar=a.refs, ap=a.pins)
    if tail is not None and words[tail].kind == TAIL and (a.kind == TAIL or a.is_head and a.order == HUGE):
        t = words[tail]
        if not t.is_implicit and t.order != HUGE:
            raise Elsewhere
        seen["tp"] = t.pins
    return one(**seen)


def piece_frames(words, frame):
    """A block, a frame that heads a piece of it, and a frame of that piece."""
    for order in range(2, HUGE + 1):
        head = start(frame, order)
        if head not in words:
            continue
        for piece_order in range(1, order):
            for piece in words:
                if piece == head or start(piece, order) != head or start(piece, piece_order) != piece:
                    continue
                for tail in words:
                    if tail != piece and start(tail, piece_order) == piece and frame in (head, piece, tail):
                        yield head, piece, tail, order, piece_order


def piece_look(words, head, piece, tail, order, piece_order):
    h, q, t = words[head], words[piece], words[tail]
    only_heads(words, (head, piece, tail), piece, tail)
    seen = {}
    if not h.is_live:
        state = (marks.FREE,)
    elif h.order == order:
        if h.kind == HEAD:
            state = (marks.WHOLE,)
        elif h.kind == MERGING:
            state = (marks.MERGE,)
        elif h.is_splitting and h.target == piece_order and h.refs:
            state = (marks.HEADS_ONLY if h.kind == HEADS_ONLY else marks.SPLIT,)
        else:
            raise Elsewhere
        if h.kind != MERGING:
            seen["hm"] = h.explicit_tails == 1
    elif h.kind == MERGING and h.order < order:
        state = (marks.MERGE,)
    elif h.kind == HEAD and h.order == piece_order:
        state = (marks.PIECE,)
    else:
        raise Elsewhere
    if state == (marks.PIECE,) and not q.is_live:
        # A smaller block, of which it is no piece.
        raise Elsewhere
    heads = state[0] in (marks.WHOLE, marks.HEADS_ONLY, marks.SPLIT, marks.MERGE)
    if q.is_live:
        to_pages = q.is_splitting and q.order == piece_order and q.target == PAGE
        # One step in the machine: so no word of its tails may tell that it isn't one.
        if to_pages and (t.is_implicit or t.kind == TAIL and t.order == piece_order):
            raise Elsewhere
        if q.kind not in (HEAD, MERGING) and not to_pages or q.order not in (PAGE, piece_order):
            raise Elsewhere
        seen["q"] = marks.PAGE if to_pages or not q.order else marks.HEAD
        if seen["q"] == marks.HEAD:
            seen["qm"] = q.explicit_tails == 1
    else:
        seen["q"] = (marks.IMPLICIT,) if q.is_implicit else (marks.OTHER,)
    if t.is_live:
        if t.kind not in (HEAD, MERGING) or t.order:
            raise Elsewhere
        seen["t"] = marks.ALONE
    elif t.is_implicit:
        seen["t"] = marks.IMPLICIT
    elif t.kind == TAIL and t.order == order:
        seen["t"] = marks.OF_H
    elif t.kind == TAIL and t.order == piece_order:
        seen["t"] = marks.OF_Q
    elif heads or q.is_live:
        raise Elsewhere
    else:
        seen["t"] = (marks.OF_H, marks.OF_Q)
    return one(h=state, tp=t.pins, **seen)


def token_frames(words, frame):
    return ((frame, order) for order in range(1, HUGE + 1) if start(frame, order) == frame)


def token_look(words, head, order):
    h = words[head]
    only_heads(words, (head,), head)
    state = token.FREE
    if h.is_live:
        if h.order not in (PAGE, order) or h.kind not in (HEAD, SPLITTING, HEADS_ONLY):
            raise Elsewhere
        if h.kind == HEAD:
            state = token.WHOLE if h.order == order else token.PAGE
        elif h.order == order and h.target == PAGE and h.refs:
            state = token.SPLIT
        else:
            raise Elsewhere
    return one(h=state, R=h.refs if h.is_live else 0, P=h.pins if h.is_live else 0)


VIEWS = [
    View(block.BLOCK, pairs, block_look, sees_all=True),
    View(parts.PARTS, part_frames, part_look, sees_all=True),
    View(found.FOUND, pairs, found_look),
    View(marks.MARKS, piece_frames, piece_look),
    View(token.TOKEN, token_frames, token_look),
]

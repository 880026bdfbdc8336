"""That the lists are whole: what they name is there, and what is there they name."""

import re

from .compile import EXPORTS, PAGE_WORD, ROOT, methods_of_page_word
from .counting import MACHINES
from .statements import Result
from .steps import CORE, STEPS, applied_by, arrows, missing_callers, table
from .transitions import FUNCTIONS, PARTS, TRANSITIONS

# Functions that compute a word for a step of `STEPS`, and take none themselves.
COMPUTE = {"pin::added_to", "pin::first_on", "split::help_split", "life::claim", "life::claim_and_publish"}

# Counting on the bare word, without a function of `page_word/`: a pin or a reference more or less, where there is room or one to take.
BARE = {
    "pin::first_on",
    "pin::hold",
    "pin::count_on",
    "pin::get",
    "pin::unpin_step",
    "pin::repair_unpin",
    "pin::last_pin_went",
    "blocks::get_block",
    "blocks::drops_one_of_more",
    "blocks::put_last_of_any",
    "token::help_pinned",
    "token::split_on",
    "token::help_pinned",
    # The holds that it has itself.
    "split::scatter_pages",
    # Without the safeguard W18 alone.
    "split::self_split",
    "split::settle_and_look",
}


def functions_in(path):
    """(name, body) of each function of a file, tests left out."""
    text = path.read_text().split("#[cfg(test)]")[0]
    heads = list(re.finditer(r"^\s*(?:pub(?:\([a-z]+\))? )?(?:const )?fn (\w+)", text, re.M))
    for head, after in zip(heads, heads[1:] + [None]):
        body = text[head.start() : after.start() if after else len(text)]
        yield head[1], "\n".join(line.split("//")[0] for line in body.splitlines())


def listed(name, wrong, hint):
    return Result(name, "refuted" if wrong else "proved", 0.0, {hint: sorted(wrong)} if wrong else {})


def results():
    exported = {s for pair in re.findall(r"fn (\w+)(?: / (\w+))?\(", EXPORTS.read_text()) for s in pair if s}
    known = {f.symbol for f in FUNCTIONS} | {f"{f.symbol}_allowed" for f in FUNCTIONS if f.refuses}
    helpers = {"word", "order", "number"}
    yield listed(
        "each exported symbol is described, each described one exported", exported - helpers ^ known, "differ"
    )
    described = {f.method or f.symbol for f in FUNCTIONS} | PARTS
    yield listed(
        f"each function of {PAGE_WORD.name} is described in proof/prover/transitions.py",
        methods_of_page_word() - described,
        "say what it does",
    )
    yield listed(
        "each transition is a step of the table",
        {f.symbol for f in TRANSITIONS}.difference(*map(applied_by, STEPS)),
        "in no step",
    )
    named = {name for step in STEPS for name in step.by}
    counted = set().union(*(machine.functions() for machine in MACHINES))
    yield listed(
        "each function that a step names is there",
        missing_callers(named | BARE | COMPUTE | counted),
        "gone or renamed",
    )
    yield listed(
        "each caller of a transition is one that the table names",
        unnamed_callers(named),
        "in no step of proof/prover/steps.py",
    )
    yield listed(
        f"the arrows of the table are those of the one in {PAGE_WORD.name}/mod.rs",
        arrows_in_the_code() ^ {(in_the_code(source), in_the_code(target)) for source, target in arrows()},
        "in one of them alone",
    )
    page = (ROOT / "docs/proof.md").read_text()
    yield listed(
        "the table in docs/proof.md is what --table prints",
        set(table().splitlines()) - set(page.splitlines()),
        "not in the page",
    )
    yield listed(
        "counts change on the bare word only where it is known",
        bare_places() - BARE,
        "not in proof/prover/callers.py",
    )


def in_the_code(state):
    """What the code's table calls a state: a head of order 0 is a head there."""
    return "head" if state == "page" else state


def arrows_in_the_code():
    """(from, to) of the table in the module's text, which a test holds against the transitions and against what the protocol does."""
    rows = re.findall(r"^//! \| ([^|]+) \| ([^|]+) \| `", (PAGE_WORD / "mod.rs").read_text(), re.M)
    return {
        (source, source if targets == "the same" else target)
        for sources, targets in rows
        for source in sources.split(", ")
        for target in targets.split(", ")
    }


def unnamed_callers(named):
    methods = "|".join(f.symbol for f in TRANSITIONS if f.symbol not in ("pin", "unpin", "hold"))
    # `hold`, `pin` and `unpin` are also operations of the protocol: those are called on `self`, with a frame.
    call = re.compile(
        rf"(?<!self)\.(?:{methods})\(|(?<!self)\.(?:pin|unpin|hold)\(\d|PageWord::(?:{methods})\b"
    )
    found = set()
    for path in sorted(CORE.glob("*.rs")):
        for function, body in functions_in(path):
            if call.search(body):
                found.add(f"{path.stem}::{function}")
    return found - named - COMPUTE


def bare_places():
    change = re.compile(r"\.0 [-+] |fetch_(?:add|sub)\(")
    return {
        f"{path.stem}::{function}"
        for path in sorted(CORE.glob("*.rs"))
        for function, body in functions_in(path)
        if change.search(body)
    }

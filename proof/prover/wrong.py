"""Transitions that are wrong on purpose: a prover that never refutes anything would prove nothing."""

from . import compile, words
from .mutants import harness_over
from .statements import Result

# What is wrong, the shipped text, the text in its place, and the function whose statements have to notice.
WRONG = [
    (
        "a hold leaves no mark that a tail may be explicit",
        "Self(self.0 + n).with_explicit_tails()",
        "Self(self.0 + n)",
        "hold",
    ),
    (
        "a page that was a tail gets one reference, however many the block had",
        "(refs * ONE_REF)",
        "((refs != 0) as u64 * ONE_REF)",
        "page",
    ),
    (
        "the limit of references is compared with a sum that wraps",
        "self.refs().checked_add(n)",
        "Some(self.refs().wrapping_add(n))",
        "add_refs",
    ),
]


def results(checked, folder):
    for number, (what, shipped, wrong, symbol) in enumerate(WRONG):
        name = f"refuted, as it has to be: {what}"
        path = next((path for path in compile.SHIPPED if shipped in path.read_text()), None)
        if path is None:
            yield Result(
                name, "open", 0.0, {"not in page_word/ any more, see proof/prover/wrong.py": shipped}
            )
            continue
        code = harness_over(folder / str(number), path, path.read_text().replace(shipped, wrong))
        refuted = [
            r for r in words.function_statements(code.module, checked, only=symbol) if r.verdict == "refuted"
        ]
        yield Result(name, "proved" if refuted else "refuted", 0.0, {"by": [r.name for r in refuted]})

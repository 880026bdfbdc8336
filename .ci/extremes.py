#!/usr/bin/env python3
"""Each public function that takes a number is called with the smallest and the largest there are: by
the tests that are named here, held against the lists in `.ci/api`. What a trait asks for is called
by whom it serves, and what is `unsafe` has conditions on its numbers.

Exit status 1, and the functions that no test calls, if there are any.
"""
import re
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
TESTS = {
    "tailpin": ["extremes.rs"],
    "tailpin-classic": ["extremes.rs"],
    "tailpin-arena": ["extremes.rs", "limits.rs"],
    "tailpin-mm": ["ends_of_ranges.rs"],
    "tailpin-futex": ["numbers.rs"],
    "tailpin-kernel": ["extremes.rs"],
    "tailpin-replay": ["extremes.rs"],
}
NUMBER = re.compile(
    r"(?<!\[)\b(?:u8|u16|u32|u64|usize|i32|i64|Pfn|Order|FrameRange|RawBlock|VirtAddr|VirtRange|GuestAddress|"
    r"Duration|Range|RangeBounds|Address|Timeout|Priority|Tid)\b"
)
# Models for tests and checkers, what only a checker calls, and what goes on with another call's step,
# whose answer names the frame.
MODELS = re.compile(r"^(?:model|page_word)::|.*::(?:with_safeguards|over|finish_put)$")


def numbers(crate):
    """Its functions that take a number, by name."""
    for line in (ROOT / ".ci/api" / f"{crate}.txt").read_text().splitlines():
        item, _, signature = line.partition(": ")
        found = re.match(r"pub (?:const |async )*fn (\w+)(?:<[^(]*>)?\((.*?)\)(?: ->|$| where)", signature)
        if found and not MODELS.match(f"{item}::{found[1]}") and NUMBER.search(found[2]):
            yield item, found[1]


def main():
    missing = []
    for crate, files in TESTS.items():
        folder = ROOT / "crates" / crate / "tests/it"
        text = "".join((folder / file).read_text() for file in files if (folder / file).exists())
        called = set(re.findall(r"\b(\w+)(?:::<[^;()]*?>)?\(", text))
        missing += [f"{crate}: {item}::{name}" for item, name in numbers(crate) if name not in called]
    for line in sorted(set(missing)):
        print(line)
    if missing:
        print("No test calls these with the smallest and the largest numbers.")
    sys.exit(bool(missing))


main()

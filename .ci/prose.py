#!/usr/bin/env python3
"""Comments and docs are wrapped at 100 columns, each sentence names who acts, and each doc comment
stands alone: in an editor's pop-up there is no neighbour that it could lean on.

Checked are the comments of all Rust sources, what their strings say, and the text of all Markdown
files; what can't be wrapped (tables, links, code blocks) may be longer. `prose.py --count` prints how
much is wrong per folder instead of each line.
"""
import re
import subprocess
import sys
from collections import Counter

WIDTH = 100
WORDS = re.compile(
    r"\b(whoever|somebody|nobody|meanwhile|by itself|in vain|to be had|how-manieth)\b", re.I
)


LEANS = re.compile(r"///\s+(The same(?: |,|:)|Likewise|As above|Ditto|And )")


def comments(text):
    """(line number, whole line, what the comment says, whether it stands in a code block)"""
    fence = False
    for number, line in enumerate(text.split("\n"), 1):
        found = re.match(r"\s*//[/!]?(.*)", line) or re.match(r".*?[;{},)\]] // ?(.*)", line)
        if not found:
            fence = False
            continue
        said = found.group(1)
        if said.strip().startswith("```"):
            fence = not fence
            continue
        yield number, line, said, fence


def markdown(text):
    fence = False
    for number, line in enumerate(text.split("\n"), 1):
        if line.strip().startswith("```"):
            fence = not fence
            continue
        yield number, line, line, fence


def strings(text):
    """(line number, what is said) of the strings that are sentences, not names"""
    for number, line in enumerate(text.split("\n"), 1):
        if not line.strip().startswith("//"):
            for said in re.findall(r'"((?:[^"\\]|\\.)*)"', line):
                if " " in said:
                    yield number, said


def wrong(path):
    text = open(path, encoding="utf-8").read()
    rust = path.endswith(".rs")
    for number, said in strings(text) if rust else ():
        if found := WORDS.search(said):
            yield number, f"who does it? {found.group(0)!r}"
    before = ""
    for number, line, said, code in (comments if rust else markdown)(text):
        if code:
            continue
        first = not before.strip().startswith("///")
        before = line
        if rust and first and (found := LEANS.match(line.strip())):
            yield number, f"leans on its neighbour: {found.group(1)!r}"
        whole = said.strip()
        if rust and len(line) > WIDTH and " " in whole and not whole.startswith("|"):
            yield number, f"{len(line)} columns"
        if found := WORDS.search(said):
            yield number, f"who does it? {found.group(0)!r}"


def main():
    listed = subprocess.run(
        ["git", "ls-files", "*.rs", "*.md"], capture_output=True, text=True, check=True
    ).stdout.split()
    count = Counter()
    for path in listed:
        for number, what in wrong(path):
            count["/".join(path.split("/")[:3])] += 1
            if "--count" not in sys.argv:
                print(f"{path}:{number}: {what}")
    for folder, times in count.most_common() if "--count" in sys.argv else ():
        print(f"{times:6} {folder}")
    sys.exit(1 if count else 0)


main()

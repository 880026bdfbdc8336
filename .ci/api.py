#!/usr/bin/env python3
"""The public items of each crate, with their signatures, held against the lists in `.ci/api`.

They are read from what `cargo doc --all-features` has written to `target/doc`, which stable Rust can
do. A change of a list is a change of the interface: it belongs into CHANGELOG.md, and into the next
minor version if it breaks a caller.

    api.py            checks; exit status 1 and the differences if an item came, went or changed
    api.py --write    writes the lists anew
"""
import difflib
import re
import sys
from html import unescape
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
CRATES = ["tailpin", "tailpin-classic", "tailpin-mm", "tailpin-futex", "tailpin-arena", "tailpin-kernel",
          "tailpin-replay"]
# Where an item's own methods and traits end, and those of the compiler and of all types begin.
FOREIGN = re.compile(r'<h2 id="(?:synthetic|blanket)-implementations"|<h2 id="implementors"|<h2 id="foreign-impls"')


def text(html):
    """What a reader sees, on one line."""
    html = re.sub(r'<span class="where[^"]*">', " ", html)
    html = re.sub(r"<(?:br|div|summary)[^>]*>|\n", " ", html)
    html = re.sub(r'<span class="comment">.*?</span>', "", html)
    plain = unescape(re.sub(r"<[^>]+>", "", html)).replace("\xa0", " ")
    plain = re.sub(r"Show \d+ (?:fields|variants|methods|associated \w+)", "", plain)
    return re.sub(r"\s+", " ", plain.replace("ⓘ", "")).strip()


def items(folder):
    index = folder / "all.html"
    if not index.exists():
        return None
    found = []
    for page in sorted(set(re.findall(r'<li><a href="([^"#]+\.html)">', index.read_text()))):
        html = FOREIGN.split((folder / page).read_text())[0]
        # What a type borrows from the one that it dereferences to is that one's.
        html = re.sub(r'<h2 id="deref-methods-.*?(?=<h2 id=|$)', "", html, flags=re.S)
        name = re.sub(r"\b(?:struct|enum|trait|fn|type|constant|macro|union|static)\.", "", page)
        name = name.removesuffix(".html").replace("/", "::")
        declared = re.search(r'<pre class="rust item-decl"><code>(.*?)</code></pre>', html, re.S)
        if declared:
            found.append(f"{name}: {text(declared[1])}")
        for header in re.findall(r'<h[34] class="code-header">(.*?)</h[34]>', html, re.S):
            line = text(header)
            # What a trait asks for stands in its declaration, and in each impl of it.
            if line.startswith(("pub ", "impl", "unsafe impl")):
                found.append(f"{name}: {line}")
    return sorted(set(found))


def main():
    changed = False
    for crate in CRATES:
        now = items(ROOT / "target/doc" / crate.replace("-", "_"))
        if now is None:
            print(f"{crate}: skipped, cargo doc has not run")
            continue
        listed = ROOT / ".ci/api" / f"{crate}.txt"
        if "--write" in sys.argv:
            listed.write_text("".join(f"{line}\n" for line in now))
            continue
        before = listed.read_text().splitlines() if listed.exists() else []
        for line in difflib.unified_diff(before, now, f"{crate}, as listed", f"{crate}, as it is", "", "", 0, ""):
            changed = True
            print(line)
    if changed:
        print("The interface changed. If it is meant: CHANGELOG.md says so, and `.ci/api.py --write` lists it.")
    sys.exit(changed)


main()

#!/usr/bin/env python3
"""The README of a crate is read on its registry page and is the front page of its documentation.

Only rustdoc hides lines that begin with `# `, and only rustdoc finds an item by its name. So no
README has such lines, and each name in it that is a link is defined twice: at the README's end for
the registry, as a page of docs.rs, and in `src/readme_links.md` for rustdoc, which reads that first.

    readme.py [CRATE…]           checks; where `cargo doc` has run, also that the pages are the right ones
    readme.py --write [CRATE…]   writes both lists anew from what `cargo doc` has found
"""
import re
import sys
from html import unescape
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
LINK = re.compile(r"\[(`[^`\]]+`)\](?:\(([^)]*)\)|(?![(:]))")
DEFINITION = re.compile(r"^\[(`[^`\]]+`)\]: (\S+)$", re.M)


def prose(text):
    """The text without its blocks of code."""
    return re.sub(r"^```.*?^```$", "", text, flags=re.M | re.S)


def names(text):
    """{label: what rustdoc is to look for} of the links by name."""
    body = DEFINITION.sub("", prose(text))
    found = {}
    for label, target in LINK.findall(body):
        if not re.match(r"https?:|.*/|#", target or ""):
            found[label] = target or label.strip("`")
    return found


def resolved(crate):
    """{label: page on docs.rs}, as rustdoc found them; None where it has not run."""
    module = crate.replace("-", "_")
    page = ROOT / "target/doc" / module / "index.html"
    if not page.exists():
        return None
    found = {}
    for href, label in re.findall(r'<a href="([^"#][^"]*)"[^>]*><code>([^<]*)</code></a>', page.read_text()):
        if not href.startswith("http"):
            url = f"https://docs.rs/{crate}/latest/{module}/{href}"
            other = re.match(r"https://docs.rs/[^/]+/latest/[^/]+/\.\./([^/]+)/(.*)", url)
            if other:
                url = f"https://docs.rs/{other[1].replace('_', '-')}/latest/{other[1]}/{other[2]}"
            found.setdefault(unescape(label), url)
    return found


def write(crate, readme, text):
    pages, wanted = resolved(crate), names(text)
    local = readme.parent / "src/readme_links.md"
    before = dict(DEFINITION.findall(local.read_text())) if local.exists() else {}
    text = DEFINITION.sub("", text).rstrip() + "\n"
    text = LINK.sub(lambda m: m[0] if m[1] not in wanted or re.match(r"https?:|.*/|#", m[2] or "") else f"[{m[1]}]", text)
    lines, links = [], []
    for label, path in sorted(wanted.items()):
        page = pages.get(label.strip("`").removesuffix("()")) or pages.get(label.strip("`"))
        if not page:
            raise SystemExit(f"{crate}: rustdoc found no page for {label}")
        lines.append(f"[{label}]: {page}\n")
        links.append(f"[{label}]: {before.get(label, path) if path == label.strip('`') else path}\n")
    if lines:
        readme.write_text(text + "\n" + "".join(lines))
        local.write_text("".join(links))


def check(crate, readme, text):
    wrong, wanted = [], names(text)
    defined = dict(DEFINITION.findall(text))
    local = readme.parent / "src/readme_links.md"
    there = dict(DEFINITION.findall(local.read_text())) if local.exists() else {}
    for number, line in enumerate(text.split("\n"), 1):
        if re.match(r"^#( |$)", line) and in_code(text, number):
            wrong.append(f"line {number} is hidden by rustdoc alone")
    for label in sorted(wanted.keys() | defined.keys() | there.keys()):
        if label not in wanted:
            wrong.append(f"{label} is defined and not used")
        elif label not in defined or label not in there:
            wrong.append(f"{label} is not defined, or not for both readers")
    pages = resolved(crate) or {}
    for label, url in defined.items():
        page = pages.get(label.strip("`").removesuffix("()"), url)
        if page != url:
            wrong.append(f"{label} is {page}")
    return [f"crates/{crate}/README.md: {what}" for what in wrong]


def in_code(text, number):
    return sum(line.startswith("```") for line in text.split("\n")[: number - 1]) % 2 == 1


def main():
    asked = [a for a in sys.argv[1:] if not a.startswith("-")]
    crates = asked or sorted(p.name for p in (ROOT / "crates").iterdir())
    wrong = []
    for crate in crates:
        readme = ROOT / "crates" / crate / "README.md"
        text = readme.read_text()
        if "--write" in sys.argv:
            write(crate, readme, text)
        else:
            wrong += check(crate, readme, text)
    print("".join(f"{line}\n" for line in wrong), end="")
    sys.exit(bool(wrong))


main()

#!/usr/bin/env python3
"""Which file of a crate imports which, held against the floors in `.ci/floors.toml`.

A room is a folder (or a single file) directly under a crate's `src`. Rooms stand on floors, the
highest first; a file may import from its own room and from lower floors. `up` lists the upward
arrows that are allowed and `circles` the files that import each other, each with its reason.
An entry that nothing needs any more is an error as well.

    arrows.py            checks; exit status 1 if something is not listed
    arrows.py --list     prints floors as they would follow from the imports, and counts
"""
import re
import sys
import tomllib
from collections import defaultdict
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
ITEM = re.compile(
    r"^\s*(?:pub(?:\([^)]*\))?\s+)?(?:unsafe\s+|const\s+|async\s+)*"
    r"(?:struct|enum|trait|fn|const|static|type|union|macro_rules!)\s+(\w+)",
    re.M,
)


def strip(text):
    """The code alone: no comments, no unit tests at the end of the file."""
    text = re.sub(r"//[^\n]*", "", text)
    cut = re.search(r"#\[cfg\((?:all\()?test\b[^\n]*\]\s*(?:#\[[^\]]*\]\s*)*mod \w+ \{", text)
    return text[: cut.start()] if cut else text


def leaves(tree, prefix=()):
    """The paths of a use tree: `a::{b, c as d, self}` gives (a, b), (a, c), (a,); with each its local name."""
    tree = tree.strip()
    parts, depth, start = [], 0, 0
    for at, char in enumerate(tree):
        depth += (char == "{") - (char == "}")
        if char == "," and depth == 0:
            parts.append(tree[start:at])
            start = at + 1
    parts.append(tree[start:])
    if len(parts) > 1:
        return [leaf for part in parts if part.strip() for leaf in leaves(part, prefix)]
    if tree.endswith("}"):
        head, _, inner = tree.partition("{")
        return leaves(inner[:-1], prefix + tuple(p for p in head.strip().split("::") if p))
    path, _, name = tree.partition(" as ")
    path = prefix + tuple(p.strip() for p in path.split("::"))
    if path and path[-1] == "self":
        path = path[:-1]
    return [(path, name.strip() or (path[-1] if path else ""))]


class Crate:
    def __init__(self, source):
        self.source, self.files, self.items, self.uses, self.code = source, {}, {}, {}, {}
        root = "lib.rs" if (source / "lib.rs").exists() else "main.rs"
        self.read((), source / root)

    def read(self, module, file):
        text = strip(file.read_text())
        self.files[module], self.code[module] = file, text
        self.items[module] = set(ITEM.findall(text))
        self.uses[module] = [
            leaf for tree in re.findall(r"\buse\s+([^;]+);", text) for leaf in leaves(tree)
        ]
        folder = file.parent if file.name in ("mod.rs", "lib.rs", "main.rs") else file.with_suffix("")
        for test, name in re.findall(r"(#\[cfg\(test\)\]\s*)?(?:pub(?:\([^)]*\))?\s+)?\bmod\s+(\w+);", text):
            for child in (folder / f"{name}.rs", folder / name / "mod.rs"):
                if child.exists() and not test:
                    self.read(module + (name,), child)

    def absolute(self, module, path):
        """A path as written in a module, from the root of the crate; None if it leads out of the crate."""
        if path[0] == "crate":
            return path[1:]
        if path[0] in ("self", "super"):
            while path and path[0] in ("self", "super"):
                module, path = (module[:-1] if path[0] == "super" else module), path[1:]
            return module + path
        return module + path if module + path[:1] in self.files else None

    def home(self, path, seen=()):
        """The module in whose file the item of an absolute path is written."""
        module = ()
        while path and module + path[:1] in self.files:
            module, path = module + path[:1], path[1:]
        if not path or path[0] in self.items[module] or (module, path) in seen:
            return module
        for target, name in self.uses[module]:
            if name in (path[0], "*") and target:
                absolute = self.absolute(module, target)
                if absolute is not None:
                    found = self.home(absolute[:-1] if name == "*" else absolute, seen + ((module, path),))
                    if name != "*" or path[0] in self.items[found]:
                        return found
        return module

    def arrows(self):
        """{file: the files it imports from}, as paths under `src`."""
        found = defaultdict(set)
        for module, code in self.code.items():
            public = {
                leaf
                for tree in re.findall(r"\bpub(?:\([^)]*\))?\s+use\s+([^;]+);", code)
                for leaf in leaves(tree)
            }
            paths = [path for path, name in self.uses[module] if (path, name) not in public and path]
            body = re.sub(r"\buse\s+[^;]+;", "", code)
            paths += [
                tuple(p.split("::"))
                for p in re.findall(r"\b((?:crate|super|self)(?:::\w+)+)", body)
            ]
            for path in paths:
                absolute = self.absolute(module, path)
                if absolute is None:
                    continue
                target = self.home(tuple(absolute))
                if target != module and self.files[target].name not in ("lib.rs", "main.rs"):
                    found[self.name(module)].add(self.name(target))
        return found

    def name(self, module):
        return str(self.files[module].relative_to(self.source))


def room(file):
    return file.split("/")[0].removesuffix(".rs")


def circles(arrows):
    """Strongly connected sets of more than one file."""
    reach = {}
    for start in arrows:
        seen, stack = set(), [start]
        while stack:
            for target in arrows.get(stack.pop(), ()):
                if target not in seen:
                    seen.add(target)
                    stack.append(target)
        reach[start] = seen
    sets = {
        tuple(sorted({f} | {g for g in reach[f] if f in reach.get(g, ())}))
        for f in reach
        if f in reach[f]
    }
    return sorted(s for s in sets if len(s) > 1)


def check(name, crate, rules):
    arrows, wrong = crate.arrows(), []
    floor = {r: at for at, rooms in enumerate(rules.get("floors", [])) for r in rooms}
    files = [crate.name(m) for m in crate.files]
    for missing in sorted({room(f) for f in files} - {"lib", "main"} - floor.keys()):
        wrong.append(f"{name}: {missing} stands on no floor")
    up = {}
    for file, targets in arrows.items():
        for target in targets:
            here, there = room(file), room(target)
            if here != there and here in floor and there in floor and floor[there] <= floor[here]:
                up.setdefault(f"{file} -> {target}", None)
    allowed = rules.get("up", {})
    wrong += [f"{name}: {a} runs up" for a in sorted(up.keys() - allowed.keys())]
    wrong += [f"{name}: {a} is allowed and does not exist" for a in sorted(allowed.keys() - up.keys())]
    known = {tuple(sorted(c["files"])) for c in rules.get("circles", [])}
    now = set(circles(arrows))
    wrong += [f"{name}: files import each other: {', '.join(c)}" for c in sorted(now - known)]
    wrong += [f"{name}: no such circle any more: {', '.join(c)}" for c in sorted(known - now)]
    count = sum(len(t) for t in arrows.values())
    return wrong, f"{name}: {len(files)} files, {count} arrows, {len(up)} upward, {len(now)} circles"


def floors(crate):
    """Rooms from the highest to the lowest, each above all that it imports where that is possible."""
    needs = defaultdict(set)
    rooms = {room(crate.name(m)) for m in crate.files} - {"lib", "main"}
    for file, targets in crate.arrows().items():
        needs[room(file)] |= {room(t) for t in targets} - {room(file)}
    left, result = set(rooms), []
    while left:
        bottom = {r for r in left if not needs[r] & left} or {min(left, key=lambda r: (len(needs[r] & left), r))}
        result.insert(0, sorted(bottom))
        left -= bottom
    return result


def main():
    rules = tomllib.loads((ROOT / ".ci/floors.toml").read_text()) if (ROOT / ".ci/floors.toml").exists() else {}
    failed = False
    for folder in sorted((ROOT / "crates").iterdir()):
        crate = Crate(folder / "src")
        if "--list" in sys.argv:
            print(f"[{folder.name}]\nfloors = [")
            for rooms in floors(crate):
                print(f"    {str(rooms)},".replace("'", '"'))
            print("]")
        wrong, line = check(folder.name, crate, rules.get(folder.name, {}))
        print(f"# {line}" if "--list" in sys.argv else line)
        if "--list" in sys.argv:
            for c in circles(crate.arrows()):
                print("# circle:", ", ".join(c))
        else:
            failed |= bool(wrong)
            print("".join(f"  {w}\n" for w in wrong), end="")
    sys.exit(failed)


main()

#!/usr/bin/env python3
"""What can be known of the minimum Rust without that toolchain.

Three things are held against the `rust-version` of each crate: what its dependencies declare (all
features, as locked), the language (no feature that a later Rust brought), and, by clippy's lint
`incompatible_msrv`, which `Cargo.toml` turns on for all crates, each name of the standard library.
Where `rustup` has the toolchain, `.ci/run` builds with it, too.
"""
import json
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
# Stable since, what it is, and how it is told in a source.
LANGUAGE = [
    ((1, 89), "a length that is inferred, `[0; _]`", re.compile(r";\s*_\s*\]")),
    ((1, 89), "an enum over 128 bits", re.compile(r"repr\((?:C, *)?[ui]128\)")),
    ((1, 95), "`if let` in the guard of a match arm", re.compile(r"^[^/\n]*\bif let [^{;\n]*=>", re.M)),
    ((1, 95), "`cfg_select!`", re.compile(r"\bcfg_select!")),
]


def version(text):
    return tuple(int(part) for part in text.split(".")[:2])


def main():
    told = subprocess.check_output(
        ["cargo", "metadata", "--format-version", "1", "--locked", "--all-features"], cwd=ROOT
    )
    packages = json.loads(told)["packages"]
    mine = [p for p in packages if p["source"] is None]
    wrong = [f"{p['name']}: no rust-version" for p in mine if not p["rust_version"]]
    least = min(version(p["rust_version"]) for p in mine if p["rust_version"])
    for package in packages:
        if package["rust_version"] and version(package["rust_version"]) > least:
            wrong.append(f"{package['name']} {package['version']} wants Rust {package['rust_version']}")
    listed = subprocess.check_output(["git", "ls-files", "*.rs"], cwd=ROOT, text=True).split()
    for path in listed:
        text = (ROOT / path).read_text(encoding="utf-8")
        for since, what, pattern in LANGUAGE:
            if since <= least:
                continue
            for found in pattern.finditer(text):
                line = text.count("\n", 0, found.start()) + 1
                wrong.append(f"{path}:{line}: {what} wants Rust {since[0]}.{since[1]}")
    for line in wrong:
        print(line)
    print(f"minimum Rust {least[0]}.{least[1]}: {len(packages)} crates, {len(listed)} files")
    sys.exit(1 if wrong else 0)


main()

"""Compiles the shipped page word to LLVM IR and to a library that can be called."""

import re
import subprocess
from dataclasses import dataclass
from pathlib import Path

from . import llvm

PROOF = Path(__file__).resolve().parent.parent
ROOT = PROOF.parent
PAGE_WORD = ROOT / "crates/tailpin/src/page_word"
# What it is split into: where its fields are, and what changes it.
SHIPPED = [PAGE_WORD / "layout.rs", PAGE_WORD / "transitions.rs"]
EXPORTS = PROOF / "exports.rs"

# As it is shipped, and with every check that a debug build has: there an overflow is a panic, and a panic is a failure.
RELEASE = ["-Copt-level=3"]
CHECKED = ["-Copt-level=1", "-Cdebug-assertions=on", "-Coverflow-checks=on"]


class DoesNotCompile(Exception):
    """rustc's message."""


@dataclass
class Compiled:
    module: llvm.Module
    library: Path


def compile_harness(out, flags, root=PROOF / "harness.rs", name="page_word", link=True):
    """`out` is a folder for what rustc writes."""
    out.mkdir(parents=True, exist_ok=True)
    ir, library = out / f"{name}.ll", out / f"{name}.so"
    emit = f"llvm-ir={ir}" + (f",link={library}" if link else "")
    command = [
        "rustc",
        "--edition=2024",
        "--crate-type=cdylib",
        "--crate-name=page_word",
        "-Ccodegen-units=1",
    ]
    command += ["-Cpanic=abort", "-Cllvm-args=-switch-to-lookup=false", f"--emit={emit}", *flags, str(root)]
    # In that folder, as rustc leaves what lies between in the current one: two at once must not meet there.
    done = subprocess.run(command, capture_output=True, text=True, cwd=out)
    if done.returncode != 0:
        raise DoesNotCompile(explained(done.stderr))
    return Compiled(llvm.parse(ir.read_text()), library)


def explained(message):
    missing = re.findall(
        r"no (?:method|associated function or constant|function or associated item|method or field)[^`]*`(\w+)`",
        message,
    )
    missing += re.findall(r"cannot find value `(\w+)`", message)
    if not missing:
        return message
    names = ", ".join(dict.fromkeys(missing))
    return (
        f"{message}\nThe page word has no {names} any more. Say in proof/exports.rs what it is called now, and in "
        f"proof/prover/transitions.py what it does if that has changed."
    )


def methods_of_page_word(source=None):
    """Every function that the page word's files define."""
    text = source if source is not None else "".join(path.read_text() for path in SHIPPED)
    return set(re.findall(r"^\s*(?:pub(?:\([a-z]+\))? )?(?:const )?fn (\w+)", text, re.M))

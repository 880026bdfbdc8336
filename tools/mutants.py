#!/usr/bin/env python3
"""Mutation testing with one build for all mutants of a crate.

    tools/mutants.py PACKAGE FILE... [-- CARGO-OPTION...]

lists the mutants of the files (globs from the root of the workspace) with cargo-mutants and builds
the crate's tests once, in `target/mutants`: there the body of each function that has mutants is a
`match` on the number that the environment variable MUTANT gives, with a changed copy for each
mutant. Then each test runs alone to see which of those functions it reaches, and each mutant runs
against the tests that reach it, until one fails. docs/mutants.md says what the figures mean.

What was tried is kept in `target/mutants/PACKAGE.jsonl`; a second call tries again only what was
missed. The environment variable JOBS says how many tests run at once (2), COPY names another
directory than `target/mutants`. With SCENARIOS set to a number of seconds, what the tests missed
runs against each scenario of the model checker that reaches it, for so long at most.
"""

import collections
import concurrent.futures
import json
import os
import re
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
COPY = Path(os.environ.get("COPY", ROOT / "target" / "mutants"))
JOBS = int(os.environ.get("JOBS", 2))
SCENARIOS = int(os.environ.get("SCENARIOS", 0))
MEMORY = 3 << 30
LONG = 1.0
EXCLUDE = r"impl (fmt::)?(Debug|Display)|impl Error"

# Only the compiler tells a constant's call of a function from others; the copy alone needs it.
FEATURES = "#![feature(core_intrinsics, const_eval_select)] #![allow(internal_features)] "
RUNTIME = """
mod mutants {
    extern crate std;
    use std::{env, fs, io::Write};
    use core::sync::atomic::{AtomicBool, Ordering::Relaxed};
    static NUMBER: std::sync::OnceLock<u32> = std::sync::OnceLock::new();
    static REACHED: [AtomicBool; %d] = [const { AtomicBool::new(false) }; %d];
    /// What constants call is as it was in them.
    pub(crate) const fn number(function: usize) -> u32 {
        const fn in_constants(_: usize) -> u32 {
            0
        }
        core::intrinsics::const_eval_select((function,), in_constants, chosen)
    }
    fn chosen(function: usize) -> u32 {
        if !REACHED[function].load(Relaxed) && !REACHED[function].swap(true, Relaxed) {
            // A test may have taken all descriptors away.
            let trace = env::var_os("MUTANT_TRACE").map(|path| fs::File::options().append(true).open(path));
            if let Some(Ok(mut file)) = trace {
                file.write_all(std::format!("{function}\\n").as_bytes()).unwrap();
            }
        }
        *NUMBER.get_or_init(|| env::var("MUTANT").map_or(0, |number| number.parse().unwrap()))
    }
}
"""

# Runs one scenario with every step in place; without an argument, names them all.
CHECKER = "crates/tailpin-check/examples/scenario.rs"
DRIVER = """
use std::time::Duration;
use tailpin_check::suite::{Progress, Selection};
fn main() {
    let scenario = std::env::args().nth(1);
    let time = Some(Duration::from_secs(%d));
    let selection = Selection { scenario: scenario.clone(), time, ..Selection::default() };
    let checks: Vec<_> = selection.checks().into_iter().filter(|check| check.safeguard.is_none()).collect();
    if scenario.is_none() {
        return checks.iter().for_each(|check| println!("{}", check.scenario));
    }
    let checked = selection.run(&checks, &Progress::default());
    assert!(!checked.is_empty() && checked.iter().all(|checked| checked.row.is_as_expected()));
}
"""

# What braces are not looked for in: comments, strings, characters.
TOKEN = re.compile(
    r"""//[^\n]*|/\*.*?\*/|b?r(#*)".*?"\1|b?"(?:\\.|[^"\\])*"|'(?:\\[^']+|[^'\\\n])'|[{}]""", re.S
)


class Function:
    """A function of the copy: where it is, its signature, its body, and its mutants."""

    def __init__(self, number, file, text, start, end):
        self.number, self.file, self.start, self.end, self.mutants = number, file, start, end, []
        opened = []
        for token in TOKEN.finditer(text, start, end):
            if token[0] == "{":
                opened.append(token.start())
            elif token[0] == "}":
                self.body = opened.pop()

    def written(self, text):
        """The function with its copies, as (mutant or None, text)."""
        signature, body = text[self.start : self.body], text[self.body : self.end]
        opaque = re.search(r"-> impl ([^+]*?)(?:\+ ('_|use<[^>]*>))?\s*$", signature)
        self.untried = not opaque and "-> impl " in signature
        if not self.mutants or self.untried:
            return [(None, text[self.start : self.end])]
        box = ""
        if opaque:
            # What it borrows: what is named, else the receiver.
            named = re.findall(r"'\w+", opaque[2] or "") or re.findall(r"&self", signature) and ["'_"]
            life = f" + {min(named)}" if named else ""
            signature = signature.replace(opaque[0], f"-> std::boxed::Box<dyn {opaque[1]}{life}> ")
            box = "std::boxed::Box::new"
        pieces = [(None, f"{signature}{{ match crate::mutants::number({self.number}) {{\n")]
        for mutant in self.mutants:
            start, end = mutant["start"] - self.body, mutant["end"] - self.body
            changed = body[:start] + mutant["replacement"] + body[end:]
            pieces.append((mutant, f"{mutant['number']} => {box}({changed}),\n"))
        return pieces + [(None, f"_ => {box}({body}) }} }}")]


class Tree:
    """The functions of the files, and what of them is left out of the copy."""

    def __init__(self, package, files):
        self.package = package
        self.directory = ROOT / "crates" / package
        options = [option for file in files for option in ("-f", file)]
        listed = output(["cargo", "mutants", "--list", "--json", "-p", package, "-E", EXCLUDE, *options])
        self.mutants = sorted(json.loads(listed), key=lambda mutant: mutant["file"])
        names = output(["git", "ls-files", "-co", "--exclude-standard"]).split("\n")
        # All of it now: the files may change while this runs.
        self.contents = {name: (ROOT / name).read_bytes() for name in names if (ROOT / name).is_file()}
        if SCENARIOS:
            self.contents[CHECKER] = (DRIVER % SCENARIOS).encode()
        self.texts, self.functions, self.unviable, self.killed = {}, [], set(), set()
        for number, mutant in enumerate(self.mutants, 1):
            mutant["number"] = number
            text = self.texts.setdefault(mutant["file"], self.contents[mutant["file"]].decode())
            mutant["start"], mutant["end"] = span(text, mutant["span"])
            mutant["change"] = mutant["name"].split(": ", 1)[1]
        for file, text in self.texts.items():
            mine = [mutant for mutant in self.mutants if mutant["file"] == file and mutant["function"]]
            spans = sorted({span(text, mutant["function"]["span"]) for mutant in mine}, key=lambda s: (s[0], -s[1]))
            end = 0
            for inner in spans:
                if inner[0] >= end:
                    end = inner[1]
                    self.functions.append(Function(len(self.functions), file, text, *inner))
        for mutant in self.mutants:
            mutant["function"] = next((f.number for f in self.functions if f.file == mutant["file"]
                                       and f.body <= mutant["start"] and mutant["end"] <= f.end), None)

    def write(self):
        """Writes the copy; returns for each file the lines of each mutant."""
        for function in self.functions:
            function.mutants = [mutant for mutant in self.mutants
                                if mutant["function"] == function.number
                                and mutant["number"] not in self.unviable | self.killed]
        lines = collections.defaultdict(list)
        for stale in (COPY / "crates").rglob("*"):
            if stale.is_file() and str(stale.relative_to(COPY)) not in self.contents:
                stale.unlink()
        for name, content in self.contents.items():
            if name in self.texts:
                text, at, pieces = self.texts[name], 0, []
                for function in (f for f in self.functions if f.file == name):
                    pieces.append((None, text[at : function.start]))
                    pieces += function.written(text)
                    at = function.end
                pieces.append((None, text[at:]))
                line = 1
                for mutant, piece in pieces:
                    following = line + piece.count("\n")
                    if mutant:
                        lines[name].append((line, following - 1, mutant["number"]))
                    line = following
                content = "".join(piece for _, piece in pieces).encode()
                # Copies within copies of callers would take for ever to compile.
                content = re.sub(rb"#\[inline(\(always\))?\]", b"#[inline(never)]", content)
            if name == f"crates/{self.package}/src/lib.rs":
                runtime = RUNTIME % (len(self.functions), len(self.functions))
                content = FEATURES.encode() + content + runtime.encode()
            copy = COPY / name
            if not copy.is_file() or copy.read_bytes() != content:
                copy.parent.mkdir(parents=True, exist_ok=True)
                copy.write_bytes(content)
        return lines

    def build(self, options):
        """Builds the tests, taking out what does not compile; returns the programs."""
        check = ["cargo", "check", "--lib"]
        os.environ["RUSTC_BOOTSTRAP"] = self.package.replace("-", "_")
        while True:
            lines = self.write()
            out = subprocess.run([*check, "-p", self.package, "--message-format=json", *options],
                                 cwd=COPY, stdout=subprocess.PIPE, text=True, stderr=subprocess.DEVNULL)
            messages = [json.loads(line) for line in out.stdout.splitlines()]
            if out.returncode == 0:
                if check[1] == "test":
                    return [message["executable"] for message in messages if message.get("executable")]
                check = ["cargo", "test", "--no-run", "--lib", "--tests"]
                continue
            before = len(self.unviable)
            errors = [message["message"] for message in messages if message["reason"] == "compiler-message"]
            for error in (error for error in errors if error["level"].startswith("error")):
                found = {number for place in error["spans"] for first, last, number in lines[place["file_name"]]
                         if place["is_primary"] and first <= place["line_start"] <= last}
                self.unviable |= found
            if len(self.unviable) == before:
                sys.exit("".join(error["rendered"] for error in errors if error["level"] == "error"))
            print(f"{len(self.unviable)} unviable", flush=True)


class Run:
    """What one test did."""

    def __init__(self, tree, test, number, trace=None, wall=600.0, cpu=600):
        env = dict(os.environ, MUTANT=str(number), CARGO_MANIFEST_DIR=str(COPY / "crates" / tree.package),
                   PROPTEST_DISABLE_FAILURE_PERSISTENCE="true", **({"MUTANT_TRACE": str(trace)} if trace else {}))
        start = time.monotonic()
        process = subprocess.Popen(
            test, env=env, cwd=env["CARGO_MANIFEST_DIR"], start_new_session=True,
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
            preexec_fn=lambda: (resource.setrlimit(resource.RLIMIT_CPU, (cpu, cpu)),
                                resource.setrlimit(resource.RLIMIT_CORE, (0, 0))))
        self.outcome = None
        while True:
            pid, status, used = os.wait4(process.pid, os.WNOHANG)
            self.wall = time.monotonic() - start
            if pid:
                break
            if resident(process.pid) > MEMORY or self.wall > wall and not is_running(process.pid):
                self.outcome = "hung"
                kill(process.pid)
            time.sleep(0.005 if self.wall < 0.1 else 0.05)
        kill(process.pid)
        process.returncode = status
        self.cpu = used.ru_utime + used.ru_stime
        over = os.WIFSIGNALED(status) and os.WTERMSIG(status) in (signal.SIGXCPU, signal.SIGKILL)
        self.outcome = self.outcome or ("hung" if over else "caught" if status else "missed")


def output(command):
    return subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True).stdout


def span(text, span):
    def offset(place):
        at = 0
        for _ in range(place["line"] - 1):
            at = text.index("\n", at) + 1
        return at + place["column"] - 1

    return offset(span["start"]), offset(span["end"])


def resident(pid):
    try:
        return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGESIZE")
    except (OSError, IndexError):
        return 0


def is_running(session):
    """Whether any thread of a session wants a CPU, as on a busy machine it may for long."""
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            if int(stat.read_text().rpartition(")")[2].split()[3]) == session:
                tasks = stat.parent.glob("task/[0-9]*/stat")
                if any(task.read_text().rpartition(")")[2].split()[0] in "RD" for task in tasks):
                    return True
        except OSError:
            pass
    return False


def kill(group):
    try:
        os.killpg(group, signal.SIGKILL)
    except (ProcessLookupError, PermissionError):
        pass


def tests_of(programs):
    """The tests of these programs, as commands that end with the name of the test."""
    return [(program, "--exact", line.removesuffix(": test")) for program in programs
            for line in output([program, "--list", "--format", "terse"]).splitlines() if line.endswith(": test")]


def scenarios():
    """The scenarios of the model checker, in the same way."""
    subprocess.run(["cargo", "build", "-p", "tailpin-check", "--example", "scenario"], cwd=COPY, check=True)
    program = str(COPY / "target" / "debug" / "examples" / "scenario")
    return [(program, name) for name in dict.fromkeys(output([program]).split())]


def reach(tree, tests, pool):
    """Runs each test alone; returns how long it takes and which functions it reaches."""

    def one(test):
        trace = COPY / "trace" / f"{Path(test[0]).name}.{test[-1].replace(':', '_')}"
        trace.write_text("")
        trace.chmod(0o666)  # for children of another user
        run = Run(tree, test, 0, trace)
        if run.outcome != "missed":
            print(f"{test[-1]} of {Path(test[0]).name} fails without a mutant: left out", flush=True)
            return test, run, set()
        return test, run, {int(number) for number in trace.read_text().split()}

    (COPY / "trace").mkdir(exist_ok=True)
    return list(pool.map(one, tests))


def attempt(tree, mutant, tests, kills):
    """Runs the tests that reach a mutant, likely and short ones first, until one fails."""
    mine = [(test, alone) for test, alone, reached in tests if mutant["function"] in reached]
    mine.sort(key=lambda entry: entry[1].cpu / (1 + kills[mutant["function"], entry[0]]))
    for test, alone in mine:
        run = Run(tree, test, mutant["number"], None, 8 + 10 * alone.wall, 2 + int(15 * alone.cpu))
        if run.outcome != "missed":
            kills[mutant["function"], test] += 1
            return run.outcome, test[-1]
    return "missed", ""


def main():
    arguments, options = sys.argv[1:], ["--all-features"]
    if "--" in arguments:
        at = arguments.index("--")
        arguments, options = arguments[:at], arguments[at + 1 :]
    package, *files = arguments
    tree = Tree(package, files)
    print(f"{len(tree.mutants)} mutants in {len(tree.functions)} functions", flush=True)
    log = COPY / f"{package}.jsonl"
    entries = [json.loads(line) for line in log.read_text().splitlines()] if log.exists() else []
    before = {(entry["file"], entry["change"], entry["nth"]): entry["outcome"] for entry in entries}
    count = collections.Counter()
    for mutant in tree.mutants:
        count[mutant["file"], mutant["change"]] += 1
        mutant["key"] = mutant["file"], mutant["change"], count[mutant["file"], mutant["change"]]
        mutant["outcome"] = before.get(mutant["key"])
        if mutant["outcome"] == "unviable":
            tree.unviable.add(mutant["number"])
        elif mutant["outcome"] in ("caught", "hung"):
            tree.killed.add(mutant["number"])
    programs = tree.build(options)
    kills = collections.Counter()
    untried = {function.number for function in tree.functions if function.untried}
    with concurrent.futures.ThreadPoolExecutor(JOBS) as pool, log.open("a") as out:

        def note(mutant, outcome, by=""):
            mutant["outcome"] = outcome
            file, change, nth = mutant["key"]
            json.dump({"file": file, "change": change, "nth": nth, "outcome": outcome, "by": by}, out)
            print(file=out, flush=True)

        for mutant in tree.mutants:
            if mutant["number"] in tree.unviable:
                note(mutant, "unviable")
            elif mutant["function"] is None or mutant["function"] in untried:
                note(mutant, "untried")
        tests = reach(tree, tests_of(programs), pool)
        # What a short test catches never meets the long ones, nor the model checker.
        parts = [[test for test in tests if (test[1].cpu > LONG) == long] for long in (False, True)]
        if SCENARIOS:
            parts.append(reach(tree, scenarios(), pool))
        for part in parts:
            left = [mutant for mutant in tree.mutants if mutant["outcome"] in (None, "missed")]
            print(f"{len(left)} mutants for {len(part)} tests", flush=True)
            for mutant, found in zip(left, pool.map(lambda mutant: attempt(tree, mutant, part, kills), left)):
                note(mutant, *found)
    table = collections.defaultdict(collections.Counter)
    for mutant in tree.mutants:
        table[mutant["file"]][mutant["outcome"]] += 1
        if mutant["outcome"] == "missed":
            print(f"missed: {mutant['file']}: {mutant['change']}")
    for file, row in table.items():
        outcomes = ("caught", "hung", "missed", "unviable", "untried")
        print(f"| `{file}` | {sum(row.values())} | " + " | ".join(str(row[one]) for one in outcomes) + " |")


if __name__ == "__main__":
    main()

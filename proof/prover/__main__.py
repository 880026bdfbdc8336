"""`proof/prove [--json] [--mutants] [--changes FILE] [--table] [--or-skip]`."""

import argparse
import json
import pathlib
import sys
import time

from . import callers, compile, llvm, mutants, steps, traces, translator_test, words, wrong
from .counting import MACHINES
from .transitions import FUNCTIONS

TARGET = compile.ROOT / "target/proof"


class Report:
    """Counts results and shows them: each group in a line, all that isn't proved in full."""

    def __init__(self, quiet):
        self.out = sys.stderr if quiet else sys.stdout
        self.results = []
        self.start = time.monotonic()

    def group(self, title, results):
        start, group = time.monotonic(), []
        for result in results:
            group.append(result)
            if not result.proved:
                print(
                    f"  {result.verdict.upper()}: {result.name}\n    {result.counterexample}", file=self.out
                )
        proved = sum(r.proved for r in group)
        print(f"{title}: {proved} of {len(group)} ({time.monotonic() - start:.1f} s)", file=self.out)
        self.results += group

    @property
    def proved(self):
        return sum(r.proved for r in self.results)

    @property
    def elapsed_ms(self):
        return round((time.monotonic() - self.start) * 1e3)


def symbols():
    return [s for f in FUNCTIONS for s in [f.symbol, f"{f.symbol}_allowed"][: 2 if f.refuses else 1]]


def translator_results(release, cases):
    names = [name for name in cases.module.functions if name.startswith("case_")]
    for result, _count in translator_test.results(release, symbols(), cases, names):
        yield result


def prove_words(report):
    release = compile.compile_harness(TARGET, compile.RELEASE)
    checked = compile.compile_harness(TARGET, compile.CHECKED, name="checked", link=False)
    cases = compile.compile_harness(TARGET, compile.RELEASE, root=compile.PROOF / "cases.rs", name="cases")
    report.group("Lists: names here are names there", callers.results())
    report.group("Translator: compared with the machine", translator_results(release, cases))
    report.group("Functions: every word", words.function_statements(release.module, checked.module))
    report.group("Wrong on purpose: refuted", wrong.results(checked.module, TARGET / "wrong"))
    report.group("Pairs: what undoes what", words.pair_statements(release.module))
    report.group("Limits: no field runs into the next", words.limit_statements(release.module))
    report.group(
        "States: each arrow and no other, nothing leads out of the reachable words",
        steps.step_statements(release.module),
    )


def judge_mutants(report):
    """How many mutants of the page word have which verdict; those not refuted are shown."""
    counts = dict.fromkeys(["refuted", "equal", "equal_where_it_matters", "open", "unviable"], 0)
    for verdict in mutants.verdicts(TARGET / "mutants"):
        counts[verdict.verdict.replace(" ", "_")] += 1
        if verdict.verdict not in ("refuted", "unviable"):
            print(f"  {verdict.verdict}: {verdict.name} {verdict.by}", file=report.out, flush=True)
    print(
        "Mutants: " + ", ".join(f"{n} {kind.replace('_', ' ')}" for kind, n in counts.items()),
        file=report.out,
    )
    return counts


def prove_counting(report):
    for machine in MACHINES:
        report.group(f"Counting, {machine.name}: any number of threads and pages", machine.results())
        report.group(f"Counting, {machine.name}: each safeguard is needed", runs_without(machine, report))


def runs_without(machine, report):
    for safeguard in machine.without:
        result = machine.counterexample(safeguard)
        if result.proved:
            steps = "; ".join(result.counterexample["run"])
            print(
                f"  without {safeguard}: {steps}. Broken: {', '.join(result.counterexample['broken'])}",
                file=report.out,
            )
        yield result


def hold_changes_against(path, report):
    """Each change that the model checker saw is a step that was proved, taken by the function that is named."""
    module = compile.compile_harness(TARGET, compile.RELEASE, link=False).module
    seen = traces.Seen(module, path)
    report.group("Changes that the model checker saw: each is a step, by its function", seen.results())
    counts = seen.counts()
    print(
        f"  {counts['changes']:,} changes; {counts['steps_seen']} of {counts['steps']} steps of the table are among them; "
        f"no machine sees {counts['seen_by_no_machine']:,}, and none covers {counts['in_no_machine']}",
        file=report.out,
    )
    return counts


def main():
    parser = argparse.ArgumentParser(
        prog="proof/prove", description="Proves the page word's transitions and the counting protocol."
    )
    parser.add_argument("--json", action="store_true", help="one object on stdout")
    parser.add_argument("--table", action="store_true", help="print the table of states and end")
    parser.add_argument(
        "--changes",
        type=pathlib.Path,
        metavar="FILE",
        help="alone: hold what `tailpin check --changes FILE` has written against the steps",
    )
    parser.add_argument(
        "--mutants",
        action="store_true",
        help="also judge each mutant that cargo-mutants lists: several minutes",
    )
    arguments = parser.parse_args()
    if arguments.table:
        return print(steps.table())
    report = Report(arguments.json)
    judged = changes = None
    try:
        if arguments.changes:
            changes = hold_changes_against(arguments.changes, report)
        else:
            prove_words(report)
            prove_counting(report)
            judged = judge_mutants(report) if arguments.mutants else None
    except (mutants.NoCargoMutants, traces.NoChanges) as error:
        print(f"proof: {error}", file=sys.stderr)
        return 2
    except (compile.DoesNotCompile, llvm.NotTranslated) as error:
        print(f"proof: {error}", file=sys.stderr)
        return 1
    done = len(report.results)
    print(f"{report.proved} of {done} statements proved in {report.elapsed_ms / 1e3:.1f} s", file=report.out)
    if arguments.json:
        answer = {
            "statements": done,
            "proved": report.proved,
            "mutants": judged,
            "changes": changes,
            "elapsed_ms": report.elapsed_ms,
        }
        print(json.dumps(answer))
    return 0 if report.proved == done and not (judged and judged["open"]) else 1


if __name__ == "__main__":
    sys.exit(main())

"""LLVM IR, as rustc prints it, read as formulas.

Integer functions without loops and memory: all that the page word's transitions are made of. A value is a pair of bits and
*poison*: the flags by which LLVM may assume that something doesn't happen (`nuw`, `nsw`, `exact`, `disjoint`, `samesign`, `nneg`,
`range`, a shift by too much) make a value poison where it does happen after all. A function `fails` on arguments for which it would
branch on poison, return poison, reach `unreachable`, or panic. So nothing that the optimiser assumed is taken on trust: it is proved
that no function fails.

What isn't known here is an error. Nothing is skipped.
"""

import re
from dataclasses import dataclass, field

import z3


class NotTranslated(Exception):
    """An instruction, an operand or a shape of code that this file does not know."""


@dataclass
class Function:
    name: str
    width: int
    result_range: tuple | None
    parameters: list
    blocks: dict = field(default_factory=dict)


@dataclass
class Module:
    functions: dict
    aliases: dict

    def get(self, name):
        name = self.aliases.get(name, name)
        if name not in self.functions:
            raise NotTranslated(f"no function {name} in the compiled code")
        return self.functions[name]


@dataclass
class Outcome:
    """What a call gives: the bits, and when it fails."""

    bits: z3.BitVecRef
    fails: z3.BoolRef


RANGE = r"range\(i(\d+) (-?\d+), (-?\d+)\)"
NAME = r"[-\w.$]+"
VALUE = rf"(?:%{NAME}|-?\d+|true|false|poison|undef)"
DEFINE = re.compile(
    rf"define (?P<attributes>[^@]*?)i(?P<width>\d+) @(?P<name>{NAME})\((?P<parameters>.*?)\) (?P<rest>.*)\{{$"
)
ALIAS = re.compile(rf"@({NAME}) = .*?alias .*?, ptr @({NAME})$")


def parse(text):
    """All functions of a module that return integers; others are never asked for."""
    functions, aliases, current, block = {}, {}, None, None
    pending = ""
    for raw in text.splitlines():
        line = strip_comment(raw if current is None else unquoted(raw)).strip()
        if not line:
            continue
        if current is None:
            if alias := ALIAS.match(line):
                aliases[alias[1]] = alias[2]
            elif line.startswith("define "):
                current, block = open_function(line), None
                functions[current.name] = current
            continue
        if line == "}" and not pending:
            current = None
        elif label := re.fullmatch(rf"({NAME}):", line):
            block = label[1]
            current.blocks[block] = []
        else:
            if block is None:
                raise NotTranslated(f"{current.name}: an instruction before the first label: {line}")
            pending = f"{pending} {line}".strip()
            if pending.count("[") == pending.count("]"):  # a switch goes on for several lines
                current.blocks[block].append(re.sub(r"(, ![\w.]+ !\d+)+$", "", pending))
                pending = ""
    if current is not None or "\n!llvm.ident = " not in text:
        raise NotTranslated("the module is cut off")
    return Module(functions, aliases)


def unquoted(line):
    """Names of blocks with other characters are quoted."""
    return re.sub(r'"([^"]*)"', lambda name: re.sub(r"[^-\w.$]", "_", name[1]), line)


def strip_comment(line):
    """A comment ends the line, unless the `;` is in a quoted constant."""
    if '"' in line:
        return line
    return line.split(";", 1)[0].rstrip()


def open_function(line):
    head = DEFINE.match(line)
    if not head:
        # A function with another signature: kept as something that can't be asked for.
        name = re.search(rf"@({NAME})\(", line)
        return Function(name[1] if name else line, 0, None, [])
    bounds = re.search(RANGE, head["attributes"])
    parameters = []
    for parameter in filter(None, head["parameters"].split(", ")):
        one = re.fullmatch(rf"i(\d+) noundef %({NAME})", parameter)
        if not one:
            return Function(head["name"], 0, None, [])
        parameters.append((int(one[1]), one[2]))
    limits = (int(bounds[2]), int(bounds[3])) if bounds else None
    return Function(head["name"], int(head["width"]), limits, parameters)


NEVER = z3.BoolVal(False)


@dataclass
class Value:
    bits: z3.BitVecRef
    poison: z3.BoolRef = NEVER


def bit(condition):
    return z3.If(condition, z3.BitVecVal(1, 1), z3.BitVecVal(0, 1))


def within(bits, low, high):
    """`range(low, high)`: from `low` on and below `high`, round the end where they are the other way about."""
    width = bits.size()
    low, high = z3.BitVecVal(low, width), z3.BitVecVal(high, width)
    return (
        z3.ULT(bits - low, high - low) if not z3.eq(z3.simplify(low), z3.simplify(high)) else z3.BoolVal(True)
    )


COMPARE = {
    "eq": lambda x, y: x == y,
    "ne": lambda x, y: x != y,
    "ult": z3.ULT,
    "ule": z3.ULE,
    "ugt": z3.UGT,
    "uge": z3.UGE,
    "slt": lambda x, y: x < y,
    "sle": lambda x, y: x <= y,
    "sgt": lambda x, y: x > y,
    "sge": lambda x, y: x >= y,
}

ARITHMETIC = {
    "and": lambda x, y: x & y,
    "or": lambda x, y: x | y,
    "xor": lambda x, y: x ^ y,
    "add": lambda x, y: x + y,
    "sub": lambda x, y: x - y,
    "mul": lambda x, y: x * y,
    "udiv": z3.UDiv,
    "urem": z3.URem,
    "shl": lambda x, y: x << y,
    "lshr": z3.LShR,
    "ashr": lambda x, y: x >> y,
}

FLAGS = {
    "and": set(),
    "or": {"disjoint"},
    "xor": set(),
    "add": {"nuw", "nsw"},
    "sub": {"nuw", "nsw"},
    "mul": {"nuw", "nsw"},
    "udiv": {"exact"},
    "urem": set(),
    "shl": {"nuw", "nsw"},
    "lshr": {"exact"},
    "ashr": {"exact"},
}


def wide(x, signed):
    """Twice as wide, so that nothing overflows."""
    return z3.SignExt(x.size(), x) if signed else z3.ZeroExt(x.size(), x)


def broken_flags(op, flags, x, y):
    """When `op` with `flags` gives poison though its operands are none."""
    broken = [z3.UGE(y, x.size())] if op in ("shl", "lshr", "ashr") else []
    for flag in flags:
        if flag == "disjoint":
            broken.append((x & y) != 0)
        elif flag == "exact":
            back = z3.UDiv(x, y) * y if op == "udiv" else z3.LShR(x, y) << y
            broken.append(back != x)
        else:
            signed = flag == "nsw"
            result = wide(ARITHMETIC[op](x, y), signed)
            if op == "shl":
                full = wide(x, signed) << z3.ZeroExt(y.size(), y)
            else:
                full = ARITHMETIC[op](wide(x, signed), wide(y, signed))
            broken.append(full != result)
    return z3.Or(broken) if broken else NEVER


# Forms of instruction: those that this file knows, and those met so far; the test of the translator compares the two.
KNOWN = (
    set(ARITHMETIC)
    | {f"icmp {how}" for how in COMPARE}
    | {"select", "trunc", "zext", "sext", "phi", "br", "switch"}
    | {"umin", "umax", "smin", "smax", "uadd", "usub"}
)
MET = set()


class Call:
    """One call of a function: its blocks in an order in which each comes after those that lead to it."""

    def __init__(self, module, function, arguments):
        self.module, self.function = module, function
        if len(arguments) != len(function.parameters):
            raise NotTranslated(f"{function.name} takes {len(function.parameters)} arguments")
        self.values = {n: Value(a) for (_, n), a in zip(function.parameters, arguments)}
        self.edges, self.fails, self.returns = {}, [], []
        self.free = 0

    def run(self):
        order = self.topological()
        for at, name in enumerate(order):
            entries = self.edges.get(name, [])
            here = z3.BoolVal(True) if at == 0 else z3.Or([taken for _, taken in entries] or [NEVER])
            for text in self.function.blocks[name]:
                self.step(name, here, text)
        if not self.returns:
            raise NotTranslated(f"{self.function.name} never returns")
        bits, poison = self.returns[0][1].bits, self.returns[0][1].poison
        for here, value in self.returns[1:]:
            bits, poison = z3.If(here, value.bits, bits), z3.If(here, value.poison, poison)
        returned = z3.Or([here for here, _ in self.returns])
        failed = z3.Or(self.fails + [z3.And(returned, poison)])
        if self.function.result_range:
            failed = z3.Or(failed, z3.And(returned, z3.Not(within(bits, *self.function.result_range))))
        return Outcome(bits, failed)

    def topological(self):
        blocks = self.function.blocks
        if not blocks:
            raise NotTranslated(f"{self.function.name} is not a plain function of integers")
        follow = {b: re.findall(rf"label %({NAME})", " ".join(blocks[b][-1:])) for b in blocks}
        done, open_now, order = set(), set(), []

        def visit(b):
            if b in open_now:
                raise NotTranslated(f"{self.function.name}: a loop")
            if b in done:
                return
            if b not in blocks:
                raise NotTranslated(f"{self.function.name}: no block {b}")
            open_now.add(b)
            for next_block in follow[b]:
                visit(next_block)
            open_now.discard(b)
            done.add(b)
            order.append(b)

        visit(next(iter(blocks)))
        return order[::-1]

    def value(self, width, text):
        if text.startswith("%"):
            if text[1:] not in self.values:
                raise NotTranslated(f"{self.function.name}: {text} has no value")
            value = self.values[text[1:]]
            if value.bits.size() != width:
                raise NotTranslated(f"{self.function.name}: {text} is not of {width} bits")
            return value
        if text in ("poison", "undef"):
            return Value(self.unknown(width), z3.BoolVal(True))
        if text in ("true", "false"):
            return Value(z3.BitVecVal(int(text == "true"), width))
        return Value(z3.BitVecVal(int(text), width))

    def unknown(self, width):
        self.free += 1
        return z3.FreshConst(z3.BitVecSort(width), f"{self.function.name}_any{self.free}")

    def goto(self, target, source, taken):
        self.edges.setdefault(target, []).append((source, taken))

    def step(self, block, here, text):
        for pattern, rule in RULES:
            if match := pattern.fullmatch(text):
                return rule(self, block, here, match)
        raise NotTranslated(f"{self.function.name}: {text}")

    # One method for each form of instruction.

    def arithmetic(self, _block, here, m):
        op, flags = m["op"], set(m["flags"].split())
        MET.add(op)
        if not flags <= FLAGS[op]:
            raise NotTranslated(f"{self.function.name}: {m[0]}")
        x, y = self.value(int(m["width"]), m["x"]), self.value(int(m["width"]), m["y"])
        if op in ("udiv", "urem"):
            self.fails.append(z3.And(here, z3.Or(y.poison, y.bits == 0)))
        poison = z3.Or(x.poison, y.poison, broken_flags(op, flags, x.bits, y.bits))
        self.values[m["to"]] = Value(ARITHMETIC[op](x.bits, y.bits), z3.simplify(poison))

    def compare(self, _block, _here, m):
        MET.add("icmp " + m["how"])
        x, y = self.value(int(m["width"]), m["x"]), self.value(int(m["width"]), m["y"])
        top = int(m["width"]) - 1
        differ = z3.Extract(top, top, x.bits) != z3.Extract(top, top, y.bits) if m["samesign"] else NEVER
        poison = z3.simplify(z3.Or(x.poison, y.poison, differ))
        self.values[m["to"]] = Value(bit(COMPARE[m["how"]](x.bits, y.bits)), poison)

    def select(self, _block, _here, m):
        MET.add("select")
        c = self.value(1, m["c"])
        x, y = self.value(int(m["width"]), m["x"]), self.value(int(m["width"]), m["y"])
        chosen = c.bits == 1
        poison = z3.simplify(z3.Or(c.poison, z3.If(chosen, x.poison, y.poison)))
        self.values[m["to"]] = Value(z3.If(chosen, x.bits, y.bits), poison)

    def resize(self, _block, _here, m):
        MET.add(m["op"])
        old, new = int(m["old"]), int(m["new"])
        x, flags = self.value(old, m["x"]), set(m["flags"].split())
        allowed = {"trunc": {"nuw", "nsw"}, "zext": {"nneg"}, "sext": set()}[m["op"]]
        if not flags <= allowed or (new >= old) == (m["op"] == "trunc"):
            raise NotTranslated(f"{self.function.name}: {m[0]}")
        broken = []
        if m["op"] == "trunc":
            bits = z3.Extract(new - 1, 0, x.bits)
            if "nuw" in flags:
                broken.append(z3.ZeroExt(old - new, bits) != x.bits)
            if "nsw" in flags:
                broken.append(z3.SignExt(old - new, bits) != x.bits)
        elif m["op"] == "zext":
            bits = z3.ZeroExt(new - old, x.bits)
            if "nneg" in flags:
                broken.append(z3.Extract(old - 1, old - 1, x.bits) == 1)
        else:
            bits = z3.SignExt(new - old, x.bits)
        self.values[m["to"]] = Value(bits, z3.simplify(z3.Or([x.poison] + broken)))

    def phi(self, block, _here, m):
        MET.add("phi")
        width = int(m["width"])
        incoming = {b: v for v, b in re.findall(rf"\[ ({VALUE}), %({NAME}) \]", m["pairs"])}
        result = None
        for source, taken in self.edges[block]:
            if source not in incoming:
                raise NotTranslated(f"{self.function.name}: {m[0]}")
            value = self.value(width, incoming[source])
            result = (
                value
                if result is None
                else Value(
                    z3.If(taken, value.bits, result.bits),
                    z3.simplify(z3.If(taken, value.poison, result.poison)),
                )
            )
        self.values[m["to"]] = result

    def result(self, here, m, bits, poison):
        """Of a call: what its attributes promise of the result is poison, or a failure, where it isn't so."""
        if bounds := re.search(RANGE, m["attributes"]):
            poison = z3.Or(poison, z3.Not(within(bits, int(bounds[2]), int(bounds[3]))))
        poison = z3.simplify(poison)
        if "noundef" in m["attributes"]:
            self.fails.append(z3.And(here, poison))
        self.values[m["to"]] = Value(bits, poison)

    def extreme(self, _block, here, m):
        MET.add(m["which"])
        width = int(m["width"])
        x, y = self.value(width, m["x"]), self.value(width, m["y"])
        first = {"umin": z3.ULT, "umax": z3.UGT, "smin": COMPARE["slt"], "smax": COMPARE["sgt"]}[m["which"]]
        self.result(here, m, z3.If(first(x.bits, y.bits), x.bits, y.bits), z3.Or(x.poison, y.poison))

    def saturating(self, _block, here, m):
        MET.add(m["which"])
        width = int(m["width"])
        x, y = self.value(width, m["x"]), self.value(width, m["y"])
        if m["which"] == "uadd":
            bits = z3.If(z3.ULT(x.bits + y.bits, x.bits), z3.BitVecVal(-1, width), x.bits + y.bits)
        else:
            bits = z3.If(z3.ULT(x.bits, y.bits), z3.BitVecVal(0, width), x.bits - y.bits)
        self.result(here, m, bits, z3.Or(x.poison, y.poison))

    def panic(self, _block, here, _m):
        self.fails.append(here)

    def unreachable(self, _block, here, _m):
        self.fails.append(here)

    def jump(self, block, here, m):
        self.goto(m["target"], block, here)

    def branch(self, block, here, m):
        MET.add("br")
        c = self.value(1, m["c"])
        self.fails.append(z3.And(here, c.poison))
        self.goto(m["yes"], block, z3.And(here, c.bits == 1))
        self.goto(m["no"], block, z3.And(here, c.bits == 0))

    def switch(self, block, here, m):
        MET.add("switch")
        width = int(m["width"])
        x = self.value(width, m["x"])
        self.fails.append(z3.And(here, x.poison))
        other, targets = here, {}
        for w, constant, target in re.findall(rf"i(\d+) (-?\d+), label %({NAME})", m["cases"]):
            if int(w) != width:
                raise NotTranslated(f"{self.function.name}: {m[0]}")
            same = x.bits == z3.BitVecVal(int(constant), width)
            targets.setdefault(target, []).append(same)
            other = z3.And(other, z3.Not(same))
        # One edge for each target: a `phi` has one value for each block that leads to it.
        if m["otherwise"] in targets:
            taken = z3.Or(other, z3.And(here, z3.Or(targets.pop(m["otherwise"]))))
            self.goto(m["otherwise"], block, taken)
        else:
            self.goto(m["otherwise"], block, other)
        for target, cases in targets.items():
            self.goto(target, block, z3.And(here, z3.Or(cases)))

    def give(self, _block, here, m):
        self.returns.append((here, self.value(int(m["width"]), m["x"])))


def form(pattern, rule):
    pattern = pattern.replace("TO", rf"%(?P<to>{NAME})").replace("TYPE", r"i(?P<width>\d+)")
    for operand in "xyc":
        pattern = pattern.replace(f"<{operand}>", rf"(?P<{operand}>{VALUE})")
    return re.compile(pattern), rule


# The attribute of an operand in front of its name: `noundef` makes poison there a failure that LLVM may assume away, but it is
# written only on calls, whose results carry their operands' poison on here.
RULES = [
    form(
        rf"TO = (?P<op>{'|'.join(ARITHMETIC)}) (?P<flags>(?:(?:nuw|nsw|exact|disjoint) )*)TYPE <x>, <y>",
        Call.arithmetic,
    ),
    form(rf"TO = icmp (?P<samesign>samesign )?(?P<how>{'|'.join(COMPARE)}) TYPE <x>, <y>", Call.compare),
    form(r"TO = select i1 <c>, TYPE <x>, i(?P=width) <y>", Call.select),
    form(
        r"TO = (?P<op>trunc|zext|sext) (?P<flags>(?:(?:nuw|nsw|nneg) )*)i(?P<old>\d+) <x> to i(?P<new>\d+)",
        Call.resize,
    ),
    form(rf"TO = phi TYPE (?P<pairs>\[ {VALUE}, %{NAME} \](?:, \[ {VALUE}, %{NAME} \])*)", Call.phi),
    form(
        rf"TO = (?:tail )?call (?P<attributes>(?:noundef |{RANGE} )*)TYPE @llvm\.(?P<which>umin|umax|smin|smax)\.i\d+\(i\d+ (?:noundef )?<x>, i\d+ (?:noundef )?<y>\)",
        Call.extreme,
    ),
    form(
        rf"TO = (?:tail )?call (?P<attributes>(?:noundef |{RANGE} )*)TYPE @llvm\.(?P<which>uadd|usub)\.sat\.i\d+\(i\d+ (?:noundef )?<x>, i\d+ (?:noundef )?<y>\)",
        Call.saturating,
    ),
    form(rf"(?:tail )?call void @{NAME}9panicking{NAME}\(.*\) #\d+", Call.panic),
    form(r"unreachable", Call.unreachable),
    form(rf"br label %(?P<target>{NAME})", Call.jump),
    form(rf"br i1 <c>, label %(?P<yes>{NAME}), label %(?P<no>{NAME})", Call.branch),
    form(
        rf"switch TYPE <x>, label %(?P<otherwise>{NAME}) \[(?P<cases>(?: i\d+ -?\d+, label %{NAME})+) ?\]",
        Call.switch,
    ),
    form(r"ret TYPE <x>", Call.give),
]


def call(module, name, *arguments):
    """What the compiled function `name` gives for these arguments, as formulas."""
    return Call(module, module.get(name), list(arguments)).run()

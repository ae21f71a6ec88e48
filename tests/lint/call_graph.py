"""The call graph of a shared library, read from its machine code: who can reach which function of another library.

Source code does not tell: calls are inlined, functions of libc are put in by the compiler, tail calls are jumps. So
this reads what the linker made: direct calls and jumps, calls through the GOT (`call *x(%rip)`) by their relocations,
through the PLT, and through tables of function pointers by the name of the table. A transfer by register is a switch,
recognised by its table, or has no name: then its function is listed as `unnamed`, and whoever asks has to account for
it. Functions whose address is taken are listed for the same reason.

  python3 tests/lint/call_graph.py LIBRARY [ROOT...]     prints what the roots (all exported functions) reach

x86-64 and GNU binutils only. Must not: know tidemark's functions; call_graph_test.py does.
"""
import re
import subprocess
import sys
from dataclasses import dataclass, field

CALL = re.compile(r"^(?:notrack |bnd |addr32 |data16 )*(call|jmp|j[a-z]+|loop\w*)q? +(.*)$")
DIRECT = re.compile(r"^(?:0x)?([0-9a-f]+) <")
SLOT = re.compile(r"^\*(?:0x)?-?[0-9a-f]+\(%rip\) +# ([0-9a-f]+)(?: <(.*)>)?$")
ADDRESS = re.compile(r"^lea +.*\(%rip\),.*# ([0-9a-f]+)")
LOAD = re.compile(r"^(?:mov|cmp)q? +.*\(%rip\).*# ([0-9a-f]+)")
TABLE_LOAD = re.compile(r"^movslq \(%\w+,%\w+,4\),")
WRITES = re.compile(r"^(?:mov[a-z]*|xor|or|lea|sub|add|and)\b")
LOW_HALF = {"rax": "eax", "rbx": "ebx", "rcx": "ecx", "rdx": "edx", "rsi": "esi", "rdi": "edi", "rbp": "ebp",
            **{f"r{n}": f"r{n}d" for n in range(8, 16)}}
CLOBBERED_BY = {"syscall": {"rax", "rcx", "r11"},
                "call": {"rax", "rcx", "rdx", "rsi", "rdi", "r8", "r9", "r10", "r11"}}
PUSH = re.compile(r"^push\b")
GROWS = re.compile(r"^(?:sub +\$(0x[0-9a-f]+)|add +\$(-0x[0-9a-f]+|0xffffffffffffff[0-9a-f]{2})),%rsp")
LEA_GROWS = re.compile(r"^lea +-(0x[0-9a-f]+)\(%rsp\),%rsp")


@dataclass
class Function:
    address: int
    name: str
    end: int = 0
    callees: set = field(default_factory=set)     # addresses of functions of this library
    externals: set = field(default_factory=set)   # names of functions of other libraries
    tables: set = field(default_factory=set)      # names of tables that it calls through
    unnamed: list = field(default_factory=list)   # transfers by register that are no switch: their addresses
    is_stub: bool = False                         # of the procedure linkage table
    system_calls: set = field(default_factory=set)  # numbers; None: not told by an instruction before
    frame_bytes: int = 8                          # of stack, at most, the return address included
    frame_known: bool = True


def short_name(name):
    """tidemark::(anonymous namespace)::Walker::Finish(unsigned int) [clone .cold] -> Walker::Finish"""
    name = name.replace("(anonymous namespace)::", "").replace("tidemark::", "")
    name = re.sub(r"\{lambda\(.*?\)#\d+\}", "lambda", name)
    return re.sub(r"[@( ].*$", "", name)


def output_of(*command):
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


class CallGraph:
    def __init__(self, library):
        self.library = str(library)
        self.functions = {}  # by address
        self.sections = self.read_sections()
        self.function_names = {  # of other libraries
            line.split()[-1].split("@")[0] for line in
            re.sub(r" \(\d+\)$", "", output_of("readelf", "-W", "--dyn-syms", self.library), flags=re.M).splitlines()
            if re.search(r" FUNC .* UND ", line)}
        self.relocations = self.read_relocations()
        self.taken = {}  # address of a function -> where its address is taken (names of functions, or "data")
        self.starters = set()  # addresses of functions in .init_array and .fini_array
        self.read_code()
        self.read_pointers()
        self.exports = {}
        for line in output_of("nm", "-D", "--defined-only", self.library).splitlines():
            address, kind, name = line.split()
            if kind in "TtWi":
                self.exports[name.split("@")[0]] = int(address, 16)

    # --- Reading ------------------------------------------------------------------------------------------------------

    def read_sections(self):
        """name -> (first address, address after the last)"""
        found = {}
        for line in output_of("readelf", "-SW", self.library).splitlines():
            match = re.match(r"^ *\[ *\d+\] (\S+) +\S+ +([0-9a-f]+) [0-9a-f]+ ([0-9a-f]+)", line)
            if match:
                found[match[1]] = (int(match[2], 16), int(match[2], 16) + int(match[3], 16))
        return found

    def inside(self, address, *names):
        return any(self.sections[name][0] <= address < self.sections[name][1] for name in names
                   if name in self.sections)

    def read_relocations(self):
        """address of the word -> name of the symbol, or the address of what is in this library"""
        found = {}
        for line in output_of("readelf", "-rW", self.library).splitlines():
            match = re.match(r"^([0-9a-f]{16}) +[0-9a-f]{16} (R_X86_64_\w+) +(.*)$", line)
            if not match:
                continue
            address, kind, rest = int(match[1], 16), match[2], match[3].split()
            if kind in ("R_X86_64_RELATIVE", "R_X86_64_IRELATIVE"):
                found[address] = int(rest[0], 16)
            elif len(rest) > 1:
                value = int(rest[0], 16)
                found[address] = value if value else rest[1].split("@")[0]
        return found

    def read_code(self):
        text = output_of("objdump", "-d", "-w", "-C", "--no-show-raw-insn", self.library)
        bodies = []
        for line in text.splitlines():
            head = re.match(r"^([0-9a-f]+) <(.*)>:$", line)
            if head:
                address = int(head[1], 16)
                stub = self.inside(address, ".plt", ".plt.got", ".plt.sec")
                bodies.append((Function(address, short_name(head[2]), is_stub=stub), []))
            elif bodies and (match := re.match(r"^ *([0-9a-f]+):\t(.*)$", line)):
                bodies[-1][1].append((int(match[1], 16), match[2].strip()))
        for function, body in bodies:
            function.end = body[-1][0] + 1 if body else function.address + 1
            self.functions[function.address] = function
        self.order = sorted(self.functions)
        for function, body in bodies:
            self.read_body(function, body)
        self.resolve_stubs()

    def function_at(self, address):
        """The function that `address` lies in, or None."""
        low, high = 0, len(self.order)
        while low < high:
            middle = (low + high) // 2
            if self.order[middle] <= address:
                low = middle + 1
            else:
                high = middle
        function = self.functions[self.order[low - 1]] if low else None
        return function if function and address < function.end else None

    def read_body(self, function, body):
        for i, (_, text) in enumerate(body):
            before = [earlier for _, earlier in body[max(0, i - 16):i]]
            if text.startswith("syscall"):
                function.system_calls |= numbers_at(body, i) or {None}
            elif match := ADDRESS.match(text):
                target = int(match[1], 16)
                if target in self.functions:
                    self.taken.setdefault(target, set()).add(function.name)
            elif match := LOAD.match(text):
                self.read_load(function, int(match[1], 16))
            elif match := CALL.match(text):
                self.read_transfer(function, body[i][0], match[2], before)
            self.read_frame(function, text)

    def read_load(self, function, slot):
        """A function's address out of the GOT: it will be called by register, or given to somebody."""
        where = self.relocations.get(slot)
        if where in self.function_names:
            function.externals.add(where)
        elif where in self.functions and self.inside(slot, ".got", ".got.plt"):
            self.taken.setdefault(where, set()).add(function.name)

    def read_transfer(self, function, at, target, before):
        if match := DIRECT.match(target):
            if function.is_stub:
                return  # to the loader's resolver
            callee = self.function_at(int(match[1], 16))
            if callee is not None and callee is not function:
                function.callees.add(callee.address)
        elif match := SLOT.match(target):
            slot = int(match[1], 16)
            where = self.relocations.get(slot)
            if isinstance(where, str):
                function.externals.add(where)
            elif where in self.functions and self.inside(slot, ".got", ".got.plt"):
                function.callees.add(where)
            else:
                function.tables.add(re.sub(r"\+0x[0-9a-f]+$", "", short_name(match[2] or hex(slot))))
        elif not function.is_stub and not any(TABLE_LOAD.match(text) for text in before):
            function.unnamed.append(at)

    @staticmethod
    def read_frame(function, text):
        if PUSH.match(text):
            function.frame_bytes += 8
        elif match := GROWS.match(text):
            size = int(match[1], 16) if match[1] else -int(match[2], 16) & (1 << 64) - 1
            function.frame_bytes += size if size < 1 << 32 else (1 << 64) - size
        elif match := LEA_GROWS.match(text):
            function.frame_bytes += int(match[1], 16)
        elif re.match(r"^(sub|and) .*%r[a-z0-9]+,%rsp", text):
            function.frame_known = False

    def resolve_stubs(self):
        """A function of the procedure linkage table is the function that it jumps to."""
        for function in self.functions.values():
            stubs = {callee for callee in function.callees if self.functions[callee].is_stub}
            function.callees -= stubs
            for stub in stubs:
                function.externals |= self.functions[stub].externals
                function.callees |= self.functions[stub].callees

    def read_pointers(self):
        for slot, where in self.relocations.items():
            if isinstance(where, int) and where in self.functions:
                if self.inside(slot, ".init_array", ".fini_array"):
                    self.starters.add(where)
                elif not self.inside(slot, ".got", ".got.plt"):
                    self.taken.setdefault(where, set()).add("data")

    # --- Asking -------------------------------------------------------------------------------------------------------

    def named(self, name):
        return {address for address, function in self.functions.items() if function.name == name}

    def reach(self, roots, without=()):
        """{address: address of the one that it was reached from, None for a root}; does not go into `without`."""
        found = {root: None for root in sorted(roots) if root not in without}
        queue = list(found)
        for address in queue:
            for callee in sorted(self.functions[address].callees):
                if callee not in found and callee not in without:
                    found[callee] = address
                    queue.append(callee)
        return found

    def chain(self, reached, address, last=None):
        """ROOT -> ... -> function [-> last], as text."""
        names = [last] if last else []
        while address is not None:
            names.append(self.functions[address].name)
            address = reached[address]
        return " -> ".join(reversed(names))

    def chains_to_externals(self, reached):
        """{name of an external: a chain that ends there}"""
        chains = {}
        for address in reached:
            for name in sorted(self.functions[address].externals):
                chains.setdefault(name, self.chain(reached, address, name))
        return chains

    def of_all(self, reached, attribute):
        return set().union(*(getattr(self.functions[address], attribute) for address in reached))

    def deepest(self, root, without=()):
        """(bytes of stack, names) of the path from `root` that takes most; calls out of the library not counted."""
        known = {}

        def visit(address, above):
            if address in above:
                raise ValueError("recursion: " + " -> ".join(self.functions[a].name for a in (*above, address)))
            if address not in known:
                function = self.functions[address]
                if not function.frame_known:
                    raise ValueError(f"{function.name}: a stack frame of a size that its code does not tell")
                below = [visit(callee, (*above, address)) for callee in function.callees if callee not in without]
                deepest = max(below, default=(0, ()))
                known[address] = (function.frame_bytes + deepest[0], (function.name, *deepest[1]))
            return known[address]
        return visit(root, ())


def numbers_at(body, index, register="rax", seen=None):
    """What `register` may hold before instruction `index`, as far as constants go; None among them: something else.
    Ways that were `seen` before add nothing."""
    seen = set() if seen is None else seen
    low = LOW_HALF[register]
    for i in range(index - 1, -1, -1):
        text = body[i][1]
        if re.match(r"^(?:ret|jmp\b|addr32 jmp|ud2|hlt)", text):
            return numbers_of_jumps(body, i + 1, index, register, seen)
        if any(text.startswith(name) and register in lost for name, lost in CLOBBERED_BY.items()):
            return {None}
        if not re.search(rf"%(?:{register}|{low})(?: |$)", text) or not WRITES.match(text):
            continue  # a pop belongs to a return that stands in between
        if match := re.match(rf"^mov +\$0x([0-9a-f]+),%(?:{register}|{low})", text):
            return {int(match[1], 16)}
        if match := re.match(rf"^mov +%(\w+),%(?:{register}|{low})", text):
            full = next((name for name, half in LOW_HALF.items() if match[1] in (name, half)), None)
            return numbers_at(body, i, full, seen) if full else {None}
        return {0} if re.match(rf"^xor +%{low},%{low}", text) else {None}
    return {None}


def numbers_of_jumps(body, begin, end, register, seen):
    """The same in a piece of code that nothing falls into: by the jumps to instructions begin..end."""
    targets = {address for address, _ in body[begin:end + 1]}
    found = set()
    for i, (address, text) in enumerate(body):
        match = CALL.match(text)
        direct = match and match[1] != "call" and DIRECT.match(match[2])
        if direct and int(direct[1], 16) in targets and not begin <= i < end and (i, register) not in seen:
            seen.add((i, register))
            found |= numbers_at(body, i, register, seen)
    return found


def main(arguments):
    graph = CallGraph(arguments[0])
    roots = [graph.exports[name] for name in arguments[1:]] if arguments[1:] else graph.exports.values()
    reached = graph.reach(roots)
    for name, chain in sorted(graph.chains_to_externals(reached).items()):
        print(f"{name}: {chain}")
    print("through tables:", ", ".join(sorted(graph.of_all(reached, "tables"))))
    print("by register:", ", ".join(sorted(graph.functions[a].name for a in reached if graph.functions[a].unnamed)))
    print("address taken:", {graph.functions[a].name: sorted(where) for a, where in graph.taken.items()})
    print("starters:", sorted(graph.functions[a].name for a in graph.starters))
    numbers = {a: graph.functions[a].system_calls for a in reached if graph.functions[a].system_calls}
    print("system calls:", {graph.functions[a].name: n for a, n in numbers.items()})
    for root in sorted(roots):
        print(f"{graph.functions[root].name}: {graph.deepest(root)}")


if __name__ == "__main__":
    main(sys.argv[1:])

"""Compilers, linkers, build tools and a debugger are the same under tidemark, and so is what they produce.

One row a program; neutral_workload.py says what is compared. Must not: fetch anything, or use a cache of the machine.
"""
import glob
import os
import shutil
import subprocess
import unittest

from neutral_workload import Workload, test_class

C = """#include <math.h>
#include <stdio.h>
""" + "".join(f"double f{i}(double x) {{ return sin(x) * {i} + f{i - 1}(x); }}\n" if i else
              "double f0(double x) { return x; }\n" for i in range(60)) + """
int g(int n) { return n < 2 ? n : g(n - 1) + g(n - 2); }
int main(void) { printf("%f %d\\n", f59(0.5), g(12)); int unused; return 0; }
"""
CXX = """#include <algorithm>
#include <iostream>
#include <map>
#include <string>
#include <vector>
template <typename T> T Twice(T t) { return t + t; }
int main() {
  std::map<std::string, std::vector<int>> m;
  for (int i = 0; i < 50; i++) m[Twice(std::to_string(i % 7))].push_back(i);
  for (auto& [k, v] : m) { std::sort(v.rbegin(), v.rend()); std::cout << k << ' ' << v.size() << '\\n'; }
}
"""
JAVA = """import java.util.*;
import java.util.stream.*;
public class Main {
  record Pair(int a, String b) {}
  public static void main(String[] args) throws Exception {
    List<Pair> pairs = IntStream.range(0, 20000).mapToObj(i -> new Pair(i, "x".repeat(i % 30))).toList();
    Map<Integer, Integer> sums = pairs.parallelStream().collect(
        Collectors.groupingBy(p -> p.a() % 5, Collectors.summingInt(p -> p.b().length())));
    System.out.println(new TreeMap<>(sums));
    Thread[] threads = new Thread[4];
    for (int i = 0; i < 4; i++) { threads[i] = new Thread(() -> new ArrayList<>(pairs).sort((p, q) -> q.a() - p.a()));
      threads[i].start(); }
    for (Thread t : threads) t.join();
    Process p = new ProcessBuilder("echo", "from a child").inheritIO().start();
    p.waitFor(); System.gc(); System.exit(4);
  }
}
"""
RUST = """use std::collections::BTreeMap;
fn main() {
    let mut m: BTreeMap<String, Vec<usize>> = BTreeMap::new();
    for i in 0..500 { m.entry(format!("{}", i % 7)).or_default().push(i); }
    for (k, v) in &m { println!("{k} {}", v.iter().sum::<usize>()); }
}
"""
GO = "package main\nimport \"fmt\"\nfunc main() {\n fmt.Println( 1)\n}\n"
MAKEFILE = """objects := $(patsubst %.c,%.o,$(wildcard part*.c))
program: $(objects)
\t$(CC) -o $@ main.c $^
%.o: %.c
\t@$(CC) -O1 -c $< -o $@
count: ; @for i in 1 2 3 4 5 6 7 8 9 10; do echo $$i > c$$i; done; cat c* | sort -n | tail -n 1
fails: ; @echo it fails; exit 3
"""
CMAKE = """cmake_minimum_required(VERSION 3.13)
project(neutral C)
include(CheckFunctionExists)
check_function_exists(mallinfo2 HAVE_MALLINFO2)
configure_file(config.h.in config.h)
add_library(parts STATIC part0.c part1.c)
add_executable(program main.c)
target_link_libraries(program parts)
"""
NINJA = """rule cc
  command = gcc -MD -MF $out.d -O1 -c $in -o $out
  depfile = $out.d
  deps = gcc
rule link
  command = gcc -o $out $in
rule count
  command = echo $out | md5sum > $out
""" + "".join(f"build part{i}.o: cc part{i}.c\n" for i in range(3)) + "build program: link main.o part0.o part1.o " \
    "part2.o\nbuild main.o: cc main.c\n" + "".join(f"build count{i}: count\n" for i in range(30))
PARTS = {f"part{i}.c": f"int part{i}(int x) {{ return x * {i} + 1; }}\n" for i in range(3)} | {
    "main.c": "#include <stdio.h>\nint main(void) { puts(\"made\"); return 0; }\n"}
GDB = ["-nx", "-batch", "-ex", "break g if n == 3", "-ex", "run", "-ex", "bt 4", "-ex", "print n * 14", "-ex",
       "finish", "-ex", "ptype main", "-ex", "delete", "-ex", "continue", "-ex", "info line main"]
TEMPORARY = (rb"/cc\w{6}\.", b"/ccNAME.", "the driver's temporary files have random names")


def real_rustc():
    """rustc itself: what stands in PATH may be rustup's, which asks its own settings which rustc is meant."""
    if shutil.which("rustc") is None:
        return "rustc"
    done = subprocess.run(["rustc", "--print", "sysroot"], capture_output=True, text=True)
    return os.path.join(done.stdout.strip(), "bin", "rustc") if done.returncode == 0 else "rustc"


def linker(program, package):
    """A linker by itself: objects to a shared library, with a map of all that it did, and an error."""
    return Workload(["sh", "-c", f"{program} -shared --build-id=sha1 -Map=out.map -o out.so a.o b.o; "
                     f"{program} -r -o both.o a.o b.o; {program} -o out a.o nothing.o"],
                    {program: package}, files={"a.c": C, "b.c": C.replace("main", "other").replace(" f", " h")},
                    prepare=[["gcc", "-g", "-fPIC", "-O1", "-c", "a.c"], ["gcc", "-g", "-fPIC", "-O1", "-c", "b.c"]],
                    status=1, least_traces=4)


JDK = next(iter(sorted(glob.glob("/usr/lib/jvm/java-17-openjdk-*/bin"))), "/usr/lib/jvm/java-17-openjdk/bin")
GO_ALONE = {".config/go/telemetry/mode": "off\n"}  # or it leaves a process behind that writes counters
GO_FOLDERS = (r"^\.(config|cache)(/|$)", "what go keeps for itself: a cache and counters, with times")
# The thread that ends the process is the one of many that gets there first, and the record is named after it.
JAVA_THREADS = (r"^(exit|_exit) .*: status (Threads|SigPnd|ShdPnd)", "a virtual machine leaves while its threads run")

WORKLOADS = {
    "gcc": Workload(["gcc", "-O2", "-g", "-Wall", "-c", "a.c"], {"gcc": "gcc"}, {"a.c": C}, least_traces=3,
                    bare=True),
    "gcc_link": Workload(["sh", "-c", "gcc -O1 -v a.c -lm -o out && ./out"], {"gcc": "gcc"}, {"a.c": C},
                         says=b"144", least_traces=6, normalise=(TEMPORARY,)),
    "gcc_error": Workload(["gcc", "-c", "a.c"], {"gcc": "gcc"}, {"a.c": "int main(void) { return undefined; }\n"},
                          status=1, least_traces=2, normalise=(TEMPORARY,)),
    "g++": Workload(["sh", "-c", "g++ -std=c++20 -O1 -g a.cc -o out && ./out"], {"g++": "g++"}, {"a.cc": CXX},
                    says=b"00 8", least_traces=6),
    "clang": Workload(["sh", "-c", "clang -O2 -g -Wall -c a.c -o a.o; clang -c bad.c -fno-color-diagnostics"],
                      {"clang": "clang"}, {"a.c": C, "bad.c": "int main(void) { return undefined; }\n"}, status=1,
                      least_traces=3),
    "ld_bfd": linker("ld.bfd", "binutils"),
    "ld_gold": linker("ld.gold", "binutils"),
    "ld_lld": linker("ld.lld", "lld"),
    "binutils": Workload(["sh", "-c", "objdump -d a.o | md5sum; readelf -aW a.o | md5sum; nm -S a.o | tail -n 2; "
                          "strip -o b.o a.o; ar rcsD lib.a a.o b.o; ar t lib.a; addr2line -fe a.o 0x10; "
                          "c++filt _ZNSt6vectorIiE4sizeEv; objcopy --only-keep-debug a.o a.debug; nm nothing"],
                         {"objdump": "binutils"}, {"a.c": C}, prepare=[["gcc", "-g", "-O1", "-c", "a.c"]], status=1,
                         says=b"std::vector", least_traces=11),
    "make": Workload(["sh", "-c", "make -s -j4 program && ./program && make count && make fails"],
                     {"make": "make"}, {"Makefile": MAKEFILE, **PARTS}, status=2, says=b"made", least_traces=20),
    "cmake": Workload(["sh", "-c", "cmake -S . -B out && make -s -C out && out/program"], {"cmake": "cmake"},
                      {"CMakeLists.txt": CMAKE, "config.h.in": "#cmakedefine HAVE_MALLINFO2\n", **PARTS},
                      says=b"Looking for mallinfo2 - found", least_traces=60,
                      files_unlike=((r"^out/CMakeFiles/.*(\.log|\.yaml)$", "names of scratch targets are random"),
                                    (r"^out/CMakeFiles/3.*/CompilerIdC/|/\w+\.bin$", "as above")),
                      facts_unlike=((r"/CMakeScratch/", "a folder with a random name"),
                                    (r"^main (cc1|as|collect2|ld): environment", "gcc's options, with such a name"))),
    "ninja": Workload(["sh", "-c", "ninja -j3 --quiet && ./program && cat count7 && ninja -t deps main.o && "
                       "ninja nothing"], {"ninja": "ninja-build"}, {"build.ninja": NINJA, **PARTS}, status=1,
                      says=b"made", least_traces=60,
                      normalise=((rb"mtime \d+", b"mtime", "the time of the run"),),
                      files_unlike=((r"^\.ninja_(log|deps)$", "times, and the order of what ran in parallel"),),
                      facts_unlike=((r"/\.ninja_(log|deps) ", "opened while jobs have pipes open"),)),
    "rustc": Workload([real_rustc(), "-O", "-g", "main.rs", "--error-format=short"], {"rustc": "rustc"},
                      {"main.rs": RUST}, says_unprofiled=b"brings its own malloc", bypassed="rustc",
                      facts_unlike=((r"^main (collect2|.*lld): environment", "the folder of the linker's inputs"),)),
    "go": Workload(["sh", "-c", "cd m; gofmt -d main.go; go env GOOS; go list -f '{{.Name}} {{len .Imports}}' . ; "
                    "go vet x"], {"go": "golang-go"}, {"m/main.go": GO, "m/go.mod": "module neutral\n", **GO_ALONE},
                   status=1, says=b"main 1", files_unlike=(GO_FOLDERS,)),
    "go_itself": Workload(["go", "env", "GOOS"], {"go": "golang-go"}, GO_ALONE, says=b"linux",
                          files_unlike=(GO_FOLDERS,), says_unprofiled=b"static"),
    "javac_and_java": Workload(
        # A thread of the machine's own reads files of the control group now and then, unless told not to.
        ["sh", "-c", f"{JDK}/javac -J-XX:-UsePerfData -J-XX:-UseContainerSupport Main.java && "
         f"{JDK}/java -XX:-UsePerfData -XX:-UseContainerSupport -cp . Main"],
        {f"{JDK}/javac": "openjdk-17-jdk-headless"}, {"Main.java": JAVA}, status=4, says=b"from a child",
        least_traces=3, facts_unlike=(JAVA_THREADS,)),
    "gdb": Workload(["gdb", *GDB, "./program"], {"gdb": "gdb"}, {"a.c": C}, least_traces=2, says=b"$1 = 42",
                    prepare=[["gcc", "-g", "-O0", "-no-pie", "a.c", "-o", "program", "-lm"]],
                    normalise=((rb"\(process \d+\)", b"(process N)", "a process id"),)),
    "valgrind": Workload(["valgrind", "-q", "ls", "/usr/include/linux"], {"valgrind": "valgrind"},
                         normalise=((rb"==\d+==", b"==", "process ids"),),
                         facts_unlike=((r"/valgrind_proc_|/vgdb-pipe", "names with random numbers"),)),
}

Build = test_class("Build", WORKLOADS, "Compilers, linkers, build tools, debuggers.")

if __name__ == "__main__":
    unittest.main()

"""Compiles the programs that symbolizer_test looks addresses up in, one per way debug information can be stored.

Called by meson: build_programs.py SOURCE_DIR OUTPUT_DIR. A program whose compiler or tool is not installed is left out;
MISSING in the output directory says which and why, and the tests of those programs skip with that text. Any tool that
is installed and fails is an error. Must not: look outside the two directories.
"""
import lzma
import os
import shutil
import subprocess
import sys

source, output = map(os.path.abspath, sys.argv[1:3])
missing = []


def at(name):
    return os.path.join(output, name)


def run(*command):
    subprocess.run(command, check=True, cwd=output)


def have(name, *tools):
    absent = [tool for tool in tools if shutil.which(tool) is None]
    if absent:
        missing.append(f"{name}: {', '.join(absent)} is not installed")
    return not absent


def compile_layers(name, *flags, compiler="g++"):
    run(compiler, "-std=c++17", "-O2", "-o", at(name), os.path.join(source, "layers.cc"), "-Wl,--build-id=sha1", *flags)


def split_debug(name, stripped, debug):
    run("objcopy", "--only-keep-debug", at(name), at(debug))
    run("strip", "-o", at(stripped), at(name))


def build_gcc():
    compile_layers("gcc", "-g")
    compile_layers("gcc-dwarf4", "-gdwarf-4")
    compile_layers("gcc-dwarf5", "-gdwarf-5")
    compile_layers("gcc-no-build-id", "-g", "-Wl,--build-id=none")
    compile_layers("gcc-gc-sections", "-g", "-ffunction-sections", "-Wl,--gc-sections")
    compile_layers("gcc-zlib", "-g", "-gz=zlib")
    compile_layers("gcc-no-debug")
    run("gcc", "-O2", "-g", "-o", at("nested"), os.path.join(source, "nested.c"))


def build_zstd():
    accepted = subprocess.run(["ld", "--help"], capture_output=True, text=True, check=True).stdout
    if "zlib-gabi|zstd" not in accepted:
        missing.append("gcc-zstd: this linker does not compress debug sections with zstd")
        return
    compile_layers("gcc-zstd", "-g", "-Wl,--compress-debug-sections=zstd")


def build_separate():
    split_debug("gcc", "debuglink", "debuglink.debug")
    run("objcopy", f"--add-gnu-debuglink={at('debuglink.debug')}", at("debuglink"))
    split_debug("gcc-no-build-id", "debuglink-crc", "debuglink-crc.debug")
    run("objcopy", f"--add-gnu-debuglink={at('debuglink-crc.debug')}", at("debuglink-crc"))
    split_debug("gcc-dwarf5", "by-build-id", "by-build-id.debug")
    run("strip", "-o", at("stripped"), at("gcc-dwarf4"))


def build_library():
    run("g++", "-O2", "-shared", "-fPIC", "-o", at("libsymtab.so"), os.path.join(source, "exported.cc"))
    run("strip", "-o", at("libdynsym.so"), at("libsymtab.so"))
    run("objcopy", "--strip-debug", at("libsymtab.so"), at("minidebug.elf"))
    with open(at("minidebug.elf"), "rb") as plain, open(at("minidebug.xz"), "wb") as packed:
        packed.write(lzma.compress(plain.read()))
    shutil.copy(at("libdynsym.so"), at("libminidebug.so"))
    run("objcopy", f"--add-section=.gnu_debugdata={at('minidebug.xz')}", at("libminidebug.so"))


def build_split():
    # An absolute compilation directory: the .dwo is found from wherever the test runs.
    folder = at("split-dwarf")
    os.makedirs(folder, exist_ok=True)
    # GNU dwp of binutils 2.40 packs DWARF 4 only.
    for name, version in (("split", "-gdwarf-5"), ("packaged", "-gdwarf-4")):
        subprocess.run(["g++", "-std=c++17", "-O2", version, "-gsplit-dwarf", "-c", "-o", f"{name}.o",
                        os.path.join(source, "layers.cc")], check=True, cwd=folder)
        run("g++", "-o", at(name), os.path.join(folder, f"{name}.o"))
    if have("packaged", "dwp"):
        subprocess.run(["dwp", "-e", at("packaged"), "-o", at("packaged.dwp")], check=True, cwd=folder)
        shutil.copy(at("packaged"), at("unpackaged"))
        os.remove(os.path.join(folder, "packaged.dwo"))


def build_others():
    if have("clang", "clang++"):
        compile_layers("clang", "-g", compiler="clang++")
        compile_layers("clang-dwarf4", "-gdwarf-4", compiler="clang++")
    if have("dwz", "dwz"):
        shutil.copy(at("gcc-dwarf4"), at("dwz"))
        shutil.copy(at("gcc-gc-sections"), at("dwz-other"))
        run("dwz", "-m", at("dwz.alternate"), "-r", at("dwz"), at("dwz-other"))
    if have("rust", "rustc"):
        run("rustc", "-g", "-O", "-o", at("rust"), os.path.join(source, "oxide.rs"))


shutil.rmtree(output, ignore_errors=True)
os.makedirs(output)
build_gcc()
build_zstd()
build_separate()
build_library()
build_split()
build_others()
with open(at("MISSING"), "w", encoding="utf-8") as report:
    report.writelines(line + "\n" for line in missing)

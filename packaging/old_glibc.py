#!/usr/bin/env python3
"""Makes link-time stand-ins for an old glibc out of the one that is installed.

A program asks for the versions of symbols that it was linked against, so a program that is linked
on Debian 12 does not start where glibc is older. glibc keeps all old versions of its symbols,
however. This script reads the symbol tables of the installed libraries and writes libraries that
hold the same symbols in the newest version that is not above a limit. The stand-ins contain no
code. They are what the linker sees; the program runs with the real libraries of its machine.

usage: old_glibc.py --limit 2.28 --out DIR [--root SYSROOT/lib/TRIPLET] [--cc COMPILER]
Writes DIR/libc.so, which stands for all of glibc, and DIR/libm.so, libpthread.so, libdl.so, librt.so.
"""
import argparse
import collections
import pathlib
import re
import subprocess
import sys

# Since glibc 2.34, libc.so.6 holds what these libraries held before. A program that runs with older
# ones must name them, so their symbols go back to where they were.
MOVED = [
    ("libdl", re.compile(r"dl(open|close|sym|vsym|addr1?|error|info|mopen)$")),
    ("libpthread", re.compile(r"(__)?(pthread|sem)_")),
    ("librt", re.compile(r"(timer|mq|aio|lio|shm)_|clock_nanosleep$")),
]
SONAMES = {"libc": "libc.so.6", "libm": "libm.so.6", "libpthread": "libpthread.so.0",
           "libdl": "libdl.so.2", "librt": "librt.so.1"}
Symbol = collections.namedtuple("Symbol", "version kind size address weak")
LOADERS = ["ld-linux-x86-64.so.2", "ld-linux-aarch64.so.1"]


def version_key(name):
    """(2, 28) for "GLIBC_2.28"; None for what no program may ask for, such as GLIBC_PRIVATE."""
    match = re.fullmatch(r"GLIBC_(\d+(?:\.\d+)*)", name)
    return tuple(int(part) for part in match.group(1).split(".")) if match else None


def dynamic_symbols(library):
    """Yields (name, version, Symbol) for all symbols that `library` defines."""
    table = subprocess.run(["readelf", "-W", "--dyn-syms", library], check=True, text=True,
                           stdout=subprocess.PIPE).stdout
    for line in table.splitlines():
        fields = line.split()
        if len(fields) < 8 or not fields[0].endswith(":") or fields[6] in ("UND", "ABS", "Ndx"):
            continue
        name, at, version = fields[7].partition("@")
        if at:
            yield name, version.lstrip("@"), Symbol(version.lstrip("@"), fields[3], int(fields[2], 0),
                                                    int(fields[1], 16), fields[4] == "WEAK")


def choose(library, limit):
    """{name: (Symbol, whether a newer one exists)}: the newest of each symbol up to `limit`."""
    chosen, newest = {}, {}
    for name, version, symbol in dynamic_symbols(library):
        key = version_key(version)
        if key is None or symbol.kind not in ("FUNC", "IFUNC", "OBJECT", "TLS", "NOTYPE"):
            continue
        newest[name] = max(newest.get(name, key), key)
        if key <= limit and (name not in chosen or version_key(chosen[name].version) < key):
            chosen[name] = symbol
    return {name: (symbol, newest[name] > limit) for name, symbol in chosen.items()}


def write_library(out, cc, file_name, soname, symbols):
    """Links out/file_name, a library without code that defines `symbols`."""
    lines, variables = [".text"], {}
    for index, (name, symbol) in enumerate(sorted(symbols.items())):
        label = f"stand_in_{index}"
        lines += [f".{'weak' if symbol.weak else 'globl'} {label}",
                  f".symver {label}, {name}@@{symbol.version}, remove"]
        if symbol.kind in ("FUNC", "IFUNC"):
            lines += [f".type {label}, %function", f"{label}: .byte 0"]
        else:
            variables.setdefault((symbol.kind, symbol.address), []).append((label, symbol.size))
    # Names of one variable stay names of one variable: a program may have a copy of `environ`, and
    # the linker then has to see that `__environ` is the same.
    for (kind, _), names in variables.items():
        lines.append('.section .tbss,"awT",%nobits' if kind == "TLS" else '.section .bss,"aw",%nobits')
        lines.append(".balign 32")
        for label, size in names:
            lines += [f".type {label}, %{'tls_object' if kind == 'TLS' else 'object'}",
                      f".size {label}, {size}", f"{label}:"]
        lines.append(f".zero {max(1, *(size for _, size in names))}")
    lines.append('.section .note.GNU-stack,"",%progbits')
    source, script = out / (file_name + ".s"), out / (file_name + ".map")
    source.write_text("\n".join(lines) + "\n")
    versions = sorted({symbol.version for symbol in symbols.values()}, key=version_key)
    script.write_text("".join(f"{version} {{ }};\n" for version in versions))
    subprocess.run([cc, "-shared", "-nostdlib", f"-Wl,-soname,{soname}",
                    f"-Wl,--version-script,{script}", "-o", out / file_name, source], check=True)
    source.unlink()
    script.unlink()


def library_folder(cc, root):
    if root:
        return pathlib.Path(root)
    found = subprocess.run([cc, "-print-file-name=libc.so.6"], check=True, text=True,
                           stdout=subprocess.PIPE).stdout.strip()
    if not pathlib.Path(found).is_absolute():
        sys.exit(f"old_glibc.py: {cc} finds no libc.so.6; install its development package of glibc")
    return pathlib.Path(found).resolve().parent


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--limit", required=True)
    parser.add_argument("--out", required=True, type=pathlib.Path)
    parser.add_argument("--root")
    parser.add_argument("--cc", default="gcc")
    options = parser.parse_args()
    limit = version_key("GLIBC_" + options.limit)
    folder = library_folder(options.cc, options.root)
    options.out.mkdir(parents=True, exist_ok=True)

    stand_ins = {stem: {} for stem in SONAMES}
    for stem in ("libc", "libm"):
        for name, (symbol, moved) in choose(folder / SONAMES[stem], limit).items():
            home = stem
            if moved and stem == "libc":
                home = next((other for other, names in MOVED if names.match(name)), stem)
            stand_ins[home][name] = symbol
    if not stand_ins["libc"]:
        sys.exit(f"old_glibc.py: {folder} has no symbols up to glibc {options.limit}")
    for stem, symbols in stand_ins.items():
        write_library(options.out, options.cc, SONAMES[stem], SONAMES[stem], symbols)
    for loader in LOADERS:
        if (folder / loader).exists():
            symbols = {name: value[0] for name, value in choose(folder / loader, limit).items()}
            write_library(options.out, options.cc, loader, loader, symbols)

    # Every program is linked with libc.so, so it stands for all of them, as with a newer glibc.
    names = [*SONAMES.values(), *(loader for loader in LOADERS if (folder / loader).exists())]
    libc, *others = [str(options.out.resolve() / name) for name in names]
    (options.out / "libc.so").write_text(f"GROUP ( {libc} AS_NEEDED ( {' '.join(others)} ) )\n")
    for stem in ("libm", "libpthread", "libdl", "librt"):
        (options.out / (stem + ".so")).write_text(f"INPUT ( {options.out.resolve() / SONAMES[stem]} )\n")


main()

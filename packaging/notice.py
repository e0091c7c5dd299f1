#!/usr/bin/env python3
"""Writes NOTICE: what is linked into the portable program, and the licence of each part.

The licences of libraries are taken from Debian's copyright files, those of Rust crates from their
own files, and oneDNN's from its source. A licence that is not in PERMISSIVE is an error, so a new
dependency cannot bring one in unseen. glibc is not a part of the program.

usage: notice.py --cargo CARGO --onednn DIR --out FILE     (from the root of the repository)
"""
import argparse
import json
import pathlib
import re
import subprocess
import sys

# The licences that a part may have; an expression is fine if one side of each OR is.
PERMISSIVE = {"MIT", "Apache-2.0", "BSD-2-Clause", "BSD-3-Clause", "BSL-1.0", "ISC", "Zlib", "0BSD",
              "CC0-1.0", "CDLA-Permissive-2.0", "MIT-0", "Unicode-3.0", "Unicode-DFS-2016", "Unlicense",
              "Apache-2.0 WITH LLVM-exception", "OpenSSL"}
# (name, where from, licence, Debian package whose copyright file has the text, remark)
LIBRARIES = [
    ("oneDNN", "https://github.com/uxlfoundation/oneDNN", "Apache-2.0", None, ""),
    ("OpenSSL (libcrypto)", "https://www.openssl.org", "Apache-2.0", "libssl-dev", ""),
    ("libfyaml", "https://github.com/pantoniou/libfyaml", "MIT", "libfyaml-dev", ""),
    ("fmt", "https://github.com/fmtlib/fmt", "MIT", "libfmt-dev", ""),
    ("xxHash (library)", "https://xxhash.com", "BSD-2-Clause", "libxxhash-dev", ""),
    ("JSON for Modern C++", "https://github.com/nlohmann/json", "MIT", "nlohmann-json3-dev", ""),
    ("CLI11", "https://github.com/CLIUtils/CLI11", "BSD-3-Clause", "libcli11-dev", ""),
    ("Eigen", "https://eigen.tuxfamily.org", "MPL-2.0", "libeigen3-dev",
     "Headers, used unchanged. Their source is at the address above and in Debian's package eigen3."),
    ("libstdc++ and libgcc", "https://gcc.gnu.org", "GPL-3.0 WITH GCC-exception-3.1", "libstdc++-12-dev",
     "The GCC Runtime Library Exception lets programs under any licence contain them."),
    ("The Rust standard library", "https://www.rust-lang.org", "MIT OR Apache-2.0", None, ""),
]
# Not permissive, and fine as they are used; the remark in LIBRARIES says why.
ALLOWED = {"Eigen", "libstdc++ and libgcc"}


def is_permissive(expression):
    """Whether an SPDX expression (with crates' old "MIT/Apache-2.0") can be met permissively."""
    tokens = re.findall(r"\(|\)|[^()\s]+(?: WITH [^()\s]+)?", expression.replace("/", " OR "))

    def either():
        value = both()
        while tokens and tokens[0] == "OR":
            tokens.pop(0)
            value = both() or value
        return value

    def both():
        value = one()
        while tokens and tokens[0] == "AND":
            tokens.pop(0)
            value = one() and value
        return value

    def one():
        token = tokens.pop(0)
        if token != "(":
            return token in PERMISSIVE
        value = either()
        tokens.pop(0)
        return value

    return either()


def crates(cargo):
    """The packages that cargo links, by name: those reachable by normal dependencies."""
    metadata = json.loads(subprocess.run(
        [cargo, "metadata", "--format-version", "1", "--locked", "--manifest-path", "rust/Cargo.toml"],
        check=True, stdout=subprocess.PIPE).stdout)
    packages = {package["id"]: package for package in metadata["packages"]}
    linked = subprocess.run(
        [cargo, "tree", "--locked", "--manifest-path", "rust/Cargo.toml", "--edges", "normal,no-proc-macro",
         "--prefix", "none", "--format", "{p}"], check=True, text=True, stdout=subprocess.PIPE).stdout
    names = {tuple(line.split()[:2]) for line in linked.splitlines() if line.strip()}
    chosen = [package for package in packages.values()
              if (package["name"], "v" + package["version"]) in names and package["source"]]
    return sorted(chosen, key=lambda package: (package["name"], package["version"]))


def licence_files(package):
    """The texts of licences and notices that a crate brings, without those for other choices."""
    folder = pathlib.Path(package["manifest_path"]).parent
    files = sorted(file for file in folder.iterdir()
                   if re.match(r"(LICEN[CS]E|COPYING|NOTICE|UNLICENSE)", file.name, re.I) and file.is_file())
    apache_or_other = [file for file in files if not re.search("apache", file.name, re.I)]
    return apache_or_other or files


def debian_copyright(package):
    return pathlib.Path("/usr/share/doc", package, "copyright").read_text(errors="replace")


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--cargo", required=True)
    parser.add_argument("--onednn", required=True, type=pathlib.Path)
    parser.add_argument("--out", required=True, type=pathlib.Path)
    options = parser.parse_args()

    packages = crates(options.cargo)
    refused = [f"{package['name']} {package['version']}: {package['license'] or 'no licence named'}"
               for package in packages if not is_permissive(package["license"] or "")]
    refused += [f"{name}: {licence}" for name, _, licence, _, _ in LIBRARIES
                if name not in ALLOWED and not is_permissive(licence)]
    if refused:
        sys.exit("notice.py: these parts are not under a permissive licence:\n  " + "\n  ".join(refused))

    out = ["The program lewis contains these works of others. glibc is not among them: lewis uses the one",
           "of the system.", ""]
    out += [f"  {name}: {licence}. {where}" + (f"\n    {remark}" if remark else "")
            for name, where, licence, _, remark in LIBRARIES]
    out += [f"  {package['name']} {package['version']}: {package['license']}" for package in packages]

    texts = {}  # text: those who have it
    for name, _, _, package, _ in LIBRARIES:
        if package:
            texts.setdefault(debian_copyright(package).strip(), []).append(name)
    for file in ("LICENSE", "THIRD-PARTY-PROGRAMS"):
        if (options.onednn / file).exists():
            texts.setdefault((options.onednn / file).read_text(errors="replace").strip(), []).append("oneDNN")
    for package in packages:
        for file in licence_files(package):
            texts.setdefault(file.read_text(errors="replace").strip(), []).append(package["name"])
    for text, owners in texts.items():
        out += ["", "=" * 80, ", ".join(dict.fromkeys(owners)), "=" * 80, "", text]
    options.out.write_text("\n".join(out) + "\n")


main()

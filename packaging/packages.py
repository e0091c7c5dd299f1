#!/usr/bin/env python3
"""Makes the tarball of what was staged, the Containerfile, and the list of hashes of all packages.

The same stage gives the same bytes: times are SOURCE_DATE_EPOCH's (else of 1 January 1980, the
earliest that a zip file knows), names are sorted, owners are left out.

usage: packages.py --stage DIR --version V --machine x86_64 --out DIR [--add DIR]
"""
import argparse
import gzip
import hashlib
import os
import pathlib
import shutil
import tarfile

EARLIEST = 315532800  # 1980-01-01


def staged_files(stage):
    return sorted(path for path in stage.rglob("*") if path.is_file())


def write_tarball(stage, name, out, moment):
    def plain(info):
        info.uid = info.gid = 0
        info.uname = info.gname = ""
        info.mtime = moment
        return info

    with open(out, "wb") as file, gzip.GzipFile("", "wb", 9, file, moment) as packed, \
            tarfile.open(fileobj=packed, mode="w", format=tarfile.GNU_FORMAT) as tar:
        for path in staged_files(stage):
            tar.add(path, f"{name}/{path.relative_to(stage)}", filter=plain)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--stage", required=True, type=pathlib.Path)
    parser.add_argument("--version", required=True)
    parser.add_argument("--machine", required=True)
    parser.add_argument("--out", required=True, type=pathlib.Path)
    parser.add_argument("--add", type=pathlib.Path, action="append", default=[],
                        help="a folder of .deb and .whl files, which are copied")
    options = parser.parse_args()
    moment = max(EARLIEST, int(os.environ.get("SOURCE_DATE_EPOCH", EARLIEST)))
    shutil.rmtree(options.out, ignore_errors=True)
    options.out.mkdir(parents=True)

    name = f"lewis-{options.version}-linux-{options.machine}"
    write_tarball(options.stage, name, options.out / f"{name}.tar.gz", moment)
    for folder in options.add:
        for path in staged_files(folder):
            if path.suffix in (".deb", ".whl"):
                shutil.copy(path, options.out)
    containerfile = (pathlib.Path(__file__).parent / "Containerfile").read_text()
    (options.out / "Containerfile").write_text(containerfile.replace("@NAME@", name))
    sums = "".join(f"{hashlib.sha256(path.read_bytes()).hexdigest()}  {path.name}\n"
                   for path in staged_files(options.out))
    (options.out / "SHA256SUMS").write_text(sums)
    for path in staged_files(options.out):
        print(f"{path.stat().st_size / 1e6:8.1f} MB  {path.relative_to(options.out)}")


main()

#!/usr/bin/env python3
"""Makes the tarball, the wheel, the Containerfile and the list of hashes of what was staged.

The same stage gives the same bytes: times are SOURCE_DATE_EPOCH's (else of the commit of 1 January
1980, the earliest that a zip file knows), names are sorted, owners are left out.

usage: packages.py --stage DIR --version V --machine x86_64 --glibc 2.28 --out DIR [--deb DIR]
"""
import argparse
import base64
import gzip
import hashlib
import os
import pathlib
import shutil
import tarfile
import time
import zipfile

EARLIEST = 315532800  # 1980-01-01
SUMMARY = "Merges fine-tuned language models, guided by data"


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


def write_wheel(stage, version, tag, out_folder, moment, modules):
    """The program as a script of the wheel, and the Python packages in `modules` beside it."""
    distribution = f"lewis_merge-{version}"
    info = f"{distribution}.dist-info"
    documents = stage / "share/doc/lewis"
    metadata = "\n".join([
        "Metadata-Version: 2.4", "Name: lewis-merge", f"Version: {version}", f"Summary: {SUMMARY}",
        "License-Expression: Apache-2.0", "License-File: LICENSE", "License-File: NOTICE",
        "Requires-Python: >=3.8", "Classifier: Environment :: Console",
        "Classifier: Operating System :: POSIX :: Linux",
        "Classifier: Topic :: Scientific/Engineering :: Artificial Intelligence",
        "Description-Content-Type: text/markdown", "", (documents / "README.md").read_text()])
    wheel = "\n".join(["Wheel-Version: 1.0", "Generator: lewis packaging/packages.py",
                       "Root-Is-Purelib: false", f"Tag: {tag}", ""])
    members = [(f"{distribution}.data/scripts/lewis", (stage / "bin/lewis").read_bytes(), 0o755)]
    for folder in modules:
        members += [(str(path.relative_to(folder)), path.read_bytes(), 0o644)
                    for path in staged_files(folder) if "__pycache__" not in path.parts]
    members += [(f"{distribution}.data/data/{path.relative_to(stage)}", path.read_bytes(), 0o644)
                for path in staged_files(stage / "share") if path.relative_to(stage).parts[1] != "doc"]
    members += [(f"{info}/METADATA", metadata.encode(), 0o644), (f"{info}/WHEEL", wheel.encode(), 0o644)]
    members += [(f"{info}/licenses/{name}", (documents / name).read_bytes(), 0o644)
                for name in ("LICENSE", "NOTICE")]

    def digest(data):
        return base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=").decode()

    record = "".join(f"{name},sha256={digest(data)},{len(data)}\n" for name, data, _ in members)
    members.append((f"{info}/RECORD", (record + f"{info}/RECORD,,\n").encode(), 0o644))
    out = out_folder / f"{distribution}-{tag}.whl"
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as archive:
        for name, data, mode in members:
            entry = zipfile.ZipInfo(name, time.gmtime(moment)[:6])
            entry.compress_type = zipfile.ZIP_DEFLATED
            entry.external_attr = (0o100000 | mode) << 16
            archive.writestr(entry, data)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--stage", required=True, type=pathlib.Path)
    parser.add_argument("--version", required=True)
    parser.add_argument("--machine", required=True)
    parser.add_argument("--glibc", required=True)
    parser.add_argument("--out", required=True, type=pathlib.Path)
    parser.add_argument("--deb", type=pathlib.Path)
    parser.add_argument("--module", type=pathlib.Path, action="append", default=[],
                        help="a folder whose content the wheel holds as well")
    parser.add_argument("--tag", help="the wheel's tag, where a module makes it narrower")
    options = parser.parse_args()
    moment = max(EARLIEST, int(os.environ.get("SOURCE_DATE_EPOCH", EARLIEST)))
    shutil.rmtree(options.out, ignore_errors=True)
    options.out.mkdir(parents=True)

    name = f"lewis-{options.version}-linux-{options.machine}"
    write_tarball(options.stage, name, options.out / f"{name}.tar.gz", moment)
    platform = f"manylinux_{options.glibc.replace('.', '_')}_{options.machine}"
    tag = options.tag or f"py3-none-{platform}"
    write_wheel(options.stage, options.version, tag, options.out, moment, options.module)
    for deb in options.deb.glob("*.deb") if options.deb else []:
        shutil.copy(deb, options.out)
    containerfile = (pathlib.Path(__file__).parent / "Containerfile").read_text()
    (options.out / "Containerfile").write_text(containerfile.replace("@NAME@", name))
    sums = "".join(f"{hashlib.sha256(path.read_bytes()).hexdigest()}  {path.name}\n"
                   for path in staged_files(options.out))
    (options.out / "SHA256SUMS").write_text(sums)
    for path in staged_files(options.out):
        print(f"{path.stat().st_size / 1e6:8.1f} MB  {path.relative_to(options.out)}")


main()

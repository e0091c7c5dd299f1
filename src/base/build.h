// Which program this is. Every key of a cache, a journal or a plan contains version_and_build(), so
// that two builds never mix what they computed; what lewis writes about itself contains it, too.
//
// The build's name has two parts: the commit, for people, and the first twelve digits of the build
// ID, which is what makes it right. The commit alone does not tell two builds apart: all builds of
// a changed tree are "COMMIT-dirty", other compilers and flags have the same commit, and a tarball
// has none. The build ID is the linker's hash of the program (or the shared library) that this code
// lies in (--build-id=sha1), so the name changes exactly when the program does, and `strip` keeps
// it. Where a linker wrote none, the name is the commit alone.
#pragma once

#include <string>

namespace lewis {

std::string lewis_version();      // "0.1.0"
std::string build_name();         // "ec725db203a8-dirty+3f2a90c1b5d6"
std::string version_and_build();  // "0.1.0 (build ec725db203a8-dirty+3f2a90c1b5d6)"

// The instruction set that functions marked LEWIS_VECTORIZED use on this processor: the loader
// picks their variants by the same test. "x86-64-v4: AVX-512", "x86-64-v3: AVX2", "x86-64",
// "aarch64".
std::string instruction_set();

}  // namespace lewis

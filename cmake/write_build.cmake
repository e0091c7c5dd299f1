# Writes OUT, the source that names this build, if its content changes. It runs in every build, so
# that the name is right after a commit, and only that source is compiled again.
# Needs: SOURCE (the root of the repository), VERSION, OUT. Without git or outside a clone (a
# tarball) the commit is "unknown".
set(commit "unknown")
find_program(GIT git)
if(GIT AND EXISTS "${SOURCE}/.git")
  execute_process(COMMAND ${GIT} -C "${SOURCE}" describe --always --dirty --abbrev=12
                  OUTPUT_VARIABLE found OUTPUT_STRIP_TRAILING_WHITESPACE RESULT_VARIABLE failed ERROR_QUIET)
  if(NOT failed AND found MATCHES "^[-A-Za-z0-9._/+]+$")
    set(commit "${found}")
  endif()
endif()
file(CONFIGURE OUTPUT "${OUT}" @ONLY CONTENT [[
// Written by cmake/write_build.cmake.
#include "base/build_source.h"

namespace lewis {

const char* const kSourceVersion = "@VERSION@";
const char* const kSourceCommit = "@commit@";

}  // namespace lewis
]])

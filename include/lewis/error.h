// The one exception type of lewis.
#pragma once

#include <stdexcept>
#include <string>

#include <lewis/export.h>

namespace lewis {

// The kind of a failure. The command line program ends with this number as its exit code.
enum class ExitCode : int {
  kDone = 0,
  kFailed = 1,        // none of the kinds below
  kUsage = 2,         // wrong option or recipe
  kInput = 3,         // a file was refused: its content is not what it must be
  kResource = 4,      // not enough disk space or memory
  kVerify = 5,        // bytes are not those that were written
  kInterrupted = 130  // the caller asked for the end of the work (RunContext::interrupted)
};

// what() is one line. It says what failed, where (file, tensor or key), what was expected and what
// was found, and if possible what to do. Names from files may be in it, so what cannot be shown is
// escaped: it can be printed as it is.
class LEWIS_API Error : public std::runtime_error {
 public:
  Error(ExitCode code, const std::string& message);
  ExitCode code() const { return code_; }

 private:
  ExitCode code_;
};

}  // namespace lewis

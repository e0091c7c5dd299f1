#include "base/error.h"

#include "base/printable.h"

namespace lewis {

Error::Error(ExitCode code, const std::string& message)
    : std::runtime_error(printable(message)), code_(code) {}

}  // namespace lewis

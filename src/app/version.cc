#include "app/version.h"

namespace lewis {

const char* const kVersion = LEWIS_VERSION;

}  // namespace lewis

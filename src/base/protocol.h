// How a calibration text is run (LEWIS, arXiv 2503.03874, section 3; docs/lewis.md).
#pragma once

#include "base/enum_names.h"

namespace lewis {

enum class Protocol {
  kClean,     // real tokens only, the model as it is; s_j is a mean over tokens
  kReference  // padded to the full length, each block followed by its pruned self; s_j is a mean
              // over samples
};

template <>
inline constexpr auto kEnumNames<Protocol> = std::to_array<EnumName<Protocol>>(
    {{Protocol::kClean, "clean"}, {Protocol::kReference, "reference"}});

}  // namespace lewis

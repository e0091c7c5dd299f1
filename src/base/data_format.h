// The formats of data files: of calibration texts and of evaluation items.
#pragma once

#include "base/enum_names.h"

namespace lewis {

// text/formats/NAME.cc says for each what an item is.
enum class DataFormat { kGsm8k, kMbpp, kIfeval, kChat, kJsonl, kText, kIds };

template <>
inline constexpr auto kEnumNames<DataFormat> =
    std::to_array<EnumName<DataFormat>>({{DataFormat::kGsm8k, "gsm8k"},
                                         {DataFormat::kMbpp, "mbpp"},
                                         {DataFormat::kIfeval, "ifeval"},
                                         {DataFormat::kChat, "chat"},
                                         {DataFormat::kJsonl, "jsonl"},
                                         {DataFormat::kText, "text"},
                                         {DataFormat::kIds, "ids"}});

}  // namespace lewis

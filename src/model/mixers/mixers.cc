// The table of mixers.
#include <algorithm>
#include <array>

#include "base/error.h"
#include "model/mixer.h"

namespace lewis {

extern const MixerRow kAttention;  // attention.cc

std::span<const MixerRow* const> mixer_rows() {
  static constexpr std::array kRows = {&kAttention};
  return kRows;
}

MixerPtr make_mixer(std::string_view name, const ConfigReader& config) {
  const auto rows = mixer_rows();
  const auto row = std::ranges::find(rows, name, &MixerRow::name);
  if (row == rows.end()) throw failed_error("there is no mixer called {}", name);
  return (*row)->make(config);
}

}  // namespace lewis

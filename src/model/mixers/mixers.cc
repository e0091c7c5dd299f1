// The table of mixers.
#include <algorithm>
#include <array>

#include "base/error.h"
#include "model/mixer.h"

namespace lewis {

extern const MixerRow kAttention;                     // attention.cc
extern const MixerRow kGatedDelta, kFusedGatedDelta;  // gated_delta.cc
extern const MixerRow kShortConv;                     // short_conv.cc
extern const MixerRow kMamba2, kNemotronMamba2;       // mamba2.cc
extern const MixerRow kLatentAttention;               // latent_attention.cc
extern const MixerRow kAttentionAndMamba;             // attention_mamba.cc

std::span<const MixerRow* const> mixer_rows() {
  static constexpr std::array kRows = {&kAttention,         &kGatedDelta,     &kFusedGatedDelta,
                                       &kShortConv,         &kMamba2,         &kNemotronMamba2,
                                       &kAttentionAndMamba, &kLatentAttention};
  return kRows;
}

MixerPtr make_mixer(std::string_view name, const ConfigReader& config) {
  const auto rows = mixer_rows();
  const auto row = std::ranges::find(rows, name, &MixerRow::name);
  if (row == rows.end()) throw failed_error("there is no mixer called {}", name);
  return (*row)->make(config);
}

}  // namespace lewis

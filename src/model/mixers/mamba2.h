// Mamba 2 as a part of other mixers.
#pragma once

#include <array>
#include <limits>
#include <string_view>

#include "base/json.h"
#include "model/config_reader.h"
#include "model/mixer.h"

namespace lewis {

enum class MambaNorm { kNone, kBeforeGate, kAfterGate };

struct Mamba2Settings {
  std::string_view place = "mamba.";
  std::string_view groups_key = "mamba_n_groups";  // for messages
  int64_t heads = 0, head_dim = 0, groups = 0, state_dim = 0, kernel = 0;
  bool conv_bias = true, in_bias = false, out_bias = false;
  MambaNorm norm = MambaNorm::kNone;
  bool always_silu = false;  // behind the convolution, whatever the MLPs have
  float least_step = 0, largest_step = std::numeric_limits<float>::infinity();
  // Multiply parts of the projection: the gate, x, B, C, the steps.
  std::array<float, 5> multipliers = {1, 1, 1, 1, 1};

  bool operator==(const Mamba2Settings&) const = default;
};

// Reads the keys that Granite 4 and Falcon-H1 share; `inner`: heads times values of a head.
Mamba2Settings read_mamba2(const ConfigReader& config, int64_t inner);
MixerPtr make_mamba2(const ConfigReader& config, const Mamba2Settings& settings);

}  // namespace lewis

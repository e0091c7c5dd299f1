// Parts of published checkpoints that programs need not load: heads that predict further tokens
// (multi-token prediction, MTP), and towers that see or hear. transformers 5 drops the first on
// load, and the second where it loads the text model alone, so fine-tuned models often lack them.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/json_fwd.h"

namespace lewis {

struct ExtraPart {
  bool tower = false;  // false: multi-token prediction
  std::string words;   // "multi-token prediction (mtp)", "layers behind the last of 61 (MTP)"
  std::string config;  // of a tower: the key of config.json that has its settings
};

// The part that a tensor belongs to by its name, in a model whose text model has `layers` layers
// (0: not known); nothing for a tensor of the text model.
std::optional<ExtraPart> extra_part(std::string_view tensor, int64_t layers);
// The same; the number of layers is that of config.json.
std::optional<ExtraPart> extra_part(std::string_view tensor, const Json& config);

// Whether a tensor is of multi-token prediction.
bool is_mtp(std::string_view tensor, const Json& config);

// Why a model with this config.json does not have the part, as a clause; "" where it should.
std::string why_not_loaded(const ExtraPart& part, const Json& config);

// The number of MTP layers that config.json promises, 0 where it promises none.
int64_t promised_mtp_layers(const Json& config);
// The keys that promise them ("num_nextn_predict_layers = 1").
std::vector<std::string> mtp_promises(const Json& config);
// Sets those keys to 0.
void withdraw_mtp_promises(Json& config);

}  // namespace lewis

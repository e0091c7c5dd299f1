// Parts of published checkpoints that programs need not load: heads that predict further tokens
// (multi-token prediction, MTP), keys and values of layers that read those of earlier ones, and
// towers that see or hear. transformers 5 drops the first two on load, and towers where it loads
// the text model alone, so fine-tuned models often lack them.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/json_fwd.h"

namespace lewis {

enum class ExtraKind { kMtp, kUnreadKeys, kTower };

struct ExtraPart {
  ExtraKind kind = ExtraKind::kMtp;
  std::string words;   // "multi-token prediction (mtp)", "layers behind the last of 61 (MTP)"
  std::string config;  // of a tower: the key of config.json that has its settings
};

// The part that a tensor belongs to by its name, in a model whose text model has `layers` layers
// (0: not known); nothing for a tensor of the text model.
std::optional<ExtraPart> extra_part(std::string_view tensor, int64_t layers);
// The same; the number of layers is that of config.json, which also says whether layers read keys
// and values of earlier ones (Gemma 4's num_kv_shared_layers).
std::optional<ExtraPart> extra_part(std::string_view tensor, const Json& config);

// Whether a tensor makes keys or values of attention, by its name.
bool makes_keys(std::string_view tensor);

// Whether a tensor is of multi-token prediction.
bool is_mtp(std::string_view tensor, const Json& config);

// Why a model with this config.json does not have the part, as a clause; "" where it should.
std::string why_not_loaded(const ExtraPart& part, const Json& config);

// Of some model types transformers drops MTP layers behind the last one by fixed numbers: those of
// the published models. Others it names as unexpected when it loads the model, and drops them too.
// Returns the fixed numbers; none: it goes by no such number.
std::span<const int64_t> numbers_of_dropped_layers(const Json& config);

// The number of MTP layers that config.json promises, 0 where it promises none.
int64_t promised_mtp_layers(const Json& config);
// The keys that promise them ("num_nextn_predict_layers = 1").
std::vector<std::string> mtp_promises(const Json& config);
// Sets those keys to 0.
void withdraw_mtp_promises(Json& config);

}  // namespace lewis

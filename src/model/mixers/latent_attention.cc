// Multi-head latent attention of DeepSeek-V2 (arXiv 2405.04434, section 2.1): keys and values are
// made of a latent vector that is narrower than they are, queries perhaps, too. Only a part of each
// head has a position; that part of the keys is one for all heads.
#include <algorithm>
#include <array>
#include <vector>

#include "base/error.h"
#include "model/config_reader.h"
#include "model/mixer.h"
#include "model/mixers/kv_cache.h"

namespace lewis {
namespace {

constexpr std::string_view kPlace = "self_attn.";
// Heads whose queries, keys and values are padded at a time where nothing is generated.
constexpr int64_t kHeadsAtOnce = 16;
constexpr int kSplit = 1;  // MixStep::stage: takes the latent vector and the turned keys apart

struct LatentSettings {
  int64_t query_rank = 0, key_rank = 0;  // 0: queries have no latent vector
  int64_t plain_dim = 0, turned_dim = 0, value_dim = 0;
  bool bias = false;  // of the projections from and to the hidden states

  bool operator==(const LatentSettings&) const = default;
  int64_t head_dim() const { return plain_dim + turned_dim; }
  // The backend wants queries, keys and values of one width: the narrower ones get zeros.
  int64_t padded_dim() const { return std::max(head_dim(), value_dim); }
};

class LatentAttention final : public Mixer {
 public:
  explicit LatentAttention(const LatentSettings& settings) : s_(settings) {}

  Value describe(BlockBuilder& block, Value x) const override {
    const ModelSpec& spec = block.spec();
    const NormSpec norm = {NormKind::kRms, 1e-6f};  // whatever rms_norm_eps says
    const int64_t queries = spec.heads * s_.head_dim();
    const LinearPart down = {"kv_a_proj_with_mqa", s_.key_rank + s_.turned_dim};
    const LinearPart first =
        s_.query_rank ? LinearPart{"q_a_proj", s_.query_rank} : LinearPart{"q_proj", queries};
    Value q = 0, latent = 0;
    if (s_.query_rank || !s_.bias) {
      const std::array<LinearPart, 2> parts = {first, down};
      const auto both = block.linears(kPlace, parts, x, s_.bias);
      q = both[0];
      latent = both[1];
    } else {
      q = block.linear(kPlace, first, x, false);
      latent = block.linear(kPlace, down, x, true);
    }
    if (s_.query_rank) {
      block.norm_in_place("self_attn.q_a_layernorm", q, norm);
      q = block.linear(kPlace, {"q_b_proj", queries}, q, false);
    }
    const auto parts = block.mix({latent}, std::array{s_.key_rank, s_.turned_dim}, kSplit);
    block.norm_in_place("self_attn.kv_a_layernorm", parts[0], norm);
    const int64_t keys_and_values = spec.heads * (s_.plain_dim + s_.value_dim);
    const Value kv = block.linear(kPlace, {"kv_b_proj", keys_and_values}, parts[0], false);
    const Value mixed = block.mix({q, kv, parts[1]}, std::array{spec.heads * s_.value_dim})[0];
    return block.linear(kPlace, {"o_proj", spec.hidden}, mixed, s_.bias);
  }

  void mix(const MixCall& call) const override {
    call.stage == kSplit ? split(call) : attend_heads(call);
  }

  std::unique_ptr<MixerState> new_state(const ModelSpec& spec, int64_t) const override {
    return std::make_unique<KvCache>(spec.heads * s_.padded_dim());
  }

  int64_t state_values(const ModelSpec& spec, int64_t) const override {
    return 2 * spec.heads * s_.padded_dim();
  }

  // Queries, keys, values and the result of a group of heads, padded; in bfloat16 its keys and
  // values are rounded.
  int64_t working_values(const ModelSpec& spec, ComputeType type) const override {
    return (type == ComputeType::kF32 ? 4 : 5) * std::min(spec.heads, kHeadsAtOnce) *
           s_.padded_dim();
  }

  bool equals(const Mixer& other) const override {
    const auto* latent = dynamic_cast<const LatentAttention*>(&other);
    return latent && latent->s_ == s_;
  }

 private:
  void split(const MixCall& call) const {
    const int64_t width = s_.key_rank + s_.turned_dim;
    for (int64_t r = 0; r < call.rows; ++r) {
      const float* from = call.in[0] + r * width;
      std::copy_n(from, s_.key_rank, call.out[0] + r * s_.key_rank);
      std::copy_n(from + s_.key_rank, s_.turned_dim, call.out[1] + r * s_.turned_dim);
    }
  }

  // in: q [rows, heads, plain | turned]; k and v [rows, heads, plain | value]; the turned part of k
  // [rows, turned]. out: [rows, heads, value]. Heads know nothing of each other, so a few at a time
  // are padded. A state has the keys of all heads of a token side by side, and takes all at once.
  void attend_heads(const MixCall& call) const {
    const bool keeps = std::ranges::any_of(call.sequences, &MixedRows::state);
    const int64_t at_once = keeps ? call.spec.heads : std::min(call.spec.heads, kHeadsAtOnce);
    const auto size = static_cast<size_t>(call.rows * at_once * s_.padded_dim());
    PaddedHeads padded = {Floats(size), Floats(size), Floats(size), Floats(size)};
    for (int64_t first = 0; first < call.spec.heads; first += at_once)
      attend_some(call, first, std::min(at_once, call.spec.heads - first), padded);
  }

  using Floats = std::vector<float>;
  struct PaddedHeads {
    Floats q, k, v, out;  // [rows, some heads, padded]
  };

  // Fills q, k and v of `count` heads from `first` on; what pads them is zero already.
  void pad(const MixCall& call, int64_t first, int64_t count, PaddedHeads& padded) const {
    const int64_t heads = call.spec.heads, dim = s_.padded_dim();
    call.threads.run(static_cast<size_t>(call.rows), [&](size_t row) {
      const auto r = static_cast<int64_t>(row);
      const float* turned = call.in[2] + r * s_.turned_dim;
      for (int64_t i = 0; i < count; ++i) {
        const int64_t h = r * heads + first + i;
        const float* query = call.in[0] + h * s_.head_dim();
        const float* both = call.in[1] + h * (s_.plain_dim + s_.value_dim);
        const int64_t to = (r * count + i) * dim;
        // Rope turns what comes first.
        float* q = padded.q.data() + to;
        float* k = padded.k.data() + to;
        std::copy_n(query + s_.plain_dim, s_.turned_dim, q);
        std::copy_n(query, s_.plain_dim, q + s_.turned_dim);
        std::copy_n(turned, s_.turned_dim, k);
        std::copy_n(both, s_.plain_dim, k + s_.turned_dim);
        std::copy_n(both + s_.plain_dim, s_.value_dim, padded.v.data() + to);
      }
    });
  }

  void attend_some(const MixCall& call, int64_t first, int64_t count, PaddedHeads& padded) const {
    const ModelSpec& spec = call.spec;
    const int64_t dim = s_.padded_dim();
    pad(call, first, count, padded);
    encode_positions(call, spec.ropes[0], {padded.q.data(), count, dim},
                     {padded.k.data(), count, dim});
    attend(call, {count, count, dim, spec.attention_scale}, padded.q.data(), padded.k.data(),
           padded.v.data(), padded.out.data());
    for (int64_t row = 0; row < call.rows; ++row) {
      const float* from = padded.out.data() + row * count * dim;
      float* to = call.out[0] + (row * spec.heads + first) * s_.value_dim;
      for (int64_t i = 0; i < count; ++i)
        std::copy_n(from + i * dim, s_.value_dim, to + i * s_.value_dim);
    }
  }

  LatentSettings s_;
};

MixerPtr make_latent(const ConfigReader& config) {
  LatentSettings s;
  if (config.find("q_lora_rank")) s.query_rank = config.size("q_lora_rank");
  s.key_rank = config.size("kv_lora_rank");
  s.plain_dim = config.parts("qk_nope_head_dim");
  s.turned_dim = config.parts("qk_rope_head_dim");
  s.value_dim = config.parts("v_head_dim");
  s.bias = config.boolean("attention_bias", false);
  const int64_t heads = config.size("num_attention_heads");
  if (config.size("num_key_value_heads", heads) != heads)
    throw config.refuse("num_key_value_heads", fmt::format("num_attention_heads = {}", heads));
  return std::make_shared<LatentAttention>(s);
}

constexpr std::array<GgmlName, 4> kNames = {{
    {"self_attn.q_a_proj", "attn_q_a", ""},
    {"self_attn.q_b_proj", "attn_q_b", ""},
    {"self_attn.kv_a_proj_with_mqa", "attn_kv_a_mqa", ""},
    {"self_attn.kv_b_proj", "attn_kv_b", ""},
}};

}  // namespace

extern const MixerRow kLatentAttention;
const MixerRow kLatentAttention = {"latent_attention", make_latent, kNames};

}  // namespace lewis

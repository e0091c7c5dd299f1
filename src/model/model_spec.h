// A model as plain data: config.json -> ModelSpec. families/ has one row per family. A layer's
// block follows from this as a list of steps (block_steps.h).
#pragma once

#include <cstdint>
#include <limits>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "base/json_fwd.h"
#include "base/tensor.h"
#include "compute/backend.h"

namespace lewis {

class TensorSource;

// Rotary position embedding; the angles of a position are position * inverse_frequency[i].
struct RopeSpec {
  double theta = 0;                      // the base of the frequencies before scaling
  std::vector<float> inverse_frequency;  // [rotary_dim / 2], after scaling
  float attention_factor = 1;            // multiplies cos and sin
  RopePairs pairs = RopePairs::kHalves;
  // A sequence of more positions than this is rotated by other frequencies, from its first token
  // on: long_frequency (longrope), or those of a theta that grows with the length (dynamic).
  int64_t short_length = std::numeric_limits<int64_t>::max();
  std::vector<float> long_frequency;
  double dynamic_factor = 0;
  float long_attention_factor = 0;  // in place of attention_factor for such a sequence; 0: the same

  bool operator==(const RopeSpec&) const = default;
};

// The heads of attention in one layer.
struct HeadShape {
  int64_t heads = 0, kv_heads = 0, head_dim = 0;
  int64_t query_width() const { return heads * head_dim; }
  int64_t key_width() const { return kv_heads * head_dim; }
  bool operator==(const HeadShape&) const = default;
};

// The frequencies for a sequence of `length` positions.
std::vector<float> rope_frequencies(const RopeSpec& rope, int64_t length);

enum class NormKind { kRms, kLayer };  // kLayer: the mean is subtracted first
// kUnit: each head without a weight, behind the rope, where a layer has one.
enum class QkNorm { kNone, kHead, kWhole, kUnit };

struct NormSpec {
  NormKind kind = NormKind::kRms;
  float epsilon = 0;
  bool bias = false;
  bool plus_one = false;  // what is stored is the weight - 1

  bool operator==(const NormSpec&) const = default;
};

// Names of the norms of a block; an empty one is not there.
struct BlockNorms {
  std::string_view before_attention, after_attention, before_mlp, after_mlp;

  bool operator==(const BlockNorms&) const = default;
};

// Names of the linear layers of an MLP, down(act(gate(x)) * up(x)); without gate: down(act(up(x))).
struct MlpNames {
  std::string_view gate, up, down;

  bool operator==(const MlpNames&) const = default;
};

// How a router weighs the experts of a token.
enum class Router {
  kSoftmax,        // by the softmax over all experts
  kChosenSoftmax,  // by the softmax over those that are chosen
  kSigmoid,      // by the sigmoid of each score; a stored correction is added for the choice alone
  kSparseMixer,  // Phi-3.5-MoE's two experts, each by a softmax over those with nearly its score
};

// How the groups of experts are compared, of which only the best are chosen from.
enum class GroupScore { kTwoBest, kBest };  // by the sum of two experts' scores, or by one

// Routed experts: every token goes through the `chosen` experts that the router likes best.
struct ExpertsSpec {
  int64_t count = 0, chosen = 0, intermediate = 0;
  bool normalize = false;  // the weights of the chosen add up to one
  float scaling = 1;       // then multiplies them
  Router router = Router::kSoftmax;
  int64_t groups = 1, chosen_groups = 1;
  GroupScore group_score = GroupScore::kTwoBest;
  std::string correction;  // kSigmoid: the tensor [count], by its name within the block
  bool router_bias = false, bias = false;  // of the router; of the routed experts
  bool scales_input = false;       // the weights multiply what the experts read, not what they give
  float jitter = 0;                // kSparseMixer: half of what "nearly" means, as a share
  std::string gate_name = "gate";  // "mlp.gate"
  std::string module = "mlp";      // "mlp.experts.3.gate_proj", "block_sparse_moe.experts.3.w1"
  MlpNames names = {"gate_proj", "up_proj", "down_proj"};
  bool fused = false;  // mlp.experts.gate_up_proj [count, 2 * intermediate, hidden] and down_proj
  // Fused tensors of other shapes or names are read as io/expert_tensors.h shows them.
  bool shown_split = false;
  bool beside_mlp = false;  // Gemma 4: an MLP and experts, each with norms of its own, added up
  int64_t latent = 0;       // what the experts read and give is this wide; 0: the hidden size

  // The expert that every token goes through; its place is that of its linear layers.
  int64_t shared_intermediate = 0;  // 0: there is no such expert
  std::string_view shared = "mlp.shared_expert.";
  std::string_view shared_switch = "shared_expert_gate";  // empty: it always counts in full
  MlpNames shared_names = {"gate_proj", "up_proj", "down_proj"};
  std::string_view shared_gate_up;  // the tensor with the rows of gate and up; empty: two tensors

  bool operator==(const ExpertsSpec&) const = default;
};

// How the tokens of a sequence influence each other in a layer: attention, or a file of mixers/.
class Mixer;  // model/mixer.h
using MixerPtr = std::shared_ptr<const Mixer>;
MixerPtr attention_mixer();

inline constexpr int kNoSource = -1;

struct LayerSpec {
  int64_t window = 0;  // a token sees itself and window - 1 before it; 0: all before it
  int64_t chunk = 0;   // a token sees none before the last multiple of this; 0: all
  int rope = 0;        // index into ModelSpec::ropes; kNoRope: positions are not encoded
  int64_t head_dim = 0, kv_heads = 0;  // other than ModelSpec's; 0: those
  int64_t intermediate = 0;            // likewise
  bool keys_are_values = false;        // values are what k_proj gives, before its norm
  int kv_source = kNoSource;           // the layer whose keys and values this one reads
  bool lends_kv = false;               // whether later layers read those of this one
  bool routed = false;                 // experts instead of one MLP
  bool mixes = true, feeds = true;     // whether the block has a mixer, and an MLP or experts
  MixerPtr mixer = attention_mixer();  // never null

  bool operator==(const LayerSpec& other) const;
};
inline constexpr int kNoRope = -1;

struct ModelSpec {
  std::string model_type;
  int64_t layers = 0, hidden = 0, intermediate = 0, vocab = 0;
  int64_t heads = 0, kv_heads = 0, head_dim = 0;
  int64_t max_positions = 0;
  std::vector<LayerSpec> layer;  // [layers]
  std::vector<RopeSpec> ropes;

  NormSpec norm;
  BlockNorms norms = {"input_layernorm", "", "post_attention_layernorm", ""};
  QkNorm qk_norm = QkNorm::kNone;  // of queries and keys: each head, or all of them as one row
  std::string_view q_norm = "q_norm", k_norm = "k_norm";
  std::string_view attention = "self_attn.", o_proj = "o_proj";  // names in the block
  float key_multiplier = 1;                                      // multiplies keys
  bool value_norm = false;                                       // of each head, without a weight
  bool norm_after_rope = false;  // these norms take what rope has turned
  float qkv_clip = 0;            // queries, keys and values are clamped to +-this; 0: none
  // A query at position p is multiplied by 1 + beta log(1 + floor((p + offset) / length)), if beta
  // is not 0.
  float query_scale_beta = 0;
  int64_t query_scale_length = 0, query_scale_offset = 0;
  bool scales_unturned_queries = false;  // in layers without rope alone
  bool sinks = false;                    // each head has one more score, without a value
  float attention_scale = 0;             // multiplies q k^T
  float attention_softcap = 0;           // then cap * tanh(score / cap); 0: none
  bool qkv_bias = false, o_bias = false;
  bool fused_qkv = false;  // self_attn.qkv_proj, rows q, k, v
  // q_proj gives each head as many values again, whose sigmoid multiplies what attention gives.
  bool attention_gate = false;

  Activation activation = Activation::kSilu;
  bool xielu = false;  // instead: xIELU, whose parameters are tensors beside the MLP without a gate
  MlpNames mlp = {"gate_proj", "up_proj", "down_proj"};
  std::string_view mlp_place = "mlp.";
  bool mlp_bias = false;
  std::string_view gate_up;   // the tensor with the rows of gate and up; empty: two tensors
  float gate_multiplier = 1;  // multiplies gate(x)
  // gpt-oss: with a limit other than 0 gate(x) and up(x) are clamped, and
  // gate * sigmoid(alpha gate) * (up + 1) takes the place of activation(gate) * up.
  float glu_limit = 0, glu_alpha = 0;
  float mlp_multiplier = 1;  // multiplies what the MLP adds to the hidden states
  bool parallel = false;     // attention and MLP read the same norm and are added together
  ExpertsSpec experts;

  // Gemma 4: each layer adds what its own embedding of a token gives it, so wide; 0: none. And each
  // layer multiplies the hidden states by a stored number.
  int64_t per_layer_width = 0, per_layer_vocab = 0;
  bool layer_scalar = false;

  float embedding_multiplier = 1, residual_multiplier = 1, logit_multiplier = 1;
  float logit_softcap = 0;
  bool tied_head = false;
  bool head_bias = false;

  int64_t mtp_layers = 0;  // stored behind the others, to predict further tokens; they are not run

  // Where the tensors are: PREFIXembed_tokens.weight, PREFIXlayers.0.(...), PREFIXnorm.weight.
  std::string prefix = "model.", head = "lm_head.";
  std::string_view embeddings = "embed_tokens", final_norm = "norm";

  bool operator==(const ModelSpec&) const = default;
};

HeadShape head_shape(const ModelSpec& spec, int64_t layer);

// Reads the keys of transformers 4 and 5; of a multimodal model its text_config. A missing key
// means what transformers assumes for that model_type. Throws Error(kInput) that names the file and
// the key: model_type missing or unknown (lists the known ones), a size that makes no sense, an
// activation, rope type, layer type or other setting that changes the computation and is not known.
ModelSpec read_model_spec(const Json& config, std::string_view file);

// Fills in what the tensors' names say and config.json does not: their prefix, and whether the
// experts of a layer are stored as one tensor.
ModelSpec locate_tensors(ModelSpec spec, const TensorSource& source);

// True when a sequence that grows from `before` to `after` positions is rotated by other
// frequencies than before.
bool rope_changes(const ModelSpec& spec, int64_t before, int64_t after);

// The values of model_type that are supported, sorted.
std::vector<std::string_view> supported_model_types();

}  // namespace lewis

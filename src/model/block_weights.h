// What Transformer keeps of a block, and its working memory: for transformer.cc, which loads, and
// run_block.cc, which runs.
#pragma once

#include <memory>
#include <vector>

#include "compute/float_buffer.h"
#include "model/transformer.h"

namespace lewis {

struct Norm {
  std::vector<float> weight, bias;  // both empty: there is no such norm
};

struct Linear {
  std::unique_ptr<PackedWeight> weight;  // [out, in]
  std::vector<float> bias;               // [out], or empty
};

struct MlpWeights {
  Linear gate, up, down;  // some families have no gate
};

struct BlockWeights {
  int64_t layer = 0;
  Norm before_attention, after_attention, before_mlp, after_mlp;  // [hidden]
  Norm query_norm, key_norm;
  Linear q, k, v, o;
  MlpWeights mlp, shared;  // shared: the expert that every token goes through
  Linear router, shared_switch;
  std::vector<MlpWeights> experts;
};

struct Transformer::Workspace {
  FloatBuffer normed, projected;  // [rows, hidden]
  FloatBuffer q, mixed;           // [rows, heads, head_dim]
  FloatBuffer k, v;               // [rows, kv_heads, head_dim]
  FloatBuffer inner;              // [rows, intermediate]
  FloatBuffer last;               // of head(): [rows, hidden]
  FloatBuffer router;             // [rows, experts]
  FloatBuffer gathered, one;      // of one expert: input and output [its rows, hidden]
};

// Values of one query or key row that the norm of queries and keys takes together.
inline int64_t qk_norm_width(const ModelSpec& spec, int64_t heads) {
  return spec.qk_norm == QkNorm::kWhole ? heads * spec.head_dim : spec.head_dim;
}

}  // namespace lewis

// The weights that Transformer keeps of a block, and its working memory: for transformer.cc, which
// loads, and run_block.cc and routed_experts.cc, which run.
#pragma once

#include <array>
#include <map>
#include <memory>
#include <span>
#include <vector>

#include "base/page_buffer.h"
#include "compute/float_buffer.h"
#include "model/transformer.h"

namespace lewis {

struct Norm {
  NormSpec spec;
  std::vector<float> weight, bias;  // [width]; bias may be empty
};

struct Linear {
  std::unique_ptr<PackedWeight> weight;  // [out, in]
  std::vector<float> bias;               // [out], or empty
};

// The linear layers of an MLP: those of the block, or those of a routed expert that was read for
// this use alone and goes with it.
struct MlpWeights {
  const Linear *gate = nullptr, *up = nullptr, *down = nullptr;  // gate may be null
  std::vector<Linear> own;
};

// What a block lacks of the weights of a routed expert, as they are stored, by the indices of their
// linear layers.
struct StoredExpert {
  std::shared_ptr<PageBuffer> pages;
  std::map<int, std::span<const std::byte>> weights;  // in `pages`
};

struct BlockWeights {
  BlockSteps steps;                         // what follows has its order
  std::vector<Norm> norms;                  // by NormStep::norm
  std::vector<std::vector<float>> own;      // the mixer's own tensors
  std::vector<Linear> linears;              // empty where they were not loaded
  std::unique_ptr<PackedWeight> per_layer;  // [per_layer_width, hidden], of the layer's embeddings
  WeightEdit edit;                          // for routed experts that are read when they are used
  bool stored = false;  // these are then kept as they are stored (load_stored_block)

  const Linear& linear(int index) const { return linears[static_cast<size_t>(index)]; }
};

struct Transformer::Workspace {
  std::vector<FloatBuffer> slots;                      // by BlockValue::slot
  FloatBuffer last;                                    // of head(): [rows, hidden]
  std::array<std::shared_ptr<PageBuffer>, 2> experts;  // of one that computes, and the next
};

}  // namespace lewis

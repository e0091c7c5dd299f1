// Results that the verbs of lewis.h return, and that the rooms of src/ fill.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

namespace lewis {

// Every tensor of a merge's output, accounted for.
struct MergeReport {
  uint64_t merged = 0, copied = 0, refined = 0;  // tensors
  uint64_t resumed = 0;                          // tensors that an earlier run had finished
  uint64_t parameters = 0, bytes_read = 0, bytes_written = 0, shards = 0;
  // Of a merge in parts: whether OUT is there now; shards of all parts, and those not yet written.
  bool complete = true;
  uint64_t all_shards = 0, shards_left = 0;
  std::vector<std::string> copied_tensors, refined_tensors, resumed_tensors;  // their names
  std::vector<std::string> warnings;                                          // one line each
};

// What a merge will take, known before any weight is read. Memory and sizes are in bytes.
struct MergeCost {
  uint64_t tensors = 0, parameters = 0, bytes_read = 0, bytes_written = 0, peak_memory = 0;
  uint64_t least_memory = 0;   // the smallest max_memory that the merge can keep
  int64_t vocabulary = 0;      // rows of the embeddings, where a tokenizer setting changes them
  uint64_t bytes_fetched = 0;  // of bytes_read: what comes from the hub during the merge
};

// What refinement will take.
struct RefineCost {
  uint64_t tokens = 0;        // of all texts, with those that are held out
  uint64_t peak_memory = 0;   // bytes, within the limit
  uint64_t least_memory = 0;  // bytes: the smallest max_memory that refinement can keep
  uint64_t disk = 0;          // the most bytes that the scratch folder holds
};

// A value per linear layer, by module name (X of the tensor X.weight).
using LayerValues = std::map<std::string, double>;

// What LEWIS finds for one fine-tuned model (docs/lewis.md has the formulas).
struct LayerPlan {
  LayerValues base_norm, expert_norm;  // the norms that norm_shift compares (empty for others)
  LayerValues importance;              // after normalisation and rounding
  LayerValues part_importance;         // of the parts of fused weights, which share its density
  // Routed experts that saw too few tokens to be judged by them, with their number of tokens (in
  // base or expert, whichever is less). They have the mean of the other experts of their layer.
  std::map<std::string, int64_t> few_tokens;
  LayerValues density;      // the share of the task vector that is kept
  LayerValues coefficient;  // by tensor: factor of its weight; empty: no tensor has one
};

}  // namespace lewis

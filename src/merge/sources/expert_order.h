// Routed experts in another order. A mixture computes the same when its experts change places, with
// their rows of the router. Two fine-tunes whose experts stand in different orders must not be
// merged expert by expert: this tells such orders and shows a model in that of another one.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>

#include "base/threads.h"
#include "io/tensor_source.h"

namespace lewis {

// Returns whether a source has routed experts, one by one (io/expert_tensors.h).
bool has_experts(const TensorSource& source);

struct OrderedExperts {
  std::shared_ptr<const TensorSource> source;  // as given where nothing moves
  size_t experts = 0, layers = 0;              // how many move, in how many layers
  size_t unclear = 0;                          // layers that fit `main` in no order
  std::string first_unclear;                   // "model.layers.0.mlp."
  std::string key;                             // changes with the order; "" where nothing moves
};

// Shows the experts of a model in the order of those of `main`, with the rows of their router and
// what else has one number per expert. The order is told layer by layer, from a sample of the
// values. A layer whose rows of the router are each nearest to main's row of the same number stays,
// and nothing else of it is read. For any other one an assignment is found whose sum of distances
// is the smallest, of routers and weights alike: |a - b|^2 / (|a|^2 + |b|^2) of each. It counts
// where the experts that it moves are at least kClearlyNearer times as near to main's as where they
// are. `groups`: experts that a router chooses from by groups (1: it does not) move as groups, and
// within them. Layers that `main` lacks, or has with another number of experts, stay.
OrderedExperts order_experts(std::shared_ptr<const TensorSource> source, const TensorSource& main,
                             int64_t groups, Threads& threads);
inline constexpr double kClearlyNearer = 2;

}  // namespace lewis

// The proof that an adapter is in a model: what is stored, against what the adapter asks for.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace lewis {

// How a stored tensor compares with the base and what the adapter does to it.
enum class AdapterVerdict {
  kProven,   // the change is there, but for the rounding of the stored type
  kCoarse,   // it is there, less exactly than the stored type could have it
  kRounded,  // half of the change or more is lost by rounding to the stored type
  kAbsent,   // the tensor is that of the base
  kFactor,   // the change is there, multiplied by a factor
  kMisread,  // the change is there as a program makes it that reads the adapter wrongly
  kOther,    // another change is there
  kMissing,  // the model has no such tensor, or one of another shape
  kUnasked   // the tensor differs from the base, though the adapter does not change it
};

// One tensor. With the change D = stored - base and the wanted change E (scale B A for LoRA), in
// Frobenius norms:
struct AdaptedTensor {
  std::string name;
  AdapterVerdict verdict = AdapterVerdict::kProven;
  std::string words;    // for people: "applied twice (factor 2.00)"; "" where it is proven
  double change = 0;    // |E|
  double error = 0;     // |D - E| / |E|
  double rounding = 0;  // |round(base + E) - (base + E)| / |E|: what the stored type must lose
  double factor = 1;    // <D, E> / <E, E>
  double cosine = 1;    // <D, E> / (|D| |E|)
};

// Logits of the base with the adapter beside its linear layers at run time, never merged, against
// those of the written model, on a few built-in texts.
struct LogitProof {
  std::string why_not;  // why they were not compared; "" where they were
  uint64_t texts = 0, tokens = 0;
  uint64_t beside = 0;  // linear layers with a low-rank product beside them
  uint64_t merged = 0;  // changed tensors that were merged in float32 instead (embeddings, head)
  double largest = 0, mean = 0;                    // |difference|
  double rounding_largest = 0, rounding_mean = 0;  // that rounding to the stored type explains
};

// The proof for one model of a merge, or for a model that any program has merged.
struct AdapterProof {
  std::string model;    // MODEL+ADAPTER
  std::string subject;  // what is compared with it: OUT, or what the merge reads of the model
  std::vector<AdaptedTensor> tensors;  // that the adapter changes, or that differ unasked
  uint64_t changed = 0, proven = 0;    // tensors that the adapter changes; those that hold it
  double error = 0, rounding = 0;      // over all tensors that the adapter changes
  LogitProof logits;
  bool holds = false;              // every change is there
  std::vector<std::string> lines;  // for people: on tensors, on rounding, on logits
  std::vector<std::string> warnings;
};

}  // namespace lewis

// Channel statistics of one model on one calibration set, and the file that holds them.
#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <string>
#include <vector>

#include "base/protocol.h"

namespace lewis {

// The routed experts of one block: sums of squares over the tokens that the router sent to each.
struct ExpertStatistics {
  std::vector<int64_t> tokens;  // [experts], that were counted
  std::vector<double> in;       // [experts, hidden]: input of gate and up
  std::vector<double> mid;      // [experts, ffn]: input of down

  bool operator==(const ExpertStatistics&) const = default;
};

// A part of a fused weight: as many rows, behind those of the parts before it.
struct FusedPart {
  std::string name;  // "q_proj"
  int64_t rows = 0;

  bool operator==(const FusedPart&) const = default;
};

// How much the output of a linear layer differs between the base and an expert, each on its own
// stream: sums over tokens and output channels.
struct OutputChange {
  double changed = 0;  // of (expert's output - base's)^2
  double base = 0;     // of base's output^2
  int64_t tokens = 0;  // of routed experts: those that both models sent there

  bool operator==(const OutputChange&) const = default;
};

using FusedParts = std::map<std::string, std::vector<FusedPart>>;

struct Statistics {
  // For the weight X.weight the key "X" and, per input channel j, the sum over all tokens of x_j^2.
  std::map<std::string, std::vector<double>> sum_squares;
  // Routed experts, by what their tensors' names begin with: "model.layers.3.mlp.experts".
  std::map<std::string, ExpertStatistics> experts;
  // The parts of fused weights by the end of their name: "qkv_proj", "gate_up_proj".
  FusedParts fused;
  // For the weight X.weight the key "X": sums of |x_j|, if they were asked for; no routed experts.
  std::map<std::string, std::vector<double>> sum_magnitudes{};
  // For a pair of models (calibrate/output_change.h), by the names of linear_names; then all other
  // sums are empty.
  std::map<std::string, OutputChange> output_changes{};
  uint64_t tokens = 0;  // that were counted
  uint64_t sequences = 0;
  Protocol protocol = Protocol::kClean;
  // Where they come from: "model", "model_hash", "data", "data_hash", "format", ...; for people and
  // for deciding whether a file can be used again.
  std::map<std::string, std::string> origin;
  // How the text was read (DataOptions::note), one line each; they name it as origin["data"] does.
  std::vector<std::string> notes{};

  // The number that a sum is divided by to become the s_j of the protocol: tokens (clean),
  // sequences (reference). For an expert clean divides by the tokens that it saw.
  double divisor() const {
    return static_cast<double>(protocol == Protocol::kClean ? tokens : sequences);
  }
};

// File format: safetensors; per weight a tensor "X.sum_squares", F64 [in_features]; per block of
// routed experts "X.expert_tokens", I64 [experts], "X.expert_in", F64 [experts, hidden], and
// "X.expert_mid", F64 [experts, ffn]; where there are, "X.sum_magnitudes", F64 [in_features] and
// "X.output_change", F64 [3] (changed, base, tokens); metadata: format "lewis-statistics-2",
// tokens, sequences, protocol ("clean", "reference"), the origin, "xxh3", and where weights are
// fused "fused", a JSON object like {"qkv_proj": [["q_proj", 64], ["k_proj", 32], ["v_proj", 32]]},
// and where there are notes "notes", a JSON list of texts.
// "xxh3" is a hash over the names, shapes and data of all tensors and over the other metadata. A
// file of format "lewis-statistics-1" has no hash and is otherwise the same; it can be read.
void write_statistics(const std::filesystem::path& file, const Statistics& statistics);
// Throws Error(kInput) that names the file when it is not such a file, or is damaged.
Statistics read_statistics(const std::filesystem::path& file);

// The parts as JSON text, and back; Error(kInput) that begins with `file`.
std::string fused_to_text(const FusedParts& fused);
FusedParts fused_from_text(const std::string& text, const std::string& file);

}  // namespace lewis

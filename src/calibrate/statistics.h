// Channel statistics of one model on one calibration set, and the file that holds them.
#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <string>
#include <vector>

namespace lewis {

// How the calibration text is run (DESIGN: protocols; spec: LEWIS, arXiv 2503.03874, section 3).
enum class Protocol {
  kClean,     // real tokens only, the model as it is; s_j is a mean over tokens
  kReference  // padded to the full length, each block followed by its pruned self; mean over
              // samples
};

struct Statistics {
  // For the weight X.weight the key "X" and, per input channel j, the sum over all tokens of x_j^2.
  std::map<std::string, std::vector<double>> sum_squares;
  uint64_t tokens = 0;  // that were counted
  uint64_t sequences = 0;
  Protocol protocol = Protocol::kClean;
  // Where they come from: "model", "model_hash", "data", "data_hash", "format", ...; for people and
  // for deciding whether a file can be used again.
  std::map<std::string, std::string> origin;

  // What a sum is divided by to become the s_j of the protocol: tokens (clean), sequences
  // (reference).
  double divisor() const {
    return static_cast<double>(protocol == Protocol::kClean ? tokens : sequences);
  }
};

// File format: safetensors; per weight a tensor "X.sum_squares", F64 [in_features]; metadata:
// format "lewis-statistics-1", tokens, sequences, protocol ("clean", "reference") and the origin.
void write_statistics(const std::filesystem::path& file, const Statistics& statistics);
// Throws Error(kInput) that names the file when it is not such a file.
Statistics read_statistics(const std::filesystem::path& file);

}  // namespace lewis

// Reading golden files in tests.
#pragma once

#include <cstring>
#include <fstream>
#include <iterator>
#include <span>
#include <string>
#include <vector>

#include "base/json.h"
#include "io/safetensors.h"

namespace lewis {

inline std::string file_text(const std::filesystem::path& file) {
  std::ifstream in(file, std::ios::binary);
  return {std::istreambuf_iterator<char>(in), std::istreambuf_iterator<char>()};
}

// All values of a tensor whose elements are of type T.
template <typename T>
std::vector<T> read_tensor(const SafetensorsFile& file, const std::string& name) {
  const SafetensorsFile::Entry* entry = file.find(name);
  if (!entry) throw std::runtime_error("no tensor " + name);
  std::vector<T> values(static_cast<size_t>(element_count(entry->info.shape)));
  file.read(*entry, 0, std::as_writable_bytes(std::span(values)));
  return values;
}

// The ids of golden/families/llama: two sequences of 96 tokens.
inline std::vector<std::vector<int32_t>> golden_sequences(const SafetensorsFile& golden) {
  const auto ids = read_tensor<int64_t>(golden, "input_ids");
  std::vector<std::vector<int32_t>> sequences(2);
  for (size_t i = 0; i < ids.size(); ++i) {
    sequences[i / 96].push_back(static_cast<int32_t>(ids[i]));
  }
  return sequences;
}

}  // namespace lewis

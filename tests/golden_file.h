// Reading golden files in tests.
#pragma once

#include <algorithm>
#include <cstring>
#include <filesystem>
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

// The ids of golden/families/NAME: two sequences of the same length.
inline std::vector<std::vector<int32_t>> golden_sequences(const SafetensorsFile& golden) {
  const auto ids = read_tensor<int64_t>(golden, "input_ids");
  std::vector<std::vector<int32_t>> sequences(2);
  for (size_t i = 0; i < ids.size(); ++i) {
    sequences[i / (ids.size() / 2)].push_back(static_cast<int32_t>(ids[i]));
  }
  return sequences;
}

// How far transformers' float32 values of a family are from its own in float64, where that is more
// than others' are; else 0. `what`: "logits" (largest difference) or "sums" (of squares, largest
// relative difference). golden/README.md says how it was measured.
inline double float32_noise(const std::filesystem::path& family, const std::string& what) {
  static const Json noise = parse_json(
      file_text(std::filesystem::path(LEWIS_TEST_DATA) / "golden/float32_noise.json"), "noise");
  const auto its = noise.find(family.filename().string());
  return its == noise.end() ? 0.0 : its->value(what, 0.0);
}

// The folders of golden/families and golden/variants, sorted.
inline std::vector<std::filesystem::path> golden_families() {
  std::vector<std::filesystem::path> folders;
  for (const char* kind : {"families", "variants"}) {
    const std::filesystem::path all = std::filesystem::path(LEWIS_TEST_DATA) / "golden" / kind;
    if (!std::filesystem::exists(all)) continue;
    for (const auto& entry : std::filesystem::directory_iterator(all)) {
      folders.push_back(entry.path());
    }
  }
  std::sort(folders.begin(), folders.end());
  return folders;
}

}  // namespace lewis

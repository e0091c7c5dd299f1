// Bytes on disk for tests of io.
#pragma once

#include <filesystem>
#include <fstream>
#include <iterator>
#include <span>
#include <string>
#include <vector>

#include "io/safetensors.h"

namespace lewis {

inline void write_raw(const std::filesystem::path& file, std::string_view bytes) {
  std::filesystem::create_directories(file.parent_path());
  std::ofstream(file, std::ios::binary) << bytes;
}

inline std::string read_raw(const std::filesystem::path& file) {
  std::ifstream in(file, std::ios::binary);
  return {std::istreambuf_iterator<char>(in), std::istreambuf_iterator<char>()};
}

// A safetensors file of this header and data.
inline std::string raw_safetensors(std::string_view header, std::string_view data) {
  const uint64_t length = header.size();
  return std::string(reinterpret_cast<const char*>(&length), 8) + std::string(header) +
         std::string(data);
}

// A file whose tensors hold the bytes 0, 1, 2, ... each.
inline void write_counting(const std::filesystem::path& file,
                           const std::vector<TensorInfo>& tensors, char first = 0) {
  std::filesystem::create_directories(file.parent_path());
  std::vector<std::vector<std::byte>> storage;
  std::vector<std::span<const std::byte>> data;
  for (const TensorInfo& t : tensors) {
    auto& bytes = storage.emplace_back(byte_size(t));
    for (size_t i = 0; i < bytes.size(); ++i)
      bytes[i] = static_cast<std::byte>(first + static_cast<char>(i));
  }
  for (const auto& bytes : storage) data.emplace_back(bytes);
  write_safetensors(file, tensors, data, {{"format", "pt"}});
}

}  // namespace lewis

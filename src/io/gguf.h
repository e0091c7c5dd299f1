// The GGUF format, version 3, as llama.cpp reads and writes it: a header with metadata and the
// tensors' places, then their data. https://github.com/ggml-org/ggml/blob/master/docs/gguf.md
#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <span>
#include <string>
#include <variant>
#include <vector>

#include "base/tensor.h"
#include "io/file.h"
#include "io/gguf_types.h"

namespace lewis {

// Texts, or numbers as they are stored.
struct GgufArray {
  uint32_t type = 8;  // of the elements: the place in GgufValue; 8 is text
  std::vector<std::string> texts{};
  std::vector<std::byte> numbers{};

  size_t size() const;  // elements
  bool operator==(const GgufArray&) const = default;
};

// A type's place in this list is its number in the file.
using GgufValue = std::variant<uint8_t, int8_t, uint16_t, int16_t, uint32_t, int32_t, float, bool,
                               std::string, GgufArray, uint64_t, int64_t, double>;
using GgufMetadata = std::map<std::string, GgufValue>;

// A file whose header has been proven: version, counts, lengths and types; tensors that lie one
// after the other, each aligned, without overlap and up to the end of the file.
class GgufFile {
 public:
  struct Entry {
    TensorInfo info;                 // shape: outermost first, so the reverse of the file's
    uint64_t begin = 0;              // from the start of the file
    GgufType type = GgufType::kF32;  // of blocks; then info.dtype is F32
    uint64_t bytes = 0;

    bool is_blocks() const { return bytes != byte_size(info); }
  };

  // Throws Error(kInput) that names the file, the key or tensor, what was expected and what was
  // found.
  explicit GgufFile(const std::filesystem::path& path);

  const std::filesystem::path& path() const { return path_; }
  const std::vector<Entry>& entries() const { return entries_; }  // sorted by name
  const GgufMetadata& metadata() const { return metadata_; }
  const Entry* find(std::string_view name) const;
  // Changes when the file does: its name, size, time of change and a hash of its header.
  std::string state() const;
  // Reads out.size() bytes that begin `offset` bytes into the tensor. From any thread.
  void read(const Entry& entry, uint64_t offset, std::span<std::byte> out) const;

 private:
  std::filesystem::path path_;
  File file_;
  uint64_t header_bytes_ = 0;
  std::vector<Entry> entries_;
  GgufMetadata metadata_;
};

// True for a file (no folder) that ends in .gguf or begins as a GGUF file does.
bool is_gguf_path(const std::filesystem::path& path);
// True when the file begins as a GGUF file does. Error(kInput) when it cannot be read.
bool is_gguf(const std::filesystem::path& path);

// ---- writing ----

// A tensor of a file that is to be written. shape: outermost first.
struct GgufTensor {
  std::string name;
  GgufType type = GgufType::kF32;
  Shape shape;
};

// Where each tensor of a file lies, and all that comes before the first.
struct GgufLayout {
  std::string header;
  std::vector<uint64_t> begins;  // of each tensor, from the start of the file
  uint64_t file_bytes = 0;
};
// Tensors lie in their order at multiples of 32 bytes. Error(kFailed) for what GGUF cannot hold.
GgufLayout lay_out_gguf(const GgufMetadata& metadata, const std::vector<GgufTensor>& tensors);

// Writes a small file durably (write_file_durably). `data[i]` belongs to `tensors[i]`, which are
// written in their order at multiples of 32 bytes. Error(kFailed) for what GGUF cannot hold.
void write_gguf(const std::filesystem::path& path, const GgufMetadata& metadata,
                const std::vector<TensorInfo>& tensors,
                std::span<const std::span<const std::byte>> data);

}  // namespace lewis

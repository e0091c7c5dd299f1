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

// The types of tensors; their values are ggml's numbers (enum ggml_type). io/gguf_blocks.h has
// their sizes and what blocks stand for.
enum class GgufType : uint32_t {
  kF32 = 0,
  kF16 = 1,
  kQ4_0 = 2,
  kQ4_1 = 3,
  kQ5_0 = 6,
  kQ5_1 = 7,
  kQ8_0 = 8,
  kQ2_K = 10,
  kQ3_K = 11,
  kQ4_K = 12,
  kQ5_K = 13,
  kQ6_K = 14,
  kIQ4_NL = 20,
  kIQ4_XS = 23,
  kI8 = 24,
  kI16 = 25,
  kI32 = 26,
  kI64 = 27,
  kF64 = 28,
  kBF16 = 30,
  kMXFP4 = 39
};

// A file whose header has been proven: version, counts, lengths and types; tensors that lie one
// after the other, each aligned, without overlap and up to the end of the file.
class GgufFile {
 public:
  struct Entry {
    TensorInfo info;                 // shape: outermost first, so the reverse of the file's
    uint64_t begin = 0;              // from the start of the file
    GgufType type = GgufType::kF32;  // of blocks info.dtype is F32
    uint64_t bytes = 0;
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

// F32, F16, BF16 and Q8_0 (blocks of 32 numbers of a row as signed bytes with a float16 scale) can
// be written.

constexpr int64_t kQ8Block = 32;

// A tensor of a file that is to be written. shape: outermost first.
struct GgufTensor {
  std::string name;
  GgufType type = GgufType::kF32;
  Shape shape;
};
// The bytes of `numbers` numbers of that type; of Q8_0 a multiple of kQ8Block.
uint64_t gguf_bytes(GgufType type, int64_t numbers);

// Where each tensor of a file lies, and all that comes before the first.
struct GgufLayout {
  std::string header;
  std::vector<uint64_t> begins;  // of each tensor, from the start of the file
  uint64_t file_bytes = 0;
};
// Tensors lie in their order at multiples of 32 bytes. Error(kFailed) for what GGUF cannot hold.
GgufLayout lay_out_gguf(const GgufMetadata& metadata, const std::vector<GgufTensor>& tensors);

// Rounds numbers to a type. Q8_0: the scale is the largest magnitude / 127, numbers are rounded to
// the nearest, halves away from 0 (gguf-py 0.19.0, quants.py). `out` has gguf_bytes.
void encode_gguf(GgufType type, std::span<const float> values, std::byte* out);

// Writes a small file durably (write_file_durably). `data[i]` belongs to `tensors[i]`, which are
// written in their order at multiples of 32 bytes. Error(kFailed) for what GGUF cannot hold.
void write_gguf(const std::filesystem::path& path, const GgufMetadata& metadata,
                const std::vector<TensorInfo>& tensors,
                std::span<const std::span<const std::byte>> data);

}  // namespace lewis

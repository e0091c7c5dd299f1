// The safetensors format: 8 bytes of header length (little endian), a JSON header, the data.
// https://github.com/huggingface/safetensors#format
#pragma once

#include <filesystem>
#include <map>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "base/tensor.h"
#include "io/file.h"
#include "io/range_source.h"

namespace lewis {

using Metadata = std::map<std::string, std::string>;  // the header's __metadata__

// A file whose header has been proven: length at most 100 MB, UTF-8, known dtypes, sizes that fit
// in 64 bits, offsets that tile the data without hole or overlap, exact file length.
class SafetensorsFile {
 public:
  struct Entry {
    TensorInfo info;
    uint64_t begin = 0;  // from the start of the file
  };

  // Throws Error(kInput) that names the file, the tensor, what was expected and what was found.
  explicit SafetensorsFile(const std::filesystem::path& path);
  // The same of a file that lies elsewhere; `path` is its name in messages.
  SafetensorsFile(const std::filesystem::path& path, std::shared_ptr<const RangeSource> far);

  const std::filesystem::path& path() const { return path_; }
  const std::vector<Entry>& entries() const { return entries_; }  // sorted by name
  const Metadata& metadata() const { return metadata_; }
  const std::string& header() const { return header_; }  // the JSON text
  const Entry* find(std::string_view name) const;

  // Reads out.size() bytes that begin `offset` bytes into the tensor. From any thread. A file that
  // became shorter since it was opened is an Error(kInput), never a signal.
  void read(const Entry& entry, uint64_t offset, std::span<std::byte> out) const;
  // Where the tensor lies in a file that lies elsewhere; nothing for a file on disk.
  std::optional<FilePlace> far_place(const Entry& entry) const;
  // Size and time of change of the file now, or the identity of one that lies elsewhere.
  std::string state() const;

 private:
  void read_at(uint64_t offset, std::span<std::byte> out) const {
    file_ ? file_->read_at(offset, out) : far_->read_at(offset, out);
  }
  std::string read_header(uint64_t size) const;
  void prove(uint64_t size);

  std::filesystem::path path_;
  std::optional<File> file_;
  std::shared_ptr<const RangeSource> far_;  // null: file_ is read
  std::string header_;
  std::vector<Entry> entries_;
  Metadata metadata_;
};

// Lays out and writes one file: header padded with spaces to 8 bytes, tensors in the order given,
// larger elements first so that every tensor is aligned to its element size.
class SafetensorsLayout {
 public:
  SafetensorsLayout(std::vector<TensorInfo> tensors, const Metadata& metadata);

  const std::vector<SafetensorsFile::Entry>& entries() const { return entries_; }  // in file order
  const std::string& header() const { return header_; }  // with the 8 bytes of length before it
  uint64_t file_bytes() const { return file_bytes_; }

 private:
  std::vector<SafetensorsFile::Entry> entries_;
  std::string header_;
  uint64_t file_bytes_ = 0;
};

// Writes a small file durably (write_file_durably), for example statistics. `data[i]` belongs to
// `tensors[i]`.
void write_safetensors(const std::filesystem::path& path, const std::vector<TensorInfo>& tensors,
                       std::span<const std::span<const std::byte>> data, const Metadata& metadata);

}  // namespace lewis

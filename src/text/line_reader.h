// The lines of data, one at a time and in bounded memory.
#pragma once

#include <cstddef>
#include <filesystem>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "text/data_bytes.h"

namespace lewis {

// SHA-256 of the bytes of a data file, or of all files of a data set's part (text/data_set.h), in
// hexadecimal digits, in bounded memory. Throws Error(kInput) that names the file when it cannot be
// read or has a line of more than 1 GiB, as a device can.
std::string data_file_hash(const std::filesystem::path& data);

// The lines of a file, or of the files of a data set's part. Compressed files are unpacked, and the
// rows of tables (CSV, Parquet) are JSON objects, one per line (text/data_bytes.h).
class LineReader {
 public:
  static constexpr size_t kMostBytes = size_t{64} << 20;  // of a line

  // Throws Error(kInput) that names the file when it cannot be opened.
  explicit LineReader(const std::filesystem::path& data);

  // The next line without its '\n' or "\r\n"; nothing at the end of the data. The view is valid
  // until the next call. Throws Error(kInput) that names file and line when the line has more than
  // kMostBytes or cannot be read.
  std::optional<std::string_view> next();
  size_t number() const { return number_; }  // of the line in its file, from 1
  std::string where() const;                 // "file:line" or "file, row 7", for messages

 private:
  std::optional<std::string_view> next_of_file();
  void open();
  bool fill();

  std::vector<std::filesystem::path> files_;
  size_t file_ = 0;
  std::optional<DataBytes> bytes_;
  std::string buffer_;
  size_t begin_ = 0;  // of what is not read yet in the buffer
  size_t number_ = 0;
  bool ended_ = false;
};

}  // namespace lewis

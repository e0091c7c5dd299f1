// The lines of a data file, one at a time and in bounded memory.
#pragma once

#include <cstddef>
#include <filesystem>
#include <fstream>
#include <optional>
#include <string>
#include <string_view>

namespace lewis {

// SHA-256 of a data file's bytes, in hexadecimal digits, in bounded memory. Throws Error(kInput)
// that names the file when it cannot be read or has a line of more than 1 GiB, as a device can.
std::string data_file_hash(const std::filesystem::path& file);

class LineReader {
 public:
  static constexpr size_t kMostBytes = size_t{64} << 20;  // of a line

  // Throws Error(kInput) that names the file when it cannot be opened.
  explicit LineReader(const std::filesystem::path& file);

  // The next line without its '\n' or "\r\n"; nothing at the end of the file. The view is valid
  // until the next call. Throws Error(kInput) that names file and line when the line has more than
  // kMostBytes or cannot be read.
  std::optional<std::string_view> next();
  size_t number() const { return number_; }  // of the line that was read last, from 1
  std::string where() const;                 // "file:line", for messages

 private:
  bool fill();

  std::string file_;
  std::ifstream in_;
  std::string buffer_;
  size_t begin_ = 0;  // of what is not read yet in the buffer
  size_t number_ = 0;
  bool ended_ = false;
};

}  // namespace lewis

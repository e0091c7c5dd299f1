// The bytes of one data file as text: compressed files unpacked, tables as a JSON object per row.
#pragma once

#include <cstddef>
#include <filesystem>
#include <functional>

namespace lewis {

// How the bytes of a file are to be understood, whatever its name ends in, except for CSV.
enum class DataPacking {
  kPlain,    // lines, or a text
  kPacked,   // gzip or Zstandard
  kCsv,      // by its ending: .csv, .csv.gz, .csv.zst
  kTsv,      // .tsv, and the same
  kParquet,  // read in a process of its own (text/child_process.h)
};
DataPacking packing_of(const std::filesystem::path& file);

class DataBytes {
 public:
  // Throws Error(kInput) that names the file when it cannot be opened, or is no such table.
  explicit DataBytes(const std::filesystem::path& file);

  // Fills `out` up to `size` bytes; 0 at the end only. Throws Error(kInput) that names the file
  // when it is damaged, needs more memory or time than a real one, or unpacks to a thousand times
  // its bytes (and 256 MiB).
  size_t read(char* out, size_t size) { return read_(out, size); }
  // Lines are rows of a table.
  bool is_table() const { return is_table_; }

 private:
  std::function<size_t(char* out, size_t size)> read_;
  bool is_table_ = false;
};

}  // namespace lewis

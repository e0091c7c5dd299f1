#include "text/data_bytes.h"

#include <lewis_data.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <fstream>
#include <memory>
#include <string>
#include <string_view>

#include "base/current_error.h"
#include "base/error.h"
#include "text/child_process.h"
#include "text/rust_border.h"

namespace lewis {
namespace {

namespace fs = std::filesystem;
using Read = std::function<size_t(char*, size_t)>;

constexpr size_t kRowsTogether = size_t{1} << 20;  // bytes

std::string small_letters(std::string name) {
  for (char& c : name) c = 'A' <= c && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c;
  return name;
}

// The first four bytes of a regular file; "" for anything else, which can be read only once.
std::string first_bytes(const fs::path& file) {
  std::error_code error;
  if (!fs::is_regular_file(file, error)) return "";
  std::string bytes(4, '\0');
  std::ifstream in(file, std::ios::binary);
  in.read(bytes.data(), static_cast<std::streamsize>(bytes.size()));
  bytes.resize(static_cast<size_t>(in.gcount()));
  return bytes;
}

Read read_plain(const fs::path& file) {
  errno = 0;
  const auto in = std::make_shared<std::ifstream>(file, std::ios::binary);
  if (!*in) throw file_error(file, "cannot be opened");
  return [in, name = file.string()](char* out, size_t size) {
    errno = 0;
    in->read(out, static_cast<std::streamsize>(size));
    if (in->bad()) throw file_error(name, "cannot be read");
    return static_cast<size_t>(in->gcount());
  };
}

Read read_packed(const fs::path& file) {
  const std::string name = file.string();
  LewisBytes* opened = nullptr;
  rust::Text error;
  if (!lewis_bytes_new(name.data(), name.size(), &opened, error.out()))
    throw rust::failure(error, "{}", name);
  const std::shared_ptr<LewisBytes> bytes(opened, lewis_bytes_free);
  return [bytes, name](char* out, size_t size) {
    size_t got = 0;
    rust::Text problem;
    if (!lewis_bytes_read(bytes.get(), out, size, &got, problem.out()))
      throw rust::failure(problem, "{}: cannot be unpacked", name);
    return got;
  };
}

// The rows of a table: calls give the next ones, "" at the end.
std::function<std::string()> open_rows(const std::string& name, unsigned format, const char* what) {
  LewisRows* opened = nullptr;
  rust::Text error;
  if (!lewis_rows_new(name.data(), name.size(), format, &opened, error.out()))
    throw rust::failure(error, "{}: cannot be read as {}", name, what);
  const std::shared_ptr<LewisRows> rows(opened, lewis_rows_free);
  return [rows, name, what] {
    rust::Text lines, problem;
    if (!lewis_rows_next(rows.get(), kRowsTogether, lines.out(), problem.out()))
      throw rust::failure(problem, "{}: cannot be read as {}", name, what);
    return lines.str();
  };
}

// A real file needs a few pages of a MiB per column at once, and is read at 50 MB/s or more. The
// library allocates what a file says before it knows whether that is there, and ends the process
// where there is no such memory, so it has a process of its own.
std::function<std::string()> open_parquet(const std::string& name) {
  constexpr Allowance kRows = {std::chrono::seconds(10), uint64_t{512} << 20};
  const ChildProcess child({name, kRows, [name]() -> Answer {
                              const auto next = open_rows(name, LEWIS_PARQUET, "Parquet");
                              return [next](std::string_view) { return next(); };
                            }});
  return [child] { return child.ask("", {kRows.processor, 0}); };
}

Read read_rows(std::function<std::string()> next) {
  struct State {
    std::function<std::string()> next;
    std::string lines;
    size_t begin = 0;
  };
  const auto state = std::make_shared<State>(State{std::move(next), "", 0});
  return [state](char* out, size_t size) {
    if (state->begin == state->lines.size()) {
      state->lines = state->next();
      state->begin = 0;
    }
    const size_t count = std::min(size, state->lines.size() - state->begin);
    std::memcpy(out, state->lines.data() + state->begin, count);
    state->begin += count;
    return count;
  };
}

}  // namespace

DataPacking packing_of(const fs::path& file) {
  std::string name = small_letters(file.filename().string());
  for (const std::string_view packed : {".gz", ".zst"}) {
    if (name.ends_with(packed)) name.resize(name.size() - packed.size());
  }
  std::error_code error;
  if (fs::is_regular_file(file, error)) {
    if (name.ends_with(".csv")) return DataPacking::kCsv;
    if (name.ends_with(".tsv")) return DataPacking::kTsv;
  }
  const std::string first = first_bytes(file);
  if (first == "PAR1") return DataPacking::kParquet;
  if (first.starts_with("\x1f\x8b") || first == "\x28\xb5\x2f\xfd") return DataPacking::kPacked;
  return DataPacking::kPlain;
}

DataBytes::DataBytes(const fs::path& file) {
  std::error_code error;
  if (fs::is_directory(file, error))
    throw input_error("{}: expected a file, found a folder", file.string());
  const DataPacking packing = packing_of(file);
  is_table_ = packing != DataPacking::kPlain && packing != DataPacking::kPacked;
  const std::string name = file.string();
  read_ = packing == DataPacking::kPlain     ? read_plain(file)
          : packing == DataPacking::kPacked  ? read_packed(file)
          : packing == DataPacking::kParquet ? read_rows(open_parquet(name))
          : packing == DataPacking::kCsv     ? read_rows(open_rows(name, LEWIS_CSV, "CSV"))
                                             : read_rows(open_rows(name, LEWIS_TSV, "TSV"));
}

}  // namespace lewis

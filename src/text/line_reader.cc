#include "text/line_reader.h"

#include <algorithm>
#include <cerrno>
#include <fstream>

#include "base/current_error.h"
#include "base/error.h"
#include "base/hash.h"
#include "text/data_set.h"

namespace lewis {
namespace {

constexpr size_t kPiece = size_t{1} << 20;

void open_data(const std::filesystem::path& file, std::ifstream& in) {
  std::error_code ec;
  if (std::filesystem::is_directory(file, ec))
    throw input_error("{}: expected a file, found a folder", file.string());
  errno = 0;
  in.open(file, std::ios::binary);
  if (!in) throw file_error(file, "cannot be opened");
}

void add_file(const std::filesystem::path& file, Sha256& hash) {
  constexpr size_t kMostLine = size_t{1} << 30;
  std::ifstream in;
  open_data(file, in);
  size_t line = 0;
  for (std::string piece(kPiece, '\0');;) {
    in.read(piece.data(), kPiece);
    if (in.bad()) throw file_error(file, "cannot be read");
    const std::string_view read(piece.data(), static_cast<size_t>(in.gcount()));
    if (read.empty()) return;
    hash.add(read);
    const size_t end = read.rfind('\n');
    line = end == read.npos ? line + read.size() : read.size() - end - 1;
    if (line <= kMostLine) continue;
    throw input_error("{}: a line has more than 1 GiB: is this a text file?", file.string());
  }
}

}  // namespace

std::string data_file_hash(const std::filesystem::path& data) {
  const auto files = data_files(data);
  Sha256 hash;
  for (const auto& file : files) {
    add_file(file, hash);
    if (files.size() > 1) hash.add(std::string_view("\0", 1));
  }
  return hash.hex();
}

LineReader::LineReader(const std::filesystem::path& data) : files_(data_files(data)) { open(); }

void LineReader::open() {
  bytes_.emplace(files_[file_]);
  buffer_.clear();
  begin_ = number_ = 0;
  ended_ = false;
}

std::string LineReader::where() const {
  return fmt::format("{}{}{}", files_[file_].string(), bytes_->is_table() ? ", row " : ":",
                     number_);
}

// Reads one more piece behind what is left in the buffer; false at the end of the file.
bool LineReader::fill() {
  if (ended_) return false;
  buffer_.erase(0, begin_);
  begin_ = 0;
  const size_t old = buffer_.size();
  buffer_.resize(old + kPiece);
  buffer_.resize(old + bytes_->read(buffer_.data() + old, kPiece));
  ended_ = buffer_.size() == old;
  return !ended_;
}

std::optional<std::string_view> LineReader::next_of_file() {
  ++number_;
  size_t end = buffer_.find('\n', begin_);
  while (end == std::string::npos) {
    const size_t searched = buffer_.size() - begin_;
    if (searched > kMostBytes) {
      throw input_error("{}: the line has more than {} MiB: is this a text file of lines?", where(),
                        kMostBytes >> 20);
    }
    if (!fill()) break;
    end = buffer_.find('\n', searched);
  }
  if (begin_ == buffer_.size()) return std::nullopt;
  const size_t size = std::min(end, buffer_.size()) - begin_;
  std::string_view line = std::string_view(buffer_).substr(begin_, size);
  begin_ = std::min(begin_ + size + 1, buffer_.size());
  if (line.ends_with('\r')) line.remove_suffix(1);
  return line;
}

std::optional<std::string_view> LineReader::next() {
  for (;;) {
    if (const auto line = next_of_file()) return line;
    if (file_ + 1 == files_.size()) return std::nullopt;
    ++file_;
    open();
  }
}

}  // namespace lewis

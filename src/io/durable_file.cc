// write_file_durably of io/file.h.
#include <charconv>
#include <optional>

#include "base/current_error.h"
#include "base/error.h"
#include "io/file.h"

namespace lewis {
namespace {

namespace fs = std::filesystem;

// Where an output goes.
struct Target {
  fs::path file;                  // to be replaced, or a device or pipe
  std::optional<int> descriptor;  // an open file of this process instead
  fs::file_status status;         // of the file
};

// The N of /dev/fd/N and its like.
std::optional<int> descriptor_of(const fs::path& path) {
  if (path == "/dev/stdout") return 1;
  if (path == "/dev/stderr") return 2;
  if (path.parent_path() != "/dev/fd" && path.parent_path() != "/proc/self/fd") return std::nullopt;
  const std::string name = path.filename().string();
  int number = 0;
  const auto [end, error] = std::from_chars(name.data(), name.data() + name.size(), number);
  if (error != std::errc() || end != name.data() + name.size() || number < 0) return std::nullopt;
  return number;
}

// Follows links, also those to files that are not there yet.
Target target_of(const fs::path& path) {
  constexpr int kMostLinks = 40;
  Target target{path, std::nullopt, {}};
  for (int links = 0; links <= kMostLinks; ++links) {
    target.descriptor = descriptor_of(target.file);
    if (target.descriptor) return target;
    std::error_code error;
    target.status = fs::symlink_status(target.file, error);
    if (error && target.status.type() != fs::file_type::not_found)
      throw usage_error("{}: cannot be written: {}", path.string(), error.message());
    if (!fs::is_symlink(target.status)) return target;
    const fs::path to = fs::read_symlink(target.file, error);
    if (error) throw usage_error("{}: cannot be written: {}", path.string(), error.message());
    target.file = to.is_absolute() ? to : target.file.parent_path() / to;
  }
  throw usage_error("{}: is a link that leads nowhere", path.string());
}

// Devices and pipes have no places to write at: the content is made elsewhere first.
void write_into(const File& stream, const std::function<void(const File&)>& write) {
  constexpr uint64_t kStreamPiece = 1 << 20;
  const File content = File::create_in_memory(stream.path());
  write(content);
  const uint64_t size = content.size();
  std::string piece;
  for (uint64_t at = 0; at < size; at += piece.size()) {
    piece.resize(std::min(kStreamPiece, size - at));
    content.read_at(at, std::as_writable_bytes(std::span(piece)));
    stream.append(piece);
  }
}

void replace_file(const Target& target, const std::function<void(const File&)>& write) {
  const File file = File::create_beside(target.file);
  try {
    if (fs::exists(target.status))
      file.set_mode(static_cast<unsigned>(target.status.permissions()) & 0777u);
    write(file);
    file.sync();
    if (::rename(file.path().c_str(), target.file.c_str()) != 0)
      throw file_error(target.file, "cannot be replaced");
  } catch (...) {
    std::error_code ignored;
    fs::remove(file.path(), ignored);
    throw;
  }
  sync_folder(target.file.has_parent_path() ? target.file.parent_path() : fs::path("."));
}

}  // namespace

void write_file_durably(const fs::path& path, const std::function<void(const File&)>& write) {
  const Target target = target_of(path);
  if (target.descriptor) return write_into(File::duplicate(*target.descriptor, path), write);
  if (fs::is_directory(target.status))
    throw usage_error("{}: is a folder, expected a file", path.string());
  if (fs::exists(target.status) && !fs::is_regular_file(target.status))
    return write_into(File::open_stream(target.file), write);
  replace_file(target, write);
}

void write_file_durably(const fs::path& path, std::string_view content) {
  write_file_durably(
      path, [&](const File& file) { file.write_at(0, std::as_bytes(std::span(content))); });
}

}  // namespace lewis

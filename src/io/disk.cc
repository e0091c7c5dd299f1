#include "io/disk.h"

#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <vector>

#include "base/current_error.h"
#include "base/error.h"
#include "io/file.h"

namespace lewis {
namespace {

constexpr uint64_t kSample = 32 << 20;

double seconds_since(std::chrono::steady_clock::time_point begin) {
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
}

}  // namespace

std::filesystem::path existing_folder(const std::filesystem::path& path) {
  std::filesystem::path folder = std::filesystem::absolute(path).parent_path();
  while (!std::filesystem::exists(folder)) folder = folder.parent_path();
  return folder;
}

std::optional<std::filesystem::path> private_temporary_folder(std::string_view name) {
  std::error_code error;
  const auto temporary = std::filesystem::temp_directory_path(error);
  if (error) return std::nullopt;
  const auto folder = temporary / fmt::format("{}-{}", name, ::geteuid());
  ::mkdir(folder.c_str(), 0700);  // or it is there already
  struct stat info {};
  const bool ours = ::lstat(folder.c_str(), &info) == 0 && S_ISDIR(info.st_mode) &&
                    info.st_uid == ::geteuid() && (info.st_mode & 0777) == 0700;
  return ours ? std::optional(folder) : std::nullopt;
}

std::filesystem::path make_unique_folder(const std::filesystem::path& folder,
                                         std::string_view name) {
  std::error_code error;
  std::filesystem::create_directories(folder, error);
  std::string unique = (folder / fmt::format("{}-XXXXXX", name)).string();
  if (error) throw file_error(unique, "cannot be made", error);
  if (!::mkdtemp(unique.data())) throw file_error(unique, "cannot be made");
  return unique;
}

void remove_abandoned_folders(const std::filesystem::path& folder, std::string_view name,
                              std::string_view marker) {
  std::error_code error;
  std::vector<std::filesystem::path> found;
  for (std::filesystem::directory_iterator it(folder, error), end; !error && it != end;
       it.increment(error)) {
    std::error_code ignored;
    if (it->path().filename().string().starts_with(fmt::format("{}-", name)) &&
        std::filesystem::is_directory(it->symlink_status(ignored)) &&
        std::filesystem::is_regular_file(
            std::filesystem::symlink_status(it->path() / marker, ignored)))
      found.push_back(it->path());
  }
  for (const std::filesystem::path& path : found) {
    std::error_code ignored;
    try {
      const File lock = File::open_append(path / marker);
      if (lock.try_lock()) std::filesystem::remove_all(path, ignored);
    } catch (const Error&) {  // it is another user's
    }
  }
}

DiskSpeed measure_disk(const std::filesystem::path& source, const std::filesystem::path& folder) {
  DiskSpeed speed;
  const File in = File::open_read(source);
  std::vector<std::byte> bytes(std::min(kSample, in.size()));
  const uint64_t middle = (in.size() - bytes.size()) / 2;
  auto begin = std::chrono::steady_clock::now();
  in.read_at(middle, bytes);
  speed.read = static_cast<double>(bytes.size()) / std::max(1e-6, seconds_since(begin));

  const File out = File::create_beside(folder / "lewis-probe");
  std::filesystem::remove(out.path());  // it needs no name, and leaves none behind
  begin = std::chrono::steady_clock::now();
  out.write_at(0, bytes);
  out.sync();
  speed.write = static_cast<double>(bytes.size()) / std::max(1e-6, seconds_since(begin));
  return speed;
}

}  // namespace lewis

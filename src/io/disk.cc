#include "io/disk.h"

#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <vector>

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

DiskSpeed measure_disk(const std::filesystem::path& source, const std::filesystem::path& folder) {
  DiskSpeed speed;
  const File in = File::open_read(source);
  std::vector<std::byte> bytes(std::min(kSample, in.size()));
  const uint64_t middle = (in.size() - bytes.size()) / 2;
  auto begin = std::chrono::steady_clock::now();
  in.read_at(middle, bytes);
  speed.read = static_cast<double>(bytes.size()) / std::max(1e-6, seconds_since(begin));

  const std::filesystem::path probe = folder / (".lewis-probe-" + std::to_string(::getpid()));
  begin = std::chrono::steady_clock::now();
  try {
    const File out = File::create(probe);
    out.write_at(0, bytes);
    out.sync();
    speed.write = static_cast<double>(bytes.size()) / std::max(1e-6, seconds_since(begin));
  } catch (...) {
    std::filesystem::remove(probe);
    throw;
  }
  std::filesystem::remove(probe);
  return speed;
}

}  // namespace lewis

#include "io/manifest.h"

#include <algorithm>
#include <set>

#include "base/dump_json.h"
#include "base/error.h"
#include "base/hash.h"
#include "base/json.h"
#include "base/whole_file.h"
#include "io/model_folder.h"
#include "io/safetensors.h"

namespace lewis {
namespace {

namespace fs = std::filesystem;

constexpr const char* kFormat = "lewis-manifest-1";
constexpr uint64_t kPiece = 8 << 20;
constexpr uint64_t kMostOfManifest = 1 << 30;

template <typename F>
void for_pieces(const File& file, uint64_t begin, uint64_t size, const F& f) {
  std::vector<std::byte> piece;
  for (uint64_t at = 0; at < size; at += piece.size()) {
    piece.resize(std::min(kPiece, size - at));
    file.read_at(begin + at, piece);
    f(piece);
  }
}

// The first tensor of a shard whose bytes are not those that were written.
std::string changed_tensor(const fs::path& path, const ShardRecord& shard) {
  const SafetensorsFile header(path);
  const File file = File::open_read(path);
  for (const auto& entry : header.entries()) {
    const auto it = shard.tensors.find(entry.info.name);
    if (it == shard.tensors.end() ||
        it->second != xxh3_of(file, entry.begin, byte_size(entry.info)))
      return entry.info.name;
  }
  return "";
}

}  // namespace

std::string Manifest::text() const {
  Json all = {{"format", kFormat}, {"plan", plan}, {"about", *about}, {"files", files}};
  all["shards"] = Json::array();
  for (const ShardRecord& s : shards) all["shards"].push_back(to_json(s));
  all["sha256"] = sha256_hex(dump_json(all, 1));
  return dump_json(all, 1) + "\n";
}

Manifest read_manifest(const fs::path& file) {
  const FileHandle opened = open_file_within(file.parent_path(), file.filename());
  const std::string text = read_whole_file(opened, file, kMostOfManifest);
  Manifest m;
  try {
    const Json json = parse_json(text, file.string());
    if (json.at("format") != kFormat) throw std::runtime_error("format");
    m.plan = json.at("plan").get<std::string>();
    m.about = json.at("about");
    m.files = json.at("files").get<std::map<std::string, std::string>>();
    for (const Json& s : json.at("shards")) m.shards.push_back(shard_from_json(s));
    for (const auto& [name, _] : m.files) {
      if (!is_inner_name(name)) throw std::runtime_error("bad name");
    }
  } catch (const std::exception&) {
    throw input_error("{}: is no manifest of lewis ({})", file.string(), kFormat);
  }
  if (m.text() != text) {
    throw Error(ExitCode::kVerify, fmt::format("{}: is not what was written", file.string()));
  }
  return m;
}

Json to_json(const ShardRecord& s) {
  return {{"shard", s.name}, {"bytes", s.bytes}, {"sha256", s.sha256}, {"tensors", s.tensors}};
}

ShardRecord shard_from_json(const Json& record) {
  ShardRecord s;
  try {
    s.name = record.at("shard").get<std::string>();
    s.bytes = record.at("bytes").get<uint64_t>();
    s.sha256 = record.at("sha256").get<std::string>();
    s.tensors = record.at("tensors").get<std::map<std::string, std::string>>();
  } catch (const Json::exception&) {
    throw input_error("not the record of a shard: {}", record.dump());
  }
  // A name that comes from a file must not lead out of the folder.
  if (!is_inner_name(s.name) || s.name.find('/') != std::string::npos)
    throw input_error("not the name of a shard: '{}'", s.name);
  return s;
}

std::string file_sha256(const File& file) {
  Sha256 hash;
  for_pieces(file, 0, file.size(), [&](std::span<const std::byte> piece) { hash.add(piece); });
  return hash.hex();
}

std::string xxh3_of(const File& file, uint64_t begin, uint64_t size) {
  Xxh3 hash;
  for_pieces(file, begin, size, [&](std::span<const std::byte> piece) { hash.add(piece); });
  return hash_text(hash.value());
}

std::string changed_part(const fs::path& path, const ShardRecord& shard) {
  try {
    const std::string tensor = changed_tensor(path, shard);
    if (!tensor.empty()) return "tensor " + tensor;
  } catch (const Error&) {
  }
  return "its header";
}

bool shard_matches(const fs::path& folder, const ShardRecord& shard) {
  const fs::path path = folder / shard.name;
  if (!fs::is_regular_file(path) || fs::file_size(path) != shard.bytes) return false;
  return file_sha256(File::open_read(path)) == shard.sha256;
}

namespace {

void verify_file(const fs::path& path, const std::string& sha256) {
  if (!fs::exists(fs::symlink_status(path)))
    throw Error(ExitCode::kVerify, fmt::format("{}: is missing", path.string()));
  if (file_sha256(File::open_read(path)) == sha256) return;
  throw Error(ExitCode::kVerify,
              fmt::format("{}: is not what was written (SHA-256 differs)", path.string()));
}

// Refuses what a loader would read beside the files of the manifest, or instead of them.
void verify_no_others(const fs::path& folder, const Manifest& manifest) {
  std::set<std::string_view> known = {kManifestName};
  for (const auto& [name, _] : manifest.files) known.insert(name);
  for (const ShardRecord& s : manifest.shards) known.insert(s.name);
  for (const std::string& name : files_below(folder)) {
    if (known.contains(name)) continue;
    const fs::path path = folder / name;
    std::error_code ignored;
    const bool folder_link = fs::is_symlink(path, ignored) && fs::is_directory(path, ignored);
    if (!folder_link && !is_read_by_loaders(name)) continue;
    throw Error(ExitCode::kVerify,
                fmt::format("{}: was not written by the merge, and programs that load the folder "
                            "may read it; move it away",
                            path.string()));
  }
}

}  // namespace

uint64_t verify_folder(const fs::path& folder, Threads& threads, const ProgressFn& progress) {
  const Manifest m = read_manifest(folder / kManifestName);
  uint64_t total = 0, done = 0;
  for (const ShardRecord& s : m.shards) total += s.bytes;
  verify_no_others(folder, m);
  for (const auto& [name, sha256] : m.files) verify_file(folder / name, sha256);
  // One shard per thread, one wave after the other, so that this thread reports the progress.
  for (size_t first = 0; first < m.shards.size(); first += threads.count()) {
    const size_t count = std::min(threads.count(), m.shards.size() - first);
    threads.run(count, [&](size_t i) {
      const ShardRecord& s = m.shards[first + i];
      const fs::path path = folder / s.name;
      if (!fs::exists(path)) {
        throw Error(ExitCode::kVerify, fmt::format("{}: is missing", path.string()));
      }
      if (shard_matches(folder, s)) return;
      throw Error(ExitCode::kVerify, fmt::format("{}: {} is not what was written (SHA-256 differs)",
                                                 path.string(), changed_part(path, s)));
    });
    for (size_t i = first; i < first + count; ++i) done += m.shards[i].bytes;
    if (progress) progress({"verifying", "bytes", done, total});
  }
  return total;
}

void verify_sizes(const fs::path& folder) {
  const Manifest m = read_manifest(folder / kManifestName);
  verify_no_others(folder, m);
  for (const auto& [name, sha256] : m.files) verify_file(folder / name, sha256);
  for (const ShardRecord& s : m.shards) {
    const fs::path path = folder / s.name;
    std::error_code error;
    const uint64_t bytes = fs::file_size(path, error);
    if (!error && bytes == s.bytes) continue;
    throw Error(ExitCode::kVerify, error ? fmt::format("{}: is missing", path.string())
                                         : fmt::format("{}: has {} bytes, {} were written",
                                                       path.string(), bytes, s.bytes));
  }
}

}  // namespace lewis

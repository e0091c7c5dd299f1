#include "io/model_writer.h"

#include <fcntl.h>
#include <linux/fs.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>

#include "base/error.h"
#include "base/json.h"
#include "io/file.h"

namespace lewis {
namespace {

namespace fs = std::filesystem;

constexpr const char* kMarker =
    ".lewis-partial";  // tells an OUT.partial of ours from anything else

// True when `inner` is `outer` or lies below it; both are resolved.
bool is_within(const fs::path& inner, const fs::path& outer) {
  const auto [a, b] = std::mismatch(outer.begin(), outer.end(), inner.begin(), inner.end());
  return a == outer.end();
}

// The folder without a '/' at its end, links resolved as far as it exists.
fs::path resolved(const fs::path& path) {
  fs::path whole = fs::weakly_canonical(fs::absolute(path));
  return whole.has_filename() ? whole : whole.parent_path();
}

bool is_model_file(const std::string& name) {
  static constexpr std::array<std::string_view, 9> kEnds = {
      ".safetensors", ".json", ".md", ".yml", ".yaml", ".model", ".txt", ".jinja", ".html"};
  return name == ".gitattributes" ||
         std::any_of(kEnds.begin(), kEnds.end(),
                     [&](std::string_view end) { return name.ends_with(end); });
}

// Swaps two folders in one step where the file system can, else through a third name.
void replace_folder(const fs::path& fresh, const fs::path& out) {
  const fs::path old = out.string() + ".old-" + std::to_string(::getpid());
  if (::syscall(SYS_renameat2, AT_FDCWD, fresh.c_str(), AT_FDCWD, out.c_str(), RENAME_EXCHANGE) ==
      0) {
    fs::rename(fresh, old);
  } else {
    fs::rename(out, old);
    fs::rename(fresh, out);
  }
  fs::remove_all(old);
}

std::string shard_name(size_t index, size_t count) {
  return count == 1 ? "model.safetensors"
                    : fmt::format("model-{:05}-of-{:05}.safetensors", index + 1, count);
}

std::vector<std::vector<TensorInfo>> split(std::vector<TensorInfo> tensors, uint64_t shard_bytes) {
  std::sort(tensors.begin(), tensors.end(),
            [](const auto& a, const auto& b) { return a.name < b.name; });
  std::vector<std::vector<TensorInfo>> shards(1);
  uint64_t bytes = 0;
  for (TensorInfo& t : tensors) {
    const uint64_t size = byte_size(t);
    if (!shards.back().empty() && bytes + size > shard_bytes) {
      shards.emplace_back();
      bytes = 0;
    }
    bytes += size;
    shards.back().push_back(std::move(t));
  }
  return shards;
}

}  // namespace

std::span<const std::string_view> tokenizer_file_names() {
  static constexpr std::array<std::string_view, 12> kNames = {"tokenizer.json",
                                                              "tokenizer_config.json",
                                                              "special_tokens_map.json",
                                                              "added_tokens.json",
                                                              "vocab.json",
                                                              "merges.txt",
                                                              "vocab.txt",
                                                              "tokenizer.model",
                                                              "spiece.model",
                                                              "tekken.json",
                                                              "chat_template.jinja",
                                                              "chat_template.json"};
  return kNames;
}

void refuse_out_in_sources(const fs::path& out, std::span<const fs::path> sources) {
  const fs::path target = resolved(out);
  for (const fs::path& source : sources) {
    const fs::path folder = resolved(source);
    if (is_within(target, folder) || is_within(folder, target)) {
      throw usage_error("{}: OUT and the source {} lie in each other; sources are never written to",
                        out.string(), source.string());
    }
  }
}

void refuse_existing_out(const fs::path& out, bool force) {
  if (!fs::exists(fs::symlink_status(out))) return;
  if (!force) throw usage_error("{}: exists already; --force replaces it", out.string());
  if (!fs::is_directory(fs::symlink_status(out))) {
    throw usage_error("{}: is not a folder, so --force does not replace it", out.string());
  }
  for (const auto& entry : fs::directory_iterator(out)) {
    const std::string name = entry.path().filename().string();
    if (entry.is_directory() || !is_model_file(name)) {
      throw usage_error(
          "{}: holds '{}', which is no file of a model folder, so --force does not replace it",
          out.string(), name);
    }
  }
}

struct ModelWriter::Shard {
  Shard(std::string shard_name, File shard_file)
      : name(std::move(shard_name)), file(std::move(shard_file)) {}

  std::string name;
  File file;
  std::vector<std::string> tensors;
  std::atomic<uint64_t> missing = 0;  // bytes of tensors not yet written
};

ModelWriter::ModelWriter(fs::path out, std::vector<TensorInfo> tensors,
                         const WriterOptions& options)
    : out_(resolved(out)), partial_(out_.string() + ".partial"), force_(options.force) {
  refuse_existing_out(out_, force_);
  const auto parts = split(std::move(tensors), options.shard_bytes);
  std::vector<SafetensorsLayout> layouts;
  uint64_t needed = 0;
  for (const auto& part : parts)
    needed += layouts.emplace_back(part, Metadata{{"format", "pt"}}).file_bytes();
  if (fs::exists(partial_)) {
    if (!fs::exists(partial_ / kMarker)) {
      throw usage_error("{}: exists and was not left by lewis; move it away", partial_.string());
    }
    fs::remove_all(partial_);
  }
  try {
    fs::create_directories(partial_);
  } catch (const fs::filesystem_error& e) {
    throw resource_error("{}: cannot be made: {}", partial_.string(), e.code().message());
  }
  try {
    File::create(partial_ / kMarker);
    const fs::space_info space = fs::space(partial_);
    if (space.available < needed) {
      throw resource_error("{}: needs {} bytes of disk, {} are free", out_.string(), needed,
                           space.available);
    }
    for (size_t s = 0; s < layouts.size(); ++s) {
      const std::string name = shard_name(s, layouts.size());
      auto shard = std::make_unique<Shard>(name, File::create(partial_ / (name + ".tmp")));
      shard->file.allocate(layouts[s].file_bytes());
      shard->file.write_at(0, std::as_bytes(std::span(layouts[s].header())));
      for (const auto& entry : layouts[s].entries()) {
        shard->missing += byte_size(entry.info);
        shard->tensors.push_back(entry.info.name);
        tensors_.push_back(entry.info);
        shard_of_.push_back(s);
        begin_.push_back(entry.begin);
      }
      tensor_bytes_ += shard->missing;
      shards_.push_back(std::move(shard));
      if (shards_.back()->missing == 0) finish(*shards_.back());
    }
  } catch (...) {
    std::error_code ignored;
    fs::remove_all(partial_, ignored);
    throw;
  }
}

ModelWriter::~ModelWriter() {
  if (committed_) return;
  shards_.clear();
  std::error_code ignored;
  fs::remove_all(partial_, ignored);
}

void ModelWriter::write(size_t tensor, uint64_t offset, std::span<const std::byte> bytes) {
  if (bytes.empty()) return;
  Shard& shard = *shards_[shard_of_.at(tensor)];
  shard.file.write_at(begin_[tensor] + offset, bytes);
  if (shard.missing.fetch_sub(bytes.size()) == bytes.size()) finish(shard);
}

void ModelWriter::finish(Shard& shard) {
  shard.file.sync();
  fs::rename(partial_ / (shard.name + ".tmp"), partial_ / shard.name);
}

void ModelWriter::add_file(const std::string& name, std::string_view content) {
  write_file_durably(partial_ / name, std::as_bytes(std::span(content)));
}

void ModelWriter::commit() {
  Json weight_map = Json::object();
  std::vector<std::pair<std::string, std::string>> pairs;
  for (const auto& shard : shards_) {
    if (shard->missing != 0) {
      throw failed_error("{}: {} bytes of shard {} were never written", out_.string(),
                         shard->missing.load(), shard->name);
    }
    for (const std::string& t : shard->tensors) pairs.emplace_back(t, shard->name);
  }
  std::sort(pairs.begin(), pairs.end());
  for (const auto& [tensor, shard] : pairs) weight_map[tensor] = shard;
  if (shards_.size() > 1) {
    const Json index = {{"metadata", {{"total_size", tensor_bytes_}}}, {"weight_map", weight_map}};
    add_file("model.safetensors.index.json", index.dump(2) + "\n");
  }
  fs::remove(partial_ / kMarker);
  sync_folder(partial_);
  refuse_existing_out(out_, force_);
  if (fs::exists(out_)) {
    replace_folder(partial_, out_);
  } else {
    fs::rename(partial_, out_);
  }
  committed_ = true;
  sync_folder(out_.parent_path());
}

}  // namespace lewis

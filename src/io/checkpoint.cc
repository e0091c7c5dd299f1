#include "io/checkpoint.h"

#include <sys/stat.h>

#include <algorithm>
#include <map>

#include "base/error.h"
#include "base/hash.h"
#include "base/json.h"
#include "base/text_file.h"

namespace lewis {
namespace {

namespace fs = std::filesystem;

// Shard names of an index: a plain name in the folder (which may be a link into a cache's blobs).
void check_shard_name(const std::string& name, const fs::path& index) {
  if (name.empty() || name == "." || name == ".." || name.find('/') != std::string::npos ||
      name.find('\\') != std::string::npos || name.find('\0') != std::string::npos) {
    throw input_error("{}: shard name '{}' leaves the folder", index.string(), name);
  }
}

std::map<std::string, std::string> read_index(const fs::path& index) {
  const Json json = read_json(index);
  if (!json.is_object() || !json.contains("weight_map") || !json["weight_map"].is_object()) {
    throw input_error("{}: expected an object with weight_map", index.string());
  }
  std::map<std::string, std::string> shard_of;
  for (const auto& [tensor, shard] : json["weight_map"].items()) {
    if (!shard.is_string())
      throw input_error("{}: the shard of tensor {} is not a name", index.string(), tensor);
    check_shard_name(shard.get<std::string>(), index);
    shard_of[tensor] = shard.get<std::string>();
  }
  if (shard_of.empty()) throw input_error("{}: weight_map is empty", index.string());
  return shard_of;
}

[[noreturn]] void refuse_folder(const fs::path& folder) {
  for (const auto& entry : fs::directory_iterator(folder)) {
    const std::string name = entry.path().filename().string();
    if (name.ends_with(".bin") || name.ends_with(".pt") || name.ends_with(".pth")) {
      throw input_error(
          "{}: a pickle can run any code and is never opened; convert it first: python -c \"from "
          "transformers import AutoModelForCausalLM as M; "
          "M.from_pretrained('{}').save_pretrained('NEW')\"",
          entry.path().string(), folder.string());
    }
    if (name == "adapter_config.json")
      throw input_error("{}: a LoRA adapter, expected a whole model", folder.string());
    if (name.ends_with(".gguf"))
      throw input_error("{}: GGUF is not read, expected safetensors", entry.path().string());
  }
  throw input_error("{}: holds neither model.safetensors nor model.safetensors.index.json",
                    folder.string());
}

}  // namespace

Checkpoint Checkpoint::open(const fs::path& folder) {
  if (!fs::is_directory(folder)) throw input_error("{}: no such folder", folder.string());
  Checkpoint c;
  c.folder_ = folder;
  c.label_ = folder.string();
  const fs::path single = folder / "model.safetensors",
                 index = folder / "model.safetensors.index.json";
  std::map<std::string, std::string> shard_of_tensor;
  std::vector<std::string> names;
  if (fs::exists(single)) {
    names = {"model.safetensors"};
  } else if (fs::exists(index)) {
    shard_of_tensor = read_index(index);
    for (const auto& [_, shard] : shard_of_tensor) names.push_back(shard);
    std::sort(names.begin(), names.end());
    names.erase(std::unique(names.begin(), names.end()), names.end());
  } else {
    refuse_folder(folder);
  }
  std::map<std::string, std::pair<TensorInfo, size_t>> all;
  for (size_t s = 0; s < names.size(); ++s) {
    if (!fs::exists(folder / names[s])) {
      throw input_error("{}: shard is missing (named by {})", (folder / names[s]).string(),
                        index.string());
    }
    c.shards_.push_back(std::make_unique<SafetensorsFile>(folder / names[s]));
    for (const auto& entry : c.shards_[s]->entries()) {
      const auto it = shard_of_tensor.find(entry.info.name);
      if (!shard_of_tensor.empty() && (it == shard_of_tensor.end() || it->second != names[s])) {
        throw input_error("{}: tensor {} is in this shard, but the index {}",
                          c.shards_[s]->path().string(), entry.info.name,
                          it == shard_of_tensor.end() ? "does not name it" : "says " + it->second);
      }
      all[entry.info.name] = {entry.info, s};
    }
  }
  for (const auto& [tensor, shard] : shard_of_tensor) {
    if (!all.contains(tensor))
      throw input_error("{}: tensor {} is not in shard {}", index.string(), tensor, shard);
  }
  for (auto& [_, where] : all) {
    c.tensors_.push_back(std::move(where.first));
    c.shard_of_.push_back(where.second);
  }
  if (fs::exists(folder / "config.json")) {
    c.config_ = std::make_shared<const Json>(read_json(folder / "config.json"));
    if (!c.config_->is_object())
      throw input_error("{}: not a JSON object", (folder / "config.json").string());
  }
  return c;
}

void Checkpoint::read(const TensorInfo& tensor, int64_t first, std::span<std::byte> out) const {
  const auto it =
      std::lower_bound(tensors_.begin(), tensors_.end(), tensor.name,
                       [](const TensorInfo& t, const std::string& n) { return t.name < n; });
  const SafetensorsFile& shard = *shards_[shard_of_[static_cast<size_t>(it - tensors_.begin())]];
  shard.read(*shard.find(tensor.name), static_cast<uint64_t>(first) * dtype_size(tensor.dtype),
             out);
}

const Json& Checkpoint::config() const {
  if (!config_) throw input_error("{}: is missing", (folder_ / "config.json").string());
  return *config_;
}

std::vector<fs::path> Checkpoint::shard_paths() const {
  std::vector<fs::path> paths;
  for (const auto& shard : shards_) paths.push_back(shard->path());
  return paths;
}

uint64_t Checkpoint::total_bytes() const {
  uint64_t bytes = 0;
  for (const TensorInfo& t : tensors_) bytes += byte_size(t);
  return bytes;
}

std::string Checkpoint::fingerprint() const {
  Sha256 hash;
  for (const auto& shard : shards_) {
    struct stat info {};
    if (::stat(shard->path().c_str(), &info) != 0)
      throw input_error("{}: is gone", shard->path().string());
    hash.add(fmt::format("{} {} {}.{:09}\n", shard->path().filename().string(), info.st_size,
                         info.st_mtim.tv_sec, info.st_mtim.tv_nsec));
    hash.add(shard->header());
  }
  if (config_) hash.add(read_text_file(folder_ / "config.json"));
  return hash.hex();
}

}  // namespace lewis

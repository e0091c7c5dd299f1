#include "io/shard_file.h"

#include <algorithm>
#include <future>
#include <map>

#include "base/error.h"
#include "base/json.h"

namespace lewis {
namespace {

// Pieces of this size or more are hashed while they are written, which costs a thread.
constexpr size_t kHashedBeside = 1 << 20;

std::string name_of_shard(size_t index, size_t count) {
  return count == 1 ? "model.safetensors"
                    : fmt::format("model-{:05}-of-{:05}.safetensors", index + 1, count);
}

std::vector<std::vector<TensorInfo>> split_by_size(std::vector<TensorInfo> tensors,
                                                   uint64_t shard_bytes) {
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

ShardFile::ShardFile(std::string name, const std::vector<TensorInfo>& tensors)
    : layout_(tensors, Metadata{{"format", "pt"}}) {
  record_.name = std::move(name);
  for (const auto& entry : layout_.entries()) missing_ += byte_size(entry.info);
}

void ShardFile::take_over(ShardRecord record) {
  done_ = true;
  missing_ = 0;
  record_ = std::move(record);
}

void ShardFile::open(const std::filesystem::path& temporary) {
  file_ = File::create(temporary);
  file_->allocate(layout_.file_bytes());
  writer_.emplace(*file_);
  const auto header = std::as_bytes(std::span(layout_.header()));
  writer_->write(0, header);
  hash_.add(header);
  hashed_ = header.size();
}

// Adds the next bytes of the shard to its hashes.
void ShardFile::add_to_hashes(const SafetensorsFile::Entry& entry, uint64_t offset,
                              std::span<const std::byte> bytes) {
  hash_.add(bytes);
  hashed_ += bytes.size();
  if (offset == 0) tensor_hash_.reset();
  tensor_hash_.add(bytes);
  if (offset + bytes.size() == byte_size(entry.info))
    record_.tensors[entry.info.name] = hash_text(tensor_hash_.value());
}

bool ShardFile::write(size_t entry, uint64_t offset, std::span<const std::byte> bytes) {
  if (bytes.empty()) return false;
  const SafetensorsFile::Entry& tensor = entries().at(entry);
  const uint64_t at = tensor.begin + offset;
  {
    std::lock_guard lock(mutex_);
    std::future<void> hashing;
    if (hashed_ == at) {
      // Hashing takes about as long as the disk does.
      hashing =
          std::async(bytes.size() < kHashedBeside ? std::launch::deferred : std::launch::async,
                     [&] { add_to_hashes(tensor, offset, bytes); });
    }
    writer_->write(at, bytes);
    if (hashing.valid()) hashing.get();
  }
  return missing_.fetch_sub(bytes.size()) == bytes.size();
}

void ShardFile::close() {
  writer_->flush();
  file_->sync();
  record_.bytes = layout_.file_bytes();
  record_.sha256 = hashed_ == record_.bytes ? hash_.hex() : file_sha256(*file_);
  for (const auto& entry : entries()) {  // those that did not come in order
    std::string& hash = record_.tensors[entry.info.name];
    if (hash.empty()) hash = xxh3_of(*file_, entry.begin, byte_size(entry.info));
  }
  writer_.reset();
  file_.reset();
}

size_t ShardedTensors::lead(size_t tensor, uint64_t offset) const {
  const Place& place = places.at(tensor);
  return (shards[place.shard]->entries()[place.entry].begin + offset) % File::kDirectAlignment;
}

ShardedTensors sharded(std::vector<TensorInfo> tensors, uint64_t shard_bytes) {
  ShardedTensors model;
  const auto parts = split_by_size(std::move(tensors), shard_bytes);
  for (size_t s = 0; s < parts.size(); ++s) {
    const ShardFile& shard = *model.shards.emplace_back(
        std::make_unique<ShardFile>(name_of_shard(s, parts.size()), parts[s]));
    for (size_t e = 0; e < shard.entries().size(); ++e) {
      model.tensors.push_back(shard.entries()[e].info);
      model.places.push_back({s, e});
    }
    model.bytes += shard.missing();
  }
  return model;
}

std::string index_text(const ShardedTensors& model) {
  std::map<std::string, std::string> shard_of_tensor;
  for (size_t t = 0; t < model.tensors.size(); ++t)
    shard_of_tensor[model.tensors[t].name] = model.shards[model.places[t].shard]->name();
  const Json index = {{"metadata", {{"total_size", model.bytes}}}, {"weight_map", shard_of_tensor}};
  return index.dump(2) + "\n";
}

}  // namespace lewis

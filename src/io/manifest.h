// The record of a model folder that lewis wrote, by which it can be resumed and checked:
// OUT.partial/manifest.jsonl (io/json_lines.h) grows by one record per finished shard, and
// OUT/lewis_manifest.json is written when the folder is complete.
#pragma once

#include <filesystem>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "base/json_fwd.h"
#include "base/progress.h"
#include "base/threads.h"
#include "io/file.h"

namespace lewis {

struct ShardRecord {
  std::string name;
  uint64_t bytes = 0;
  std::string sha256;
  std::map<std::string, std::string> tensors;  // name -> XXH3 (64 bits) of its bytes
};

struct Manifest {
  std::string plan;                   // hash of all that decides the bytes, the program included
  JsonBox about = JsonBox::object();  // for people: version, seed, sources
  std::vector<ShardRecord> shards;
  std::map<std::string, std::string> files;  // other files -> SHA-256

  // The file's content, with a hash of itself, so that a changed bit in it is seen as well.
  std::string text() const;
};

constexpr std::string_view kManifestName = "lewis_manifest.json";
constexpr std::string_view kJournalName = "manifest.jsonl";

// Throws Error(kInput) when the file is missing or is no manifest, Error(kVerify) when it was
// changed.
Manifest read_manifest(const std::filesystem::path& file);

// A shard as a record of a journal, and back. Error(kInput) for a record that is no shard's.
Json to_json(const ShardRecord& shard);
ShardRecord shard_from_json(const Json& record);

// Compares every byte of a model folder with its manifest; returns the bytes read. Throws
// Error(kVerify) that names file and tensor, or a file that the manifest does not name and a loader
// might read (is_read_by_loaders); Error(kInput) when there is no manifest.
uint64_t verify_folder(const std::filesystem::path& folder, Threads& threads,
                       const ProgressFn& progress);

// What can be seen of that without reading the shards: that they have the bytes of the manifest by
// number, and that the small files are what was written. Throws as verify_folder.
void verify_sizes(const std::filesystem::path& folder);

// SHA-256 of a whole file; XXH3 (64 bits) of a part of one; both as hexadecimal digits.
std::string file_sha256(const File& file);
std::string xxh3_of(const File& file, uint64_t begin, uint64_t size);

// Where a shard differs from its record: "tensor NAME" or "its header".
std::string changed_part(const std::filesystem::path& path, const ShardRecord& shard);

// True when the file is there and its bytes are those of the record.
bool shard_matches(const std::filesystem::path& folder, const ShardRecord& shard);

}  // namespace lewis

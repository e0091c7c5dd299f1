// The verb push: what merge() has written becomes a repository of the hub.
#include "hub/push.h"

#include <cstdlib>

#include "app/interrupts.h"
#include "app/run.h"
#include "base/error.h"
#include "base/hash.h"
#include "base/text_file.h"
#include "io/hub_cache.h"
#include "io/manifest.h"

namespace lewis {
namespace {

namespace fs = std::filesystem;

std::vector<FileToPush> files_of(const fs::path& out) {
  const Manifest manifest = read_manifest(out / kManifestName);
  std::vector<FileToPush> files;
  const auto add = [&](const std::string& name, const std::string& sha256) {
    files.push_back({name, out / name, fs::file_size(out / name), sha256});
  };
  for (const ShardRecord& shard : manifest.shards) add(shard.name, shard.sha256);
  for (const auto& [name, sha256] : manifest.files) add(name, sha256);
  for (const std::string& name : {std::string(kManifestName), std::string("report.html")}) {
    std::error_code error;
    if (!manifest.files.contains(name) && fs::is_regular_file(out / name, error))
      add(name, sha256_hex(read_text_file(out / name)));
  }
  return files;
}

// Folders that only this machine has: the user's home, the working directory, the hub's cache.
std::vector<std::string> folders_of_this_machine() {
  std::vector<std::string> folders = {fs::current_path().string(), hub_cache_folder().string()};
  if (const char* home = std::getenv("HOME")) folders.emplace_back(home);
  std::erase_if(folders, [](const std::string& folder) { return folder.size() < 2; });
  return folders;
}

bool is_text(const std::string& name) {
  return name.ends_with(".md") || name.ends_with(".yml") || name.ends_with(".html") ||
         (name.ends_with(".json") && name != "tokenizer.json");
}

// What is pushed is read by everybody.
void refuse_private_paths(const std::vector<FileToPush>& files) {
  constexpr uint64_t kMostOfText = 64 << 20;
  const auto folders = folders_of_this_machine();
  for (const FileToPush& file : files) {
    if (!is_text(file.name) || file.size > kMostOfText) continue;
    const std::string text = read_text_file(file.path);
    for (const std::string& folder : folders) {
      if (text.find(folder + "/") == text.npos) continue;
      throw usage_error(
          "{}: names {}, a folder of this machine, which everybody would read; merge again with "
          "ids or relative paths in the recipe, or push with --force",
          file.path.string(), folder);
    }
  }
}

}  // namespace

PushResult push(const PushJob& job, const RunContext& context) {
  const auto id = parse_repo_id(job.id);
  if (!id || id->name.find('/') == std::string::npos)
    throw usage_error("{}: expected owner/name, or owner/name@branch", job.id);
  if (job.hub.offline) throw usage_error("{}: HF_HUB_OFFLINE forbids to push", job.id);
  RunResources run(context);
  verify_folder(job.out, run.threads, run.progress);
  const std::vector<FileToPush> files = files_of(job.out);
  if (!job.force) refuse_private_paths(files);
  const HubClient hub(
      job.hub, [flag = context.interrupted] { return flag && *flag; },
      [notice = context.notice](const std::string& line) {
        if (notice) notice({true, "lewis: note: " + line});
      });
  const PushOptions options{job.is_private, "Upload a merge by lewis"};
  const Pushed pushed = push_files(hub, *id, files, options, run.progress);
  return {pushed.url, pushed.commit, pushed.files, pushed.bytes};
}

}  // namespace lewis

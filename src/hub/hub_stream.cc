#include "hub/hub_stream.h"

#include <algorithm>

#include "base/error.h"
#include "base/threads.h"

namespace lewis {

namespace fs = std::filesystem;

HubStream::HubStream(HubOptions options, StopFn stop, std::function<void(const std::string&)> note,
                     ProgressFn progress)
    : fetcher_(std::move(options), std::move(stop), std::move(note), std::move(progress)),
      ahead_(fetcher_.client()) {}

std::optional<FetchedModel> HubStream::add(const std::string& id, ModelPart part) {
  const auto repo = parse_repo_id(id);
  auto model = fetcher_.fetch(id, part == ModelPart::kWhole ? ModelPart::kWithoutWeights : part);
  if (!model || model->far.empty()) return model;
  for (const RemoteFile& file : model->far) {
    auto& place = files_[model->folder / file.name];
    if (!place) place = std::make_unique<HubFile>(client(), ahead_, *repo, model->commit, file);
  }
  folders_.insert(model->folder);
  ids_.push_back(id);
  return model;
}

void HubStream::fetch_heads() const {
  std::vector<const HubFile*> files;
  for (const auto& [path, file] : files_) files.push_back(file.get());
  if (files.empty()) return;
  Threads threads(std::min(std::max<size_t>(1, client().options().connections), files.size()));
  threads.run(files.size(), [&](size_t i) { files[i]->head(); });
}

Downloaded HubStream::download_all() {
  Downloaded all;
  for (const std::string& id : ids_) {
    if (const auto model = fetcher_.fetch(id)) {
      all.files += model->downloaded.files;
      all.bytes += model->downloaded.bytes;
    }
  }
  files_.clear();
  folders_.clear();
  ids_.clear();
  return all;
}

uint64_t HubStream::far_bytes() const {
  uint64_t bytes = 0;
  for (const auto& [path, file] : files_) bytes += file->size();
  return bytes;
}

std::shared_ptr<const RangeSource> HubStream::find(const fs::path& path) const {
  const auto file = files_.find(path);
  if (file == files_.end()) return nullptr;
  // The file is there as long as all of this.
  return {shared_from_this(), file->second.get()};
}

}  // namespace lewis

// Models of the hub whose weights are read while they are worked on, and never stored.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "hub/fetch.h"
#include "hub/hub_read_ahead.h"
#include "io/range_source.h"

namespace lewis {

class HubStream final : public FarFiles, public std::enable_shared_from_this<HubStream> {
 public:
  HubStream(HubOptions options, StopFn stop, std::function<void(const std::string&)> note,
            ProgressFn progress);

  // Makes the cache hold what a model or a tokenizer needs besides the weights of a model; where it
  // holds those as well, nothing of the model is streamed. Returns and throws as
  // ModelFetcher::fetch.
  std::optional<FetchedModel> add(const std::string& id, ModelPart part);
  // Fetches the headers of all files of weights, over several connections. Throws as
  // HubFile::fetch.
  void fetch_heads() const;
  // Downloads the weights of all models that were added; nothing is streamed afterwards.
  Downloaded download_all();

  // The bytes of weights that are streamed.
  uint64_t far_bytes() const;
  bool has_files_in(const std::filesystem::path& folder) const { return folders_.contains(folder); }
  std::shared_ptr<const RangeSource> find(const std::filesystem::path& path) const override;
  const HubClient& client() const { return fetcher_.client(); }
  ModelFetcher& fetcher() { return fetcher_; }  // for what is not streamed

 private:
  ModelFetcher fetcher_;
  HubReadAhead ahead_;
  std::map<std::filesystem::path, std::unique_ptr<HubFile>> files_;
  std::set<std::filesystem::path> folders_;
  std::vector<std::string> ids_;  // of models with files_
};

}  // namespace lewis

// Models and data sets that Hugging Face's tools have already downloaded. Nothing is fetched.
#pragma once

#include <filesystem>
#include <optional>
#include <string_view>

namespace lewis {

// HF_HUB_CACHE, else HUGGINGFACE_HUB_CACHE (its older name), else HF_HOME/hub, else
// XDG_CACHE_HOME/huggingface/hub, else ~/.cache/huggingface/hub.
std::filesystem::path hub_cache_folder();

// The folder of "owner/name" or "name", or of either with "@revision" (a branch, a tag, a commit or
// "refs/pr/7"; main if not given): models--owner--name/snapshots/COMMIT. Nothing when the cache has
// no such model or revision, or when the id leads out of the cache.
std::optional<std::filesystem::path> find_in_hub_cache(std::string_view id);
// The same of a data set: datasets--owner--name/snapshots/COMMIT.
std::optional<std::filesystem::path> find_data_set_in_hub_cache(std::string_view id);

// Data as a user names them: a file, a folder, or the id of a data set, the last two also with
// "#CONFIG/SPLIT" behind them (text/data_set.h). An id becomes its folder in the cache; what exists
// is returned as it is, and so is what is not found.
std::filesystem::path resolved_data(const std::filesystem::path& data);

}  // namespace lewis

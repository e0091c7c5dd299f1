// Models that Hugging Face's tools have already downloaded. Nothing is fetched.
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

}  // namespace lewis

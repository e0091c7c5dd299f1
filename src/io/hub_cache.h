// Models that Hugging Face's tools have already downloaded. Nothing is fetched.
#pragma once

#include <filesystem>
#include <optional>
#include <string_view>

namespace lewis {

// HF_HUB_CACHE, else HF_HOME/hub, else XDG_CACHE_HOME/huggingface/hub, else
// ~/.cache/huggingface/hub.
std::filesystem::path hub_cache_folder();

// The folder of "owner/name" or "owner/name@revision" (a branch, a tag or a commit; main if not
// given): models--owner--name/snapshots/COMMIT.
std::optional<std::filesystem::path> find_in_hub_cache(std::string_view id);

}  // namespace lewis

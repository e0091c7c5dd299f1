// The hub's cache on disk, which Hugging Face's tools fill, and src/hub too. Nothing is fetched
// here.
#pragma once

#include <filesystem>
#include <optional>
#include <string>
#include <string_view>

namespace lewis {

// HF_HUB_CACHE, else HUGGINGFACE_HUB_CACHE (its older name), else HF_HOME/hub, else
// XDG_CACHE_HOME/huggingface/hub, else ~/.cache/huggingface/hub.
std::filesystem::path hub_cache_folder();

// True for "owner/name" or "name", or either with "@revision", whose parts have letters, digits,
// '-', '_' and '.' and lead out of no folder. A name of a file with weights or of a recipe
// ("math.gguf") is none.
bool is_hub_id(std::string_view id);

// True for the id of a data set, with or without "@revision": is_hub_id, and no name of a data file
// ("math/test.jsonl").
bool is_data_set_id(std::string_view id);

// The folder of "owner/name" or "name", or of either with "@revision" (a branch, a tag, a commit or
// "refs/pr/7"; main if not given): models--owner--name/snapshots/COMMIT. Nothing when the cache has
// no such model or revision, or when the id leads out of the cache.
std::optional<std::filesystem::path> find_in_hub_cache(std::string_view id);
// The branch that has the hub's own conversion of a data set to Parquet.
inline constexpr std::string_view kConvertedRevision = "refs/convert/parquet";
// The same of a data set: datasets--owner--name/snapshots/COMMIT. Where main is not there, the
// conversion to Parquet is taken.
std::optional<std::filesystem::path> find_data_set_in_hub_cache(std::string_view id);

// Data as a user names them: a file, a folder, or the id of a data set, the last two also with
// "#CONFIG/SPLIT" behind them (text/data_set.h). An id becomes its folder in the cache; what exists
// is returned as it is, and so is what is not found.
std::filesystem::path resolved_data(const std::filesystem::path& data);

// The "owner/name" or "name" of a snapshot's folder in a cache; "" for any other folder.
std::string hub_id_of(const std::filesystem::path& folder);

}  // namespace lewis

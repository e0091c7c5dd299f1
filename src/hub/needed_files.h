// Which files of a repository lewis needs: weights as safetensors, and the small files that
// describe them. Never code, never pickles.
#pragma once

#include <array>
#include <string_view>
#include <vector>

#include "hub/hub_client.h"

namespace lewis {

// The small files: config.json, the index, tokenizer, templates, processors, adapter_config.json,
// generation_config.json, and README.md, which states the licence.
std::vector<RemoteFile> small_files(const RemoteRepo& repo);
// Of the tokenizer and its templates alone.
std::vector<RemoteFile> tokenizer_files(const RemoteRepo& repo);

// The files with weights: model.safetensors, or the shards that the index names (its text; "" if
// the repository has none), or those of an adapter (kAdapterFiles). Error(kInput) that says what
// there is instead when there is none of these.
std::vector<RemoteFile> weight_files(const RemoteRepo& repo, std::string_view index);

// The file of that name, or null.
const RemoteFile* find_file(const RemoteRepo& repo, std::string_view name);

inline constexpr std::string_view kIndexFile = "model.safetensors.index.json";
inline constexpr std::string_view kWeightsFile = "model.safetensors";
// An adapter's: PEFT's, mlx-lm's.
inline constexpr std::array<std::string_view, 2> kAdapterFiles = {"adapter_model.safetensors",
                                                                  "adapters.safetensors"};

}  // namespace lewis

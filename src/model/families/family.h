// The seam between what all families share and their kins, a file each: a row per family, and what
// several kins read alike.
#pragma once

#include <initializer_list>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/json.h"
#include "model/config_reader.h"
#include "model/model_spec.h"

namespace lewis {

struct Family {
  std::string_view model_type;
  // The values that transformers assumes where config.json is silent, beyond kDefaults
  // (families.cc). (The default of tie_word_embeddings is in io/tied_head.cc.)
  std::string_view defaults;
  // The keys of kMechanisms that the family reads, between blanks.
  std::string_view mechanisms;
  // Reads what only this family has; everything else is in `spec` already.
  void (*read_own)(const ConfigReader& config, ModelSpec& spec);
  // Keys of the rope's object that other families do not have (read_rope), between blanks.
  std::string_view rope_keys = "";
  // Makes the names of keys those that read_common reads; `all` has the defaults, too.
  void (*rename)(std::string_view file, Json& all) = nullptr;

  bool reads(std::string_view key) const {
    return fmt::format(" {} ", mechanisms).find(fmt::format(" {} ", key)) != std::string::npos;
  }
};

inline constexpr int64_t kMaxHeadDim = 4096;  // far above any model's; larger is a broken file

// common.cc: what all families read, by a family's row. `config` has its defaults, too.
// Refuses settings that change what a model computes and that the family does not read.
void refuse_unknown_mechanisms(const ConfigReader& config, const Family& family);
// Reads the sizes, the norm, the activation and the rope.
ModelSpec read_common(const ConfigReader& config, const Family& family);
// A family that does not read layer_types may still find them in its file: what they say must be
// what it does.
void check_layer_types(const ConfigReader& config, const Family& family, const ModelSpec& spec);

// parts.cc: what several kins share.
// The kinds of the layers under `key`, each one of `known`: from the list of config.json where the
// file has it, else by the family's rule (io/layer_kinds.h).
std::vector<std::string> read_kinds(const ConfigReader& config, const ModelSpec& spec,
                                    std::string_view key,
                                    std::initializer_list<std::string_view> known);
// Windows of a family whose layers see all before them or the last sliding_window of it.
void read_windows(const ConfigReader& config, ModelSpec& spec);
// One window for all layers, where the file has one.
void read_window_of_all(const ConfigReader& config, ModelSpec& spec);
// Biases as Llama has them.
void read_llama(const ConfigReader& config, ModelSpec& spec);
// Biases and multipliers of Granite.
void read_granite(const ConfigReader& config, ModelSpec& spec);
// The three positions of a token, of which images make use, are one in text.
void check_mrope(const ConfigReader& config, ModelSpec& spec);
// A file that says nothing of prediction layers may have one behind the others.
void expect_mtp_layers(const ConfigReader& config, ModelSpec& spec);

// experts.cc: mixtures of experts.
// How many experts there are and are chosen; every layer has some.
void read_experts(const ConfigReader& config, ModelSpec& spec);
// Experts with the names of Mixtral's, as wide as intermediate_size says.
void read_mixtral_experts(const ConfigReader& config, ModelSpec& spec);
// Groups of experts, of which only the best are chosen from.
void read_groups(const ConfigReader& config, ModelSpec& spec);
// The router of DeepSeek-V3 and what it shares with its like: sigmoids, a correction for the
// choice, groups of experts.
void read_grouped_router(const ConfigReader& config, ModelSpec& spec);
// The experts of DeepSeek and its like: which layers have them, their sizes, and one that every
// token goes through.
void read_deepseek_experts(const ConfigReader& config, ModelSpec& spec);

}  // namespace lewis

// The files of a model folder, by their names.
#pragma once

#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

#include "base/model_files.h"

namespace lewis {

// Names relative to the folder, with '/': of the tokenizer and the chat templates
// ("tokenizer.json", "qwen.tiktoken", "additional_chat_templates/tool_use.jinja").
bool is_tokenizer_file(std::string_view name);
// Of what stands before and behind the language model: processors of images, audio and video, and
// the modules of an embedding model ("preprocessor_config.json", "1_Pooling/config.json").
bool is_processor_file(std::string_view name);
// Weights in any format.
bool is_weights_file(std::string_view name);
// What a program may read or run that loads the folder as a model: weights, code, and what
// describes either.
bool is_read_by_loaders(std::string_view name);
// A name that stays in its folder: no "..", no empty part, not absolute.
bool is_inner_name(std::string_view name);

// All files of a folder and of the folders below it, as sorted relative names. Links to folders are
// listed like files and not followed; what begins with a dot is left out. Error(kInput) when a
// folder cannot be read or holds more than 100,000 files.
std::vector<std::string> files_below(const std::filesystem::path& folder);

// The tokenizer's files of a folder, with its changes.
std::vector<std::string> tokenizer_files_of(const ModelFiles& files);

// What of a model's folder belongs into a merge beside config.json and generation_config.json.
struct Companions {
  std::vector<std::string> copied;
  std::vector<std::string> notes;  // none, or one line that lists what is not copied
};
Companions companions_of(const ModelFiles& files, bool tokenizer);

}  // namespace lewis

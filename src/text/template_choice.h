// The chat template of a merged model: `chat_template` of a recipe.
#pragma once

#include <filesystem>
#include <map>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/json.h"

namespace lewis {

// alpaca, chatml, exaone, llama3, mistral: written for lewis from the formats' public descriptions.
std::span<const std::string_view> builtin_template_names();
std::string_view builtin_template(std::string_view name);

// What a recipe asks for: "auto", the name of a built-in template, or Jinja source (with a '{' and
// at least 20 characters). The template is a text, or a list of {name, template}; null when
// "auto" finds none. "auto": the one that most of the folders have; of equally many the one of
// `preferred`, else of the first. Throws Error(kUsage) for anything else, and when Jinja source
// does not compile.
Json choose_template(const std::string& wanted, const std::vector<std::filesystem::path>& folders,
                     size_t preferred);

// The files of `folder` that change when it gets the template: name -> content. Into
// chat_template.jinja if the folder has one and the template is a text, else into
// tokenizer_config.json, of which `files` may hold a newer content. `dropped`: files to leave out.
void set_template(const std::filesystem::path& folder, const Json& chat_template,
                  std::map<std::string, std::string>& files, std::vector<std::string>& dropped);

}  // namespace lewis

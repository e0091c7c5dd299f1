// The chat template of a merged model: `chat_template` of a recipe.
#pragma once

#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/json_fwd.h"
#include "base/model_files.h"

namespace lewis {

// alpaca, chatml, exaone, llama3, mistral: written for lewis from the formats' public descriptions.
std::span<const std::string_view> builtin_template_names();
std::string_view builtin_template(std::string_view name);

// The template that a recipe asks for: "auto", the name of a built-in one, or Jinja source (with a
// '{' and at least 20 characters). The template is a text, or a list of {name, template}; null when
// "auto" finds none. "auto": the one that most of the models have; of equally many the one of
// `preferred`, else of the first. Throws Error(kUsage) for anything else, and when Jinja source
// does not compile.
Json choose_template(const std::string& wanted, const std::vector<ModelFiles>& models,
                     size_t preferred);

// Puts the template into chat_template.jinja if there is one and the template is a text, else into
// tokenizer_config.json.
void set_template(ModelFiles& files, const Json& chat_template);

}  // namespace lewis

// The keys general.* of a GGUF file: what a model is called, made of and allowed.
#pragma once

#include <filesystem>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "app/gguf/export.h"
#include "io/gguf.h"
#include "recipe/recipe.h"

namespace lewis {

// The fields of a model card that have one text or a list of them.
using CardFields = std::map<std::string, std::vector<std::string>, std::less<>>;

// Those of the front matter of a README.md; none where it has no such thing, or no readable one.
CardFields fields_of_card(std::string_view card);

// Those that the card of a merge has (merge/model_card.h): its parents, the licence that their
// licences make, tags.
CardFields fields_of_recipe(const Recipe& recipe);

// general.name and its parts by `id`, "owner/name" or "name", where the card has none; authors,
// licence, tags, languages, parents and data sets by the card, under the names of llama.cpp's
// converter; size_label by the number of parameters.
GgufMetadata general_keys(std::string_view id, const CardFields& card, const GgufExport& e);

}  // namespace lewis

#include "app/gguf/general/general_keys.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <initializer_list>

#include "app/gguf/general/model_id.h"
#include "base/error.h"
#include "base/printable.h"
#include "merge/model_origin.h"
#include "merge/public_names.h"
#include "yaml/yaml.h"

namespace lewis {
namespace {

constexpr std::string_view kHub = "https://huggingface.co/";

struct ParameterCounts {
  uint64_t all = 0, shared = 0, of_one_expert = 0, experts = 0;
};

ParameterCounts count_parameters(const GgufExport& e) {
  ParameterCounts p;
  uint64_t layers = 0, experts = 0;
  for (const ExportedTensor& t : e.tensors) {
    const auto count = static_cast<uint64_t>(element_count(t.tensor.shape));
    p.all += count;
    if (t.tensor.name.find("_exps.") == std::string::npos || t.tensor.shape.size() < 3) {
      p.shared += count;
      continue;
    }
    const auto of_layer = static_cast<uint64_t>(t.tensor.shape[0]);
    p.of_one_expert += count / of_layer;
    experts += of_layer;
    ++layers;
  }
  for (const MadeTensor& t : e.made) {
    p.all += t.values.size();
    p.shared += t.values.size();
  }
  if (layers > 0) p.experts = experts / layers;
  return p;
}

// Two digits and a unit: "1.1B", "135M", "8.0K".
std::string rounded(uint64_t parameters) {
  struct Unit {
    double above, scale;
    char name;
  };
  const auto count = static_cast<double>(parameters);
  for (const auto& [above, scale, name] :
       {Unit{1e12, 1e-12, 'T'}, {1e9, 1e-9, 'B'}, {1e6, 1e-6, 'M'}, {-1, 1e-3, 'K'}}) {
    if (count <= above) continue;
    const double scaled = count * scale;
    const bool one_digit = std::nearbyint(scaled) < 10;
    return fmt::format("{:.{}f}{}", scaled, std::nearbyint(scaled) == 0 ? 2 : (one_digit ? 1 : 0),
                       name);
  }
  return "";
}

std::string size_label(const ParameterCounts& p) {
  if (p.experts == 0) return rounded(p.all);
  return fmt::format("{}x{}", p.experts, rounded(p.shared + p.of_one_expert));
}

const std::vector<std::string>* find(const CardFields& card,
                                     std::initializer_list<std::string_view> keys) {
  for (const std::string_view key : keys) {
    const auto found = card.find(key);
    if (found != card.end() && !found->second.empty()) return &found->second;
  }
  return nullptr;
}

// Parents and data sets: "general.base_model.0.name" and the like.
void add_sources(std::string_view kind, const std::vector<std::string>& ids, uint64_t parameters,
                 GgufMetadata& m) {
  m[fmt::format("general.{}.count", kind)] = static_cast<uint32_t>(ids.size());
  for (size_t i = 0; i < ids.size(); ++i) {
    const auto set = [&](std::string_view key, const std::string& value) {
      if (!value.empty()) m[fmt::format("general.{}.{}.{}", kind, i, key)] = value;
    };
    std::string id = ids[i];
    const bool is_address = id.find("://") != id.npos;
    if (is_address) set("repo_url", id);
    if (is_address && !id.starts_with(kHub)) continue;
    if (is_address) id = id.substr(kHub.size());
    const ModelIdParts parts = parts_of_id(id, parameters);
    set("name", title_of(parts.name));
    set("organization", title_of(parts.organization));
    set("version", parts.version);
    if (!parts.organization.empty()) set("repo_url", std::string(kHub) + id);
  }
}

// The name and its parts; what the card says comes first.
void add_names(std::string_view id, const CardFields& card, const ParameterCounts& p,
               GgufMetadata& m) {
  const ModelIdParts parts = parts_of_id(id, p.all);
  struct Named {
    const char* key;
    std::initializer_list<std::string_view> of_card;
    std::string otherwise;
  };
  for (const auto& [key, of_card, otherwise] :
       {Named{"name", {"name", "model_name"}, title_of(parts.name)},
        {"author", {"author", "model_author", "model_creator"}, ""},
        {"version", {"version", "model_version"}, parts.version},
        {"organization", {"organization", "model_organization"}, title_of(parts.organization)},
        {"description", {"description", "model_description"}, ""},
        {"finetune", {"finetune", "model_finetune"}, parts.finetune},
        {"basename", {"basename", "model_basename", "model_type"}, parts.basename},
        {"size_label",
         {"size_label", "model_size_label"},
         parts.size_label.empty() ? size_label(p) : parts.size_label},
        {"source.url", {"url", "model_url"}, ""},
        {"source.doi", {"doi", "model_doi"}, ""},
        {"source.repo_url", {"repo_url", "model_repo_url"}, ""},
        {"license.name", {"license_name"}, ""},
        {"license.link", {"license_link"}, ""}}) {
    const auto* said = find(card, of_card);
    const std::string value = said ? said->front() : otherwise;
    if (!value.empty()) m[fmt::format("general.{}", key)] = value;
  }
}

void add_list(const char* key, const CardFields& card, std::string_view first,
              std::string_view second, GgufMetadata& m) {
  GgufArray list;
  for (const std::string_view name : {first, second}) {
    if (const auto* said = find(card, {name}))
      list.texts.insert(list.texts.end(), said->begin(), said->end());
  }
  if (!list.texts.empty()) m[key] = std::move(list);
}

}  // namespace

CardFields fields_of_card(std::string_view card) {
  CardFields fields;
  if (!card.starts_with("---\n") && !card.starts_with("---\r\n")) return fields;
  const size_t begin = card.find('\n') + 1, end = card.find("\n---", begin);
  if (end == card.npos) return fields;
  try {
    const auto documents = parse_yaml(card.substr(begin, end - begin), "README.md");
    if (documents.empty()) return fields;
    for (const auto& [key, value] : documents[0].entries) {
      std::vector<std::string> texts;
      const auto add = [&](const YamlNode& node) {
        if (node.kind == YamlNode::Kind::kScalar && !node.is_null() && !node.scalar.empty())
          texts.push_back(printable(node.scalar));
      };
      add(value);
      for (const YamlNode& item : value.items) add(item);
      if (!texts.empty()) fields[key.scalar] = std::move(texts);
    }
  } catch (const Error&) {
    fields.clear();
  }
  return fields;
}

CardFields fields_of_recipe(const Recipe& recipe) {
  const PublicNames names(recipe);
  CardFields fields;
  for (const ModelOrigin& origin : names.origins()) fields["base_model"].push_back(origin.id);
  const Licence licence = derived_licence(names.origins());
  if (!licence.name.empty()) {
    const bool known = is_known_licence(licence.name);
    fields["license"] = {known ? licence.name : "other"};
    if (!known) fields["license_name"] = {licence.name};
  }
  fields["tags"] = {"mergekit", "merge", "lewis"};
  return fields;
}

GgufMetadata general_keys(std::string_view id, const CardFields& card, const GgufExport& e) {
  const ParameterCounts p = count_parameters(e);
  GgufMetadata m;
  m["general.type"] = std::string("model");
  m["general.quantization_version"] = uint32_t{2};
  add_names(id, card, p, m);
  if (const auto* licences = find(card, {"license"}))
    m["general.license"] = fmt::format("{}", fmt::join(*licences, ","));
  add_list("general.tags", card, "tags", "pipeline_tag", m);
  add_list("general.languages", card, "languages", "language", m);
  if (const auto* parents = find(card, {"base_model", "base_models", "base_model_sources"}))
    add_sources("base_model", *parents, p.all, m);
  if (const auto* sets = find(card, {"datasets", "dataset", "dataset_sources"}))
    add_sources("dataset", *sets, p.all, m);
  return m;
}

}  // namespace lewis

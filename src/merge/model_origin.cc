#include "merge/model_origin.h"

#include <algorithm>
#include <array>
#include <filesystem>

#include "base/config_json.h"
#include "base/error.h"
#include "base/json.h"
#include "base/model_files.h"
#include "io/gguf.h"
#include "io/hub_cache.h"
#include "yaml/yaml.h"

namespace lewis {
namespace {

namespace fs = std::filesystem;

// How a licence binds what is derived from a work. Later ones bind more.
enum class Kind {
  kFree,
  kNotice,
  kApache,
  kAttribution,
  kModel,
  kShareAlike,
  kNonCommercial,
  kNoDerivatives
};
struct KnownLicence {
  std::string_view name;
  Kind kind;
};
// Ends with '*': every licence that begins so. The first that fits counts.
constexpr std::array<KnownLicence, 27> kLicences = {{
    {"cc0-1.0", Kind::kFree},
    {"unlicense", Kind::kFree},
    {"wtfpl", Kind::kFree},
    {"mit", Kind::kNotice},
    {"isc", Kind::kNotice},
    {"zlib", Kind::kNotice},
    {"bsd*", Kind::kNotice},
    {"apache-2.0", Kind::kApache},
    {"cc-by-3.0", Kind::kAttribution},
    {"cc-by-4.0", Kind::kAttribution},
    {"cc-by-nc-nd*", Kind::kNoDerivatives},
    {"cc-by-nd*", Kind::kNoDerivatives},
    {"cc-by-nc*", Kind::kNonCommercial},
    {"cc-by-sa*", Kind::kShareAlike},
    {"gpl*", Kind::kShareAlike},
    {"lgpl*", Kind::kShareAlike},
    {"agpl*", Kind::kShareAlike},
    {"mpl-2.0", Kind::kShareAlike},
    {"llama*", Kind::kModel},
    {"gemma", Kind::kModel},
    {"openrail*", Kind::kModel},
    {"creativeml-openrail*", Kind::kModel},
    {"bigscience*", Kind::kModel},
    {"bigcode*", Kind::kModel},
    {"deepseek", Kind::kModel},
    {"qwen", Kind::kModel},
    {"tongyi-qianwen*", Kind::kModel},
}};

const KnownLicence* find_licence(std::string_view name) {
  for (const KnownLicence& known : kLicences) {
    const bool prefix = known.name.ends_with('*');
    const std::string_view text = known.name.substr(0, known.name.size() - (prefix ? 1 : 0));
    if (prefix ? name.starts_with(text) : name == text) return &known;
  }
  return nullptr;
}

bool is_free_of_conditions(Kind kind) { return kind <= Kind::kAttribution; }

Licence contradiction(const ModelOrigin& a, const ModelOrigin& b) {
  return {LicenceVerdict::kContradiction, "",
          fmt::format("The licences {} of {} and {} of {} cannot both hold for one model.",
                      a.licence, a.id, b.licence, b.id)};
}

}  // namespace

bool is_known_licence(std::string_view name) { return find_licence(name) != nullptr; }

std::string licence_of_card(std::string_view card) {
  if (!card.starts_with("---\n") && !card.starts_with("---\r\n")) return "";
  const size_t begin = card.find('\n') + 1;
  const size_t end = card.find("\n---", begin);
  if (end == card.npos) return "";
  try {
    const auto documents = parse_yaml(card.substr(begin, end - begin), "README.md");
    const auto text = [&](std::string_view key) -> std::string {
      const YamlNode* node = documents.empty() ? nullptr : documents[0].find(key);
      if (node && node->kind == YamlNode::Kind::kList && node->items.size() == 1)
        node = &node->items[0];
      return node && node->kind == YamlNode::Kind::kScalar ? node->scalar : "";
    };
    const std::string licence = text("license"), name = text("license_name");
    return licence == "other" && !name.empty() ? name : licence;
  } catch (const Error&) {
    return "";
  }
}

std::string id_of_config(const fs::path& folder) {
  try {
    const Json config = parse_config(read_model_file(folder, "config.json"), "config.json");
    const std::string name = config.value("_name_or_path", std::string());
    std::error_code error;
    // A folder's name may look like an id, and is none.
    const bool is_id = is_hub_id(name) && std::ranges::count(name, '/') == 1 &&
                       name.find('@') == name.npos && !fs::exists(name, error);
    return is_id ? name : "";
  } catch (const std::exception&) {
    return "";
  }
}

std::string licence_of_folder(const fs::path& folder) {
  try {
    if (is_gguf_path(folder)) {
      const GgufMetadata metadata = GgufFile(folder).metadata();
      const auto licence = metadata.find("general.license");
      const auto* text =
          licence == metadata.end() ? nullptr : std::get_if<std::string>(&licence->second);
      return text ? *text : "";
    }
    return has_model_file(folder, "README.md")
               ? licence_of_card(read_model_file(folder, "README.md"))
               : "";
  } catch (const Error&) {
    return "";
  }
}

Licence derived_licence(const std::vector<ModelOrigin>& parents) {
  const ModelOrigin* strictest = nullptr;
  Kind kind = Kind::kFree;
  bool same = true;
  for (const ModelOrigin& parent : parents) {
    const KnownLicence* known = find_licence(parent.licence);
    if (!known && !(same && parent.licence == parents[0].licence && !parent.licence.empty())) {
      return {LicenceVerdict::kUnknown, "",
              fmt::format("The licence of {} is not known{}.", parent.id,
                          parent.licence.empty() ? "" : " (" + parent.licence + ")")};
    }
    if (known && known->kind == Kind::kNoDerivatives) {
      return {LicenceVerdict::kContradiction, "",
              fmt::format("The licence {} of {} allows nothing that is derived from it.",
                          parent.licence, parent.id)};
    }
    const bool changes = strictest && parent.licence != strictest->licence;
    same = same && !changes;
    const Kind now = known ? known->kind : Kind::kModel;
    if (changes && !is_free_of_conditions(now) && !is_free_of_conditions(kind))
      return contradiction(*strictest, parent);
    if (!strictest || now > kind) {
      strictest = &parent;
      kind = now;
    }
  }
  if (!strictest || strictest->licence.empty())
    return {LicenceVerdict::kUnknown, "", "No licence is known."};
  if (kind == Kind::kNonCommercial) {
    return {LicenceVerdict::kNonCommercial, strictest->licence,
            fmt::format("The licence {} of {} forbids commercial use of the merge.",
                        strictest->licence, strictest->id)};
  }
  if (same) return {LicenceVerdict::kSame, strictest->licence, "All models have this licence."};
  return {LicenceVerdict::kCompatible, strictest->licence,
          fmt::format("The licences are compatible; that of {} asks for most.", strictest->id)};
}

}  // namespace lewis

// Where the models of a merge come from, as their files say: ids of the hub and licences.
#pragma once

#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

namespace lewis {

struct ModelOrigin {
  // "owner/name" where it is known (merge/public_names.h), else the last part of the name in the
  // recipe, which is no path.
  std::string id;
  bool of_hub = false;   // the former
  std::string licence;   // `license` of README.md, or "" where it says none
  std::string commit{};  // of a snapshot in the hub's cache
};

// The id that config.json of a folder has as _name_or_path; "" where it has none, or a path.
std::string id_of_config(const std::filesystem::path& folder);
// The licence that README.md of a folder states; "" where it states none.
std::string licence_of_folder(const std::filesystem::path& folder);

// What the licences of a merge's parents make of it.
enum class LicenceVerdict { kSame, kCompatible, kNonCommercial, kUnknown, kContradiction };
struct Licence {
  LicenceVerdict verdict = LicenceVerdict::kUnknown;
  std::string name;  // for the card; "" for kUnknown and kContradiction
  std::string why;   // one sentence for people
};
// By a table of licences; not legal advice.
Licence derived_licence(const std::vector<ModelOrigin>& parents);

// True for the names that the table has, which the hub knows as well.
bool is_known_licence(std::string_view name);

// The value of `license` (or license_name, where that is "other") in the front matter of a model
// card; "" if there is none.
std::string licence_of_card(std::string_view card);

}  // namespace lewis

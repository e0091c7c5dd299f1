#include "merge/public_names.h"

#include <algorithm>
#include <map>
#include <set>

#include "base/error.h"
#include "base/path_words.h"
#include "io/hub_cache.h"
#include "recipe/named_models.h"

namespace lewis {
namespace {

namespace fs = std::filesystem;

// The folder as it is known to the file system; as it is written where that fails.
fs::path real_path(const fs::path& path) {
  std::error_code error;
  fs::path found = fs::weakly_canonical(path, error);
  if (error) found = path;
  return found.has_filename() ? found : found.parent_path();
}

bool on_disk(const fs::path& path) {
  std::error_code error;
  return fs::exists(path, error);
}

std::string name_of_path(const std::string& written, const fs::path& folder) {
  std::string name = last_part(written);
  if (name.empty() || name == "." || name == ".." || name == "~")
    name = last_part(real_path(folder).string());
  return name.empty() ? "model" : name;
}

// The name, and "+ADAPTER" where the recipe says that there is one.
std::pair<std::string, std::string> parts_of(const RecipeModel& m) {
  const size_t plus = m.adapter.empty() ? m.model.npos : m.model.rfind('+');
  if (plus == m.model.npos) return {m.model, ""};
  return {m.model.substr(0, plus), m.model.substr(plus + 1)};
}

// "owner/name@COMMIT" of a snapshot of a data set in a cache; "" for any other folder.
std::string data_id_of(const fs::path& folder) {
  const std::string kind = "datasets--", text = folder.string();
  const size_t entry = text.find(kind), snapshot = text.find("/snapshots/");
  if (entry == text.npos || snapshot == text.npos || snapshot < entry) return "";
  std::string id = text.substr(entry + kind.size(), snapshot - entry - kind.size());
  if (const size_t dashes = id.find("--"); dashes != id.npos) id.replace(dashes, 2, "/");
  const std::string rest = text.substr(snapshot + std::string_view("/snapshots/").size());
  return is_hub_id(id) && rest.find('/') == rest.npos ? id + "@" + rest : "";
}

// What tokenizer_source may be besides a model, and mergekit's older mark of a model, which tells
// one of that name apart.
bool is_keyword(std::string_view source) { return source == "base" || source == "union"; }
constexpr std::string_view kModelMark = "model:";

std::pair<std::string, std::string> without_part(const std::string& data) {
  const size_t mark = std::min(data.rfind('#'), data.size());
  return {data.substr(0, mark), data.substr(mark)};
}

// The id of data, or the last part of their path. `recipe`: the file that names them.
std::string name_of_data(const std::string& data, const fs::path& recipe) {
  if (const std::string id = data_id_of(real_path(data)); !id.empty()) return id;
  const bool is_path = on_disk(data) || on_disk(recipe.parent_path() / data);
  return !is_path && is_hub_id(data) ? data : last_part(data);
}

}  // namespace

PublicNames::PublicNames(const Recipe& recipe, const ModelIds& ids)
    : text_(recipe.text.empty() ? to_yaml(recipe, false) : recipe.text), file_(recipe.file) {
  add_parts(recipe);
  name_parts(ids);
  settle_collisions();
  for (Part& part : parts_) {
    const std::string& name = part.name;
    part.origin.id = part.origin.of_hub ? name.substr(0, name.find('@')) : name;
    part.origin.licence = part.folder.empty() ? "" : licence_of_folder(part.folder);
    const auto same = [&](const ModelOrigin& o) {
      return o.id == part.origin.id && o.of_hub == part.origin.of_hub;
    };
    if (std::ranges::none_of(origins_, same)) origins_.push_back(part.origin);
    if (part.guessed) {
      notes_.push_back(fmt::format(
          "{} goes by the id {} of its config.json on the card; --model-id {}=ID says another",
          last_part(part.written), name, last_part(part.written)));
    }
  }
  add_tokenizer(recipe);
  add_data(recipe);
  collect_places();
}

void PublicNames::add_part(const std::string& written, const fs::path& folder, bool is_base) {
  for (Part& part : parts_) {
    if (part.written != written || part.folder != folder) continue;
    part.is_base = part.is_base || is_base;
    return;
  }
  parts_.push_back({.written = written, .folder = folder, .is_base = is_base});
}

void PublicNames::add_parts(const Recipe& recipe) {
  for (size_t m = 0; m < recipe.models.size(); ++m) {
    const RecipeModel& model = recipe.models[m];
    const auto [base, adapter] = parts_of(model);
    if (model.stage) {
      if (std::ranges::find(stages_, base) == stages_.end()) {
        stages_.push_back(base);
        add_parts(*model.stage);
      }
    } else {
      add_part(base, model.folder, recipe.base_index == m);
    }
    if (!adapter.empty()) add_part(adapter, model.adapter, false);
  }
  for (const RecipeModule& module : recipe.modules) add_parts(*module.recipe);
}

const PublicNames::Part* PublicNames::find(const std::string& written) const {
  const auto it = std::ranges::find(parts_, written, &Part::written);
  return it == parts_.end() ? nullptr : &*it;
}

void PublicNames::name_parts(const ModelIds& ids) {
  for (const auto& [name, id] : ids) {
    const auto named = [&](const Part& part) {
      return part.written == name || last_part(part.written) == name;
    };
    const auto part = std::ranges::find_if(parts_, named);
    if (part == parts_.end()) {
      std::string all;
      for (const Part& p : parts_) all += (all.empty() ? "" : ", ") + last_part(p.written);
      throw usage_error("--model-id {}={}: the recipe names no model {}; it has: {}", name, id,
                        name, all);
    }
    if (!is_hub_id(id))
      throw usage_error("--model-id {}={}: expected the id of a model, as owner/name", name, id);
    part->name = id;
    part->origin.of_hub = true;
    ids_[last_part(part->written)] = id;
  }
  for (Part& part : parts_) {
    if (!part.name.empty()) continue;
    const std::string id = part.folder.empty() ? "" : hub_id_of(part.folder);
    const size_t at = std::min(part.written.find('@'), part.written.size());
    if (!id.empty()) {
      part.origin.commit = last_part(part.folder.string());
      const bool by_id = part.written.substr(0, at) == id && !on_disk(part.written);
      part.name = by_id ? part.written : id + "@" + part.origin.commit;
    } else if (!part.folder.empty()) {
      part.name = id_of_config(part.folder);
      part.guessed = !part.name.empty();
    }
    part.origin.of_hub = !part.name.empty();
    if (!part.origin.of_hub) part.name = name_of_path(part.written, part.folder);
  }
}

void PublicNames::settle_collisions() {
  const auto shared = [&](const Part& part) {
    return std::ranges::any_of(parts_, [&](const Part& other) {
      return &other != &part && other.name.substr(0, other.name.find('@')) == part.name &&
             real_path(other.folder) != real_path(part.folder);
    });
  };
  std::vector<Part*> lose;
  for (Part& part : parts_) {
    if (part.guessed && !part.is_base && shared(part)) lose.push_back(&part);
  }
  for (Part* part : lose) {
    part->guessed = part->origin.of_hub = false;
    part->name = name_of_path(part->written, part->folder);
  }
  std::map<std::string, fs::path> taken;
  for (const std::string& stage : stages_) taken[stage];
  for (Part& part : parts_) {
    const fs::path folder = real_path(part.folder);
    std::string name = part.name;
    for (int number = 2; taken.contains(name) && (taken[name] != folder || folder.empty());
         ++number)
      name = fmt::format("{}-{}", part.name, number);
    if (name != part.name) part.guessed = part.origin.of_hub = false;
    part.name = name;
    taken[name] = folder;
  }
}

// A source of the tokenizer that is no model of the recipe.
void PublicNames::add_tokenizer(const Recipe& recipe) {
  for (const RecipeModel& model : recipe.models) {
    if (model.stage) add_tokenizer(*model.stage);
  }
  if (!recipe.tokenizer) return;
  std::string source = recipe.tokenizer->source;
  const bool prefixed = source.starts_with(kModelMark);
  if (!prefixed && is_keyword(source)) return;
  if (prefixed) source.erase(0, kModelMark.size());
  if (find(source) || std::ranges::find(stages_, source) != stages_.end()) return;
  for (const fs::path& folder : {fs::path(source), recipe.file.parent_path() / source}) {
    if (!on_disk(folder)) continue;
    const auto known = std::ranges::find_if(
        parts_, [&](const Part& p) { return real_path(p.folder) == real_path(folder); });
    const std::string id = hub_id_of(real_path(folder));
    std::string name = id.empty() ? name_of_path(source, folder)
                                  : id + "@" + last_part(real_path(folder).string());
    if (known != parts_.end()) {
      name = known->name;
    } else {
      const std::string plain = name;
      const auto taken = [&] {
        return std::ranges::find(parts_, name, &Part::name) != parts_.end() ||
               std::ranges::find(stages_, name) != stages_.end();
      };
      for (int number = 2; taken(); ++number) name = fmt::format("{}-{}", plain, number);
    }
    parts_.push_back({.written = source, .folder = folder, .name = name});
    return;
  }
}

void PublicNames::add_data(const Recipe& recipe) {
  for (const RecipeModel& model : recipe.models) {
    if (model.stage) add_data(*model.stage);
  }
  for (const RecipeModule& module : recipe.modules) add_data(*module.recipe);
  if (!recipe.lewis) return;
  for (const CalibrationEntry& e : recipe.lewis->calibration) {
    if (e.has_statistics()) {
      add_data_place(e.base_statistics);
      add_data_place(e.model_statistics);
    } else {
      add_data_place(without_part(e.data.string()).first);
    }
  }
}

void PublicNames::add_data_place(const fs::path& place) {
  const auto same = [&](const auto& known) { return real_path(known.first) == real_path(place); };
  if (std::ranges::any_of(data_, same)) return;
  const fs::path plain = name_of_data(place.string(), file_);
  std::string name = plain.string();
  const auto taken = [&](const auto& known) { return known.second == name; };
  for (int number = 2; std::ranges::any_of(data_, taken); ++number)
    name = fmt::format("{}-{}{}", plain.stem().string(), number, plain.extension().string());
  data_.emplace_back(place, name);
}

void PublicNames::collect_places() {
  std::map<std::string, std::string> places;
  const auto add = [&](const fs::path& path, const std::string& name) {
    if (path.empty()) return;
    std::error_code error;
    for (fs::path form : {path, fs::absolute(path, error), real_path(path)}) {
      std::string text = form.string();
      while (text.size() > 1 && text.ends_with('/')) text.pop_back();
      if (text.find('/') != text.npos && text != name) places.emplace(std::move(text), name);
    }
  };
  for (const Part& part : parts_) {
    add(part.folder, part.name);
    if (on_disk(part.written)) add(part.written, part.name);
  }
  for (const auto& [data, name] : data_) add(data, name);
  add(file_, last_part(file_.string()));
  places_.assign(places.begin(), places.end());
  std::ranges::stable_sort(places_, std::greater(), [](const auto& p) { return p.first.size(); });
}

std::string PublicNames::of(const std::string& model) const {
  const auto one = [&](const std::string& written) -> std::optional<std::string> {
    if (const Part* part = find(written)) return part->name;
    const bool stage = std::ranges::find(stages_, written) != stages_.end();
    return stage ? std::optional(written) : std::nullopt;
  };
  if (const auto whole = one(model)) return *whole;
  for (size_t plus = model.rfind('+'); plus != model.npos && plus > 0;
       plus = model.rfind('+', plus - 1)) {
    const auto base = one(model.substr(0, plus)), adapter = one(model.substr(plus + 1));
    if (base && adapter) return *base + "+" + *adapter;
  }
  return is_path_like(model) ? last_part(model) : clean(model);
}

std::string PublicNames::of_data(const std::string& data) const {
  const auto [name, part] = without_part(data);
  for (const fs::path& place : {fs::path(name), file_.parent_path() / name}) {
    if (!on_disk(place)) continue;
    for (const auto& [known, public_name] : data_) {
      if (real_path(known) == real_path(place)) return public_name + part;
    }
  }
  return name_of_data(name, file_) + part;
}

std::string PublicNames::recipe_text() const {
  const auto rename = [&](NameKind kind, const std::string& written) -> std::string {
    if (kind == NameKind::kData || kind == NameKind::kStatistics) return of_data(written);
    if (kind == NameKind::kTokenizer) {
      if (is_keyword(written)) return written;
      const bool prefixed = written.starts_with(kModelMark);
      const std::string name = of(prefixed ? written.substr(kModelMark.size()) : written);
      return (prefixed || is_keyword(name) ? std::string(kModelMark) : "") + name;
    }
    return of(written);
  };
  return renamed(text_, file_, rename, [&](std::string_view c) { return clean(c); });
}

std::string PublicNames::with_folders(std::string_view text, const fs::path& file) const {
  const auto folder_of = [&](const std::string& name) -> std::string {
    for (const Part& part : parts_) {
      if (part.name != name || part.folder.empty()) continue;
      const bool by_id = part.origin.of_hub && part.written == name && !on_disk(name);
      return by_id ? name : fs::absolute(part.folder).string();
    }
    return name;
  };
  const auto model_of = [&](const std::string& name) -> std::string {
    const std::string whole = folder_of(name);
    const size_t plus = name.rfind('+');
    if (whole != name || plus == name.npos) return whole;
    return folder_of(name.substr(0, plus)) + "+" + folder_of(name.substr(plus + 1));
  };
  const auto data_of = [&](const std::string& data) -> std::string {
    const auto [name, part] = without_part(data);
    for (const auto& [known, public_name] : data_) {
      if (public_name == name) return fs::absolute(known).string() + part;
    }
    return data;
  };
  const auto rename = [&](NameKind kind, const std::string& name) -> std::string {
    const bool is_data = kind == NameKind::kData || kind == NameKind::kStatistics;
    if (is_data) return data_of(name);
    if (kind != NameKind::kTokenizer || is_keyword(name)) {
      return kind == NameKind::kTokenizer ? name : model_of(name);
    }
    if (!name.starts_with(kModelMark)) return model_of(name);
    const std::string source = name.substr(kModelMark.size());
    return (is_keyword(source) ? "" : std::string(kModelMark)) + model_of(source);
  };
  return renamed(text, file, rename, [](std::string_view c) { return std::string(c); });
}

std::string PublicNames::clean(std::string_view text) const {
  const auto of_name = [](char c) {
    return std::isalnum(static_cast<unsigned char>(c)) || c == '_' || c == '-' || c == '.' ||
           c == '/';
  };
  std::string out;
  for (size_t at = 0; at < text.size();) {
    const auto here = std::ranges::find_if(places_, [&](const auto& place) {
      const size_t end = at + place.first.size();
      return text.substr(at).starts_with(place.first) &&
             (end == text.size() || text[end] == '/' || text[end] == '.' || !of_name(text[end])) &&
             (at == 0 || !of_name(text[at - 1]));
    });
    if (here == places_.end()) {
      out += text[at++];
      continue;
    }
    out += here->second;
    at += here->first.size();
  }
  // A pattern is there when the folder before its first wildcard is.
  const auto is_there = [&](const std::string& word) {
    const size_t wildcard = word.find_first_of("*?");
    const size_t end = wildcard == word.npos ? word.npos : word.rfind('/', wildcard);
    const std::string place = word.substr(0, end);
    return on_disk(place) || on_disk(file_.parent_path() / place);
  };
  return without_folders(out, is_there);
}

}  // namespace lewis

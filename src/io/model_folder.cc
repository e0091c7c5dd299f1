#include "io/model_folder.h"

#include <algorithm>
#include <array>
#include <set>

#include "base/current_error.h"
#include "base/error.h"
#include "base/human.h"
#include "io/gguf.h"

namespace lewis {
namespace {

namespace fs = std::filesystem;

// "additional_chat_templates", "tool_use.jinja"; the folder is empty for a file at the top.
struct Parts {
  std::string_view folder, file;
};

Parts split(std::string_view name) {
  const size_t slash = name.rfind('/');
  if (slash == std::string_view::npos) return {"", name};
  return {name.substr(0, slash), name.substr(slash + 1)};
}

template <size_t n>
bool is_one_of(std::string_view name, const std::array<std::string_view, n>& names) {
  return std::ranges::find(names, name) != names.end();
}

template <size_t n>
bool ends_with_one_of(std::string_view name, const std::array<std::string_view, n>& ends) {
  return std::ranges::any_of(ends, [&](std::string_view end) { return name.ends_with(end); });
}

std::string lower(std::string_view name) {
  std::string text(name);
  for (char& c : text) c = 'A' <= c && c <= 'Z' ? static_cast<char>(c + 'a' - 'A') : c;
  return text;
}

// "1_Pooling": a module of a sentence-transformers model.
bool is_module_folder(std::string_view folder) {
  const size_t digits = std::min(folder.find_first_not_of("0123456789"), folder.size());
  return digits > 0 && digits < folder.size() && folder[digits] == '_' &&
         folder.find('/') == std::string_view::npos;
}

// Texts and pictures for people, and what lewis itself writes anew.
bool is_for_people(std::string_view name) {
  static constexpr std::array<std::string_view, 4> kOwn = {"lewis_manifest.json", "lewis_run.json",
                                                           "mergekit_config.yml", "report.html"};
  static constexpr std::array<std::string_view, 8> kEnds = {".md",  ".png", ".jpg", ".jpeg",
                                                            ".svg", ".gif", ".pdf", ".webp"};
  const std::string file = lower(split(name).file);
  return is_one_of(name, kOwn) || ends_with_one_of(file, kEnds) || file.starts_with("license") ||
         file.starts_with("notice");
}

// What config.json and the tensors are read from.
bool is_the_model_itself(std::string_view name) {
  return name == "config.json" || name == "generation_config.json" ||
         name == "model.safetensors.index.json" ||
         (name.starts_with("model") && name.ends_with(".safetensors") &&
          name.find('/') == std::string_view::npos);
}

constexpr size_t kMostFiles = 100'000;

void list_folder(const fs::path& folder, const std::string& prefix,
                 std::vector<std::string>& names) {
  std::error_code error;
  std::vector<std::string> folders;
  for (fs::directory_iterator it(folder, error), end; !error && it != end; it.increment(error)) {
    const std::string name = it->path().filename().string();
    if (name.starts_with('.')) continue;
    std::error_code ignored;
    if (fs::is_directory(it->symlink_status(ignored))) {
      folders.push_back(name);
    } else {
      names.push_back(prefix + name);
    }
    if (names.size() + folders.size() > kMostFiles)
      throw input_error("{}: holds more than {} files", folder.string(), kMostFiles);
  }
  if (error) throw file_error(folder, "cannot be read", error);
  for (const std::string& name : folders) list_folder(folder / name, prefix + name + "/", names);
}

}  // namespace

bool is_tokenizer_file(std::string_view name) {
  static constexpr std::array<std::string_view, 18> kNames = {"tokenizer.json",
                                                              "tokenizer_config.json",
                                                              "special_tokens_map.json",
                                                              "added_tokens.json",
                                                              "vocab.json",
                                                              "merges.txt",
                                                              "vocab.txt",
                                                              "tokenizer.model",
                                                              "spiece.model",
                                                              "tekken.json",
                                                              "chat_template.jinja",
                                                              "chat_template.json",
                                                              "normalizer.json",
                                                              "vocab.bpe",
                                                              "encoder.json",
                                                              "bpe.codes",
                                                              "dict.txt",
                                                              "emoji.json"};
  static constexpr std::array<std::string_view, 3> kEnds = {".model", ".tiktoken", ".spm"};
  const auto [folder, file] = split(name);
  if (folder == "additional_chat_templates") return file.ends_with(".jinja");
  if (!folder.empty()) return false;
  return is_one_of(file, kNames) || ends_with_one_of(file, kEnds) ||
         file.starts_with("tokenizer.model.") || file.starts_with("vocab-") ||
         file.starts_with("vocab.");
}

bool is_processor_file(std::string_view name) {
  static constexpr std::array<std::string_view, 4> kNames = {
      "modules.json", "config_sentence_transformers.json", "router_config.json",
      "audio_tokenizer_config.json"};
  const auto [folder, file] = split(name);
  if (is_module_folder(folder)) return file.ends_with(".json") && !file.ends_with(".index.json");
  if (!folder.empty()) return false;
  return is_one_of(file, kNames) || file.ends_with("processor_config.json") ||
         file == "feature_extractor_config.json" ||
         (file.starts_with("sentence_") && file.ends_with("_config.json"));
}

bool is_weights_file(std::string_view name) {
  static constexpr std::array<std::string_view, 22> kEnds = {
      ".safetensors", ".bin",     ".pt",   ".pth", ".ckpt",      ".gguf", ".ggml", ".h5",
      ".hdf5",        ".msgpack", ".onnx", ".pkl", ".pickle",    ".npz",  ".npy",  ".ot",
      ".tflite",      ".keras",   ".nemo", ".mar", ".onnx_data", ".dat"};
  return ends_with_one_of(lower(split(name).file), kEnds);
}

bool is_read_by_loaders(std::string_view name) {
  static constexpr std::array<std::string_view, 5> kCode = {".py", ".pyc", ".so", ".jinja", ".sh"};
  const auto [folder, file] = split(name);
  const std::string small = lower(file);
  if (is_weights_file(name) || ends_with_one_of(small, kCode)) return true;
  if (is_tokenizer_file(name) || is_processor_file(name)) return true;
  if (!small.ends_with(".json")) return false;
  // At the top any may be: loaders have many names for them. Below it, those of a model.
  return folder.empty() ? file != "lewis_run.json"
                        : small.ends_with("config.json") || small.ends_with(".index.json") ||
                              is_tokenizer_file(small);
}

bool is_inner_name(std::string_view name) {
  for (size_t begin = 0;;) {
    const size_t end = std::min(name.find('/', begin), name.size());
    const std::string_view part = name.substr(begin, end - begin);
    if (part.empty() || part == "." || part == ".." || part.find('\0') != std::string_view::npos)
      return false;
    if (end == name.size()) return true;
    begin = end + 1;
  }
}

std::vector<std::string> files_below(const fs::path& folder) {
  std::vector<std::string> names;
  list_folder(folder, "", names);
  std::ranges::sort(names);
  return names;
}

namespace {

// The names of a folder's files, with its changes.
std::set<std::string> names_of(const ModelFiles& files) {
  std::set<std::string> names;
  if (!files.folder.empty() && !is_gguf_path(files.folder)) {
    for (std::string& name : files_below(files.folder)) names.insert(std::move(name));
  }
  for (const auto& [name, content] : files.changed) {
    if (content) names.insert(name);
    if (!content) names.erase(name);
  }
  return names;
}

// True if config.json names code beside the weights.
bool names_code(const ModelFiles& files) {
  const auto config = files.read("config.json");
  return config && config->find("\"auto_map\"") != std::string::npos;
}

}  // namespace

std::vector<std::string> tokenizer_files_of(const ModelFiles& files) {
  std::vector<std::string> found;
  for (const std::string& name : names_of(files)) {
    if (is_tokenizer_file(name)) found.push_back(name);
  }
  return found;
}

Companions companions_of(const ModelFiles& files, bool tokenizer) {
  constexpr size_t kMostNamed = 8;
  Companions companions;
  std::vector<std::string> left;
  bool code = false;
  for (const std::string& name : names_of(files)) {
    const bool of_tokenizer = is_tokenizer_file(name);
    if (of_tokenizer ? tokenizer : is_processor_file(name)) {
      companions.copied.push_back(name);
    } else if (!of_tokenizer && !is_the_model_itself(name) && !is_for_people(name)) {
      left.push_back(name);
      code = code || name.ends_with(".py");
    }
  }
  if (left.empty()) return companions;
  std::string note = fmt::format("{}: not copied into the merge: {}", files.folder.string(),
                                 some_of(left, kMostNamed));
  if (code && names_code(files))
    note += "; config.json's auto_map names code, so copy the .py files if you trust them";
  companions.notes.push_back(note);
  return companions;
}

}  // namespace lewis

#include "cli/inspect_gguf.h"

#include <cstdlib>
#include <cstring>
#include <map>

#include "app/gguf/import.h"
#include "base/error.h"
#include "base/human.h"
#include "base/json.h"
#include "cli/inspect_tensors.h"
#include "cli/output.h"
#include "io/gguf_types.h"

namespace lewis {
namespace {

namespace fs = std::filesystem;
using Parts = std::vector<std::shared_ptr<const GgufFile>>;

constexpr size_t kMostElements = 6;  // of an array that are shown
constexpr size_t kMostOfText = 100;  // bytes of a text in the list for people

// A float as the shortest decimal that it is, not as the double next to it.
template <typename T>
Json shown_number(const T& value) {
  if constexpr (std::is_same_v<T, float>)
    return std::strtod(fmt::format("{}", value).c_str(), nullptr);
  return value;
}

// Element `i`.
template <size_t kType = 0>
Json element_of(const GgufArray& array, size_t i) {
  if constexpr (kType == std::variant_size_v<GgufValue>) {
    return nullptr;
  } else {
    using T = std::variant_alternative_t<kType, GgufValue>;
    if (array.type != kType) return element_of<kType + 1>(array, i);
    if constexpr (std::is_same_v<T, std::string>) {
      return array.texts[i];
    } else if constexpr (std::is_arithmetic_v<T>) {
      T value{};
      std::memcpy(&value, array.numbers.data() + i * sizeof(T), sizeof(T));
      return shown_number(value);
    } else {
      return nullptr;
    }
  }
}

// A value; of a long array its size and first elements.
Json shown_value(const GgufValue& value) {
  return std::visit(
      [](const auto& v) -> Json {
        if constexpr (std::is_same_v<std::decay_t<decltype(v)>, GgufArray>) {
          const size_t count = v.size();
          Json first = Json::array();
          for (size_t i = 0; i < std::min(count, kMostElements); ++i)
            first.push_back(element_of(v, i));
          if (count <= kMostElements) return first;
          return {{"count", count}, {"first", first}};
        } else {
          return shown_number(v);
        }
      },
      value);
}

std::string text_of(const Json& value) {
  if (value.is_object()) {
    const std::string first = value["first"].dump();
    return fmt::format("{} elements, {}, ...]", with_commas(value["count"].get<uint64_t>()),
                       first.substr(0, first.size() - 1));
  }
  const std::string text = value.is_string() ? value.get<std::string>() : value.dump();
  if (text.size() <= kMostOfText) return text;
  size_t end = kMostOfText;
  while (end > 0 && (static_cast<unsigned char>(text[end]) & 0xC0) == 0x80) --end;
  return fmt::format("{}... ({} bytes)", text.substr(0, end), text.size());
}

std::string type_name(const GgufFile::Entry& entry) {
  return std::string(entry.is_blocks() ? gguf_type(entry.type).name : dtype_name(entry.info.dtype));
}

// What a merge would say of the file.
std::vector<std::string> notes_on(const fs::path& file) {
  try {
    return open_gguf(file).notes;
  } catch (const Error& e) {
    return {fmt::format("a merge refuses this model: {}", e.what())};
  }
}

void inspect_all(const fs::path& file, const Parts& parts, bool json) {
  const std::vector<std::string> notes = notes_on(file);
  for (const std::string& note : notes) write_err("lewis: note: {}\n", note);
  uint64_t parameters = 0, bytes = 0;
  std::map<std::string, uint64_t> of_type;
  std::vector<InspectedTensor> tensors;
  for (const auto& part : parts) {
    for (const auto& entry : part->entries()) {
      const auto count = static_cast<uint64_t>(element_count(entry.info.shape));
      parameters += count;
      bytes += entry.bytes;
      of_type[type_name(entry)] += count;
      tensors.push_back({entry.info.name, type_name(entry), entry.info.shape});
    }
  }
  Json metadata = Json::object();
  for (const auto& [key, value] : parts[0]->metadata()) metadata[key] = shown_value(value);
  if (json) {
    Json list = Json::object();
    for (const InspectedTensor& t : tensors) list[t.name] = {{"dtype", t.type}, {"shape", t.shape}};
    write_json(Json{{"model", file.string()},
                    {"parameters", parameters},
                    {"bytes", bytes},
                    {"parameters_of_dtype", of_type},
                    {"notes", notes},
                    {"metadata", metadata},
                    {"tensors", list}});
    return;
  }
  write_out("{}: {} parameters in {} tensors, {}\n", file, with_commas(parameters),
            with_commas(tensors.size()), human_bytes(bytes));
  for (const auto& [type, count] : of_type)
    write_out("{}: {} parameters\n", type, with_commas(count));
  write_out("\n{}\n", tensors_table(tensors));
  for (const auto& [key, value] : metadata.items()) write_out("{}: {}\n", key, text_of(value));
}

}  // namespace

void inspect_gguf(const fs::path& file, const std::string& tensor, bool json, Threads& threads) {
  const Parts parts = open_gguf_parts(file);
  if (tensor.empty()) return inspect_all(file, parts, json);
  const auto source = gguf_as_stored(file.string(), parts);
  const TensorInfo& info = source->get(tensor);
  for (const auto& part : parts) {
    if (const auto* entry = part->find(tensor))
      return print_tensor(*source, info, type_name(*entry), json, threads);
  }
}

}  // namespace lewis

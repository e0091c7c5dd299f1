#include "io/quantization.h"

#include "base/error.h"
#include "base/json.h"
#include "io/layer_kinds.h"

namespace lewis {
namespace {

// A string of an object; "" when it has no such key.
std::string text_of(const Json& object, std::string_view key) {
  const auto found = object.find(key);
  return found != object.end() && found->is_string() ? found->get<std::string>() : "";
}

// Null when the key is missing or says nothing: null, {}, [].
const Json* set_value(const Json& object, std::string_view key) {
  const auto found = object.find(key);
  return found == object.end() || found->empty() ? nullptr : &*found;
}

// What a config.json says of quantisation, and where.
struct Quantization {
  const Json* object = nullptr;  // null: nothing
  std::string key;               // "text_config.quantization_config"
};

constexpr const char* kKeys[] = {"quantization_config", "compression_config"};

Quantization find_quantization(const Json& config) {
  const Json& text = text_part(config);
  for (const Json* part : {&config, &text}) {
    for (const char* key : kKeys) {
      const auto found = part->find(key);
      if (found == part->end() || found->is_null()) continue;
      return {&*found, (part == &config ? "" : "text_config.") + std::string(key)};
    }
  }
  return {};
}

// Reads one such object; refusals name the key.
class SchemeReader {
 public:
  SchemeReader(const Quantization& found, std::string_view label)
      : object_(*found.object), key_(found.key), label_(label) {}

  QuantizationScheme read() {
    if (!object_.is_object())
      throw input_error("{}: config.json: {} is not an object", label_, key_);
    scheme_.method = text_of(object_, "quant_method");
    if (scheme_.method == "compressed-tensors") {
      read_compressed_tensors();
    } else if (scheme_.method == "fp8") {
      read_fp8();
    } else if (scheme_.method == "fbgemm_fp8") {
      scheme_.per_row = scheme_.per_column = true;
    } else if (scheme_.method == "mxfp4") {
      scheme_.mxfp4 = true;
    } else {
      throw not_understood("quant_method", value_of(object_, "quant_method"),
                           "\"fp8\", \"fbgemm_fp8\", \"mxfp4\" or \"compressed-tensors\"; merge "
                           "the model that it was made from");
    }
    scheme_.cache_scales = set_value(object_, "kv_cache_scheme") != nullptr;
    return std::move(scheme_);
  }

 private:
  static Json value_of(const Json& object, std::string_view key) {
    const auto found = object.find(key);
    return found == object.end() ? Json() : *found;
  }

  Error not_understood(std::string_view key, const Json& value, std::string_view expected) const {
    return input_error("{}: config.json: {}.{} is {}, expected {}", label_, key_, key, value.dump(),
                       expected);
  }

  std::array<int64_t, 2> block_of(const Json& value, std::string_view key) const {
    const bool two = value.is_array() && value.size() == 2;
    for (size_t i = 0; i < 2; ++i) {
      if (!two || !value[i].is_number_integer() || value[i] <= 0 || value[i] > INT32_MAX)
        throw not_understood(key, value, "two positive integers");
    }
    return {value[0].get<int64_t>(), value[1].get<int64_t>()};
  }

  void read_fp8() {
    if (const Json* block = set_value(object_, "weight_block_size")) {
      scheme_.block = block_of(*block, "weight_block_size");
    } else {
      scheme_.per_tensor = scheme_.per_row = true;
    }
    scheme_.byte_exponents = text_of(object_, "scale_fmt") == "ue8m0";
  }

  static bool is_plain_format(const std::string& format) {
    return format == "float-quantized" || format == "naive-quantized";
  }

  void read_compressed_tensors() {
    const bool mixed = text_of(object_, "format") == "mixed-precision";
    if (!mixed && !is_plain_format(text_of(object_, "format")))
      throw not_understood("format", value_of(object_, "format"), "\"float-quantized\"");
    const Json* sparsity = set_value(object_, "sparsity_config");
    if (sparsity && text_of(*sparsity, "format") != "dense")
      throw not_understood("sparsity_config", *sparsity, "none, or format \"dense\"");
    if (const Json* transform = set_value(object_, "transform_config"))
      throw not_understood("transform_config", *transform, "none");
    const Json* groups = set_value(object_, "config_groups");
    if (!groups || !groups->is_object())
      throw not_understood("config_groups", value_of(object_, "config_groups"), "an object");
    for (const auto& [name, group] : groups->items()) {
      const Json format = group.is_object() ? value_of(group, "format") : Json();
      const bool plain = format.is_string() && is_plain_format(format.get<std::string>());
      if (!plain && (mixed || !format.is_null())) {
        throw not_understood(fmt::format("config_groups.{}.format", name), format,
                             "\"float-quantized\"");
      }
      read_group(group, "config_groups." + name);
    }
  }

  // The weights of one group of compressed-tensors.
  void read_group(const Json& group, const std::string& key) {
    const Json* weights = group.is_object() ? set_value(group, "weights") : nullptr;
    if (!weights || !weights->is_object()) throw not_understood(key, group, "weights");
    const auto expect = [&](std::string_view name, const Json& value) {
      const Json found = value_of(*weights, name);
      if (found != value)
        throw not_understood(fmt::format("{}.weights.{}", key, name), found, value.dump());
    };
    expect("num_bits", 8);
    expect("type", "float");
    if (weights->contains("symmetric")) expect("symmetric", true);
    const std::string strategy = text_of(*weights, "strategy");
    scheme_.per_tensor |= strategy == "tensor";
    scheme_.per_row |= strategy == "channel";
    if (strategy == "block") {
      const std::string where = key + ".weights.block_structure";
      const auto block = block_of(value_of(*weights, "block_structure"), where);
      if (scheme_.block && *scheme_.block != block)
        throw not_understood(where, (*weights)["block_structure"], "one size for all groups");
      scheme_.block = block;
    } else if (strategy != "tensor" && strategy != "channel") {
      throw not_understood(key + ".weights.strategy", value_of(*weights, "strategy"),
                           "tensor, channel or block");
    }
  }

  const Json& object_;
  std::string key_;
  std::string_view label_;
  QuantizationScheme scheme_;
};

}  // namespace

void refuse_packed(const Json& config, std::string_view label) {
  const Quantization found = find_quantization(config);
  if (!found.object || !found.object->is_object()) return;
  const std::string method = text_of(*found.object, "quant_method");
  for (const char* packed :
       {"awq", "gptq", "bitsandbytes", "hqq", "aqlm", "quip", "eetq", "quanto"}) {
    if (method != packed) continue;
    throw input_error(
        "{}: is quantised ({}): its weights are packed integers; merge the model that "
        "it was made from",
        label, method);
  }
}

std::optional<QuantizationScheme> read_quantization(const Json& config, std::string_view label) {
  refuse_packed(config, label);
  const Quantization found = find_quantization(config);
  if (!found.object) return std::nullopt;
  return SchemeReader(found, label).read();
}

void remove_quantization(Json& config) {
  Json& text = text_part(config);
  for (Json* part : {&config, &text}) {
    for (const char* key : kKeys) part->erase(key);
  }
}

}  // namespace lewis

#include "merge/sources/quantization.h"

#include <string>

#include "base/error.h"
#include "base/json.h"

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

Error not_understood(std::string_view label, std::string_view key, const Json& value,
                     std::string_view expected) {
  return input_error("{}: config.json: quantization_config.{} is {}, expected {}", label, key,
                     value.dump(), expected);
}

std::array<int64_t, 2> block_of(const Json& value, std::string_view label, std::string_view key) {
  const bool two = value.is_array() && value.size() == 2;
  for (size_t i = 0; i < 2; ++i) {
    if (!two || !value[i].is_number_integer() || value[i] <= 0 || value[i] > INT32_MAX)
      throw not_understood(label, key, value, "two positive integers");
  }
  return {value[0].get<int64_t>(), value[1].get<int64_t>()};
}

// The weights of one group of compressed-tensors.
void read_group(const Json& group, std::string_view label, const std::string& key,
                Fp8Scheme& scheme) {
  const Json* weights = group.is_object() ? set_value(group, "weights") : nullptr;
  if (!weights || !weights->is_object()) throw not_understood(label, key, group, "weights");
  const auto expect = [&](std::string_view name, const Json& value) {
    const auto found = weights->find(name);
    if (found == weights->end() || *found != value) {
      throw not_understood(label, fmt::format("{}.weights.{}", key, name),
                           found == weights->end() ? Json() : *found, value.dump());
    }
  };
  expect("num_bits", 8);
  expect("type", "float");
  if (weights->contains("symmetric")) expect("symmetric", true);
  const std::string strategy = text_of(*weights, "strategy");
  if (strategy == "block") {
    const std::string where = key + ".weights.block_structure";
    const auto block = block_of(weights->value("block_structure", Json()), label, where);
    if (scheme.block && *scheme.block != block)
      throw not_understood(label, where, (*weights)["block_structure"], "one size for all groups");
    scheme.block = block;
  } else if (strategy != "tensor" && strategy != "channel") {
    throw not_understood(label, key + ".weights.strategy", weights->value("strategy", Json()),
                         "tensor, channel or block");
  }
}

void read_compressed_tensors(const Json& quantization, std::string_view label, Fp8Scheme& scheme) {
  if (text_of(quantization, "format") != "float-quantized") {
    throw not_understood(label, "format", quantization.value("format", Json()),
                         "\"float-quantized\"");
  }
  const Json* sparsity = set_value(quantization, "sparsity_config");
  if (sparsity && text_of(*sparsity, "format") != "dense")
    throw not_understood(label, "sparsity_config", *sparsity, "none, or format \"dense\"");
  if (const Json* transform = set_value(quantization, "transform_config"))
    throw not_understood(label, "transform_config", *transform, "none");
  const Json* groups = set_value(quantization, "config_groups");
  if (!groups || !groups->is_object()) {
    throw not_understood(label, "config_groups", quantization.value("config_groups", Json()),
                         "an object");
  }
  for (const auto& [name, group] : groups->items()) {
    if (group.is_object() && group.contains("format") && !group["format"].is_null() &&
        group["format"] != "float-quantized") {
      throw not_understood(label, fmt::format("config_groups.{}.format", name), group["format"],
                           "\"float-quantized\"");
    }
    read_group(group, label, "config_groups." + name, scheme);
  }
}

}  // namespace

void refuse_packed(const Json& config, std::string_view label) {
  const auto found = config.find("quantization_config");
  if (found == config.end() || !found->is_object()) return;
  const std::string method = text_of(*found, "quant_method");
  for (const char* packed :
       {"awq", "gptq", "bitsandbytes", "hqq", "aqlm", "quip", "eetq", "quanto"}) {
    if (method != packed) continue;
    throw input_error(
        "{}: is quantised ({}): its weights are packed integers; merge the model that "
        "it was made from",
        label, method);
  }
}

std::optional<Fp8Scheme> read_fp8_scheme(const Json& config, std::string_view label) {
  refuse_packed(config, label);
  const auto found = config.find("quantization_config");
  if (found == config.end() || found->is_null()) return std::nullopt;
  if (!found->is_object())
    throw input_error("{}: config.json: quantization_config is not an object", label);
  Fp8Scheme scheme;
  const std::string method = text_of(*found, "quant_method");
  if (method == "compressed-tensors") {
    read_compressed_tensors(*found, label, scheme);
  } else if (method == "fp8") {
    if (const Json* block = set_value(*found, "weight_block_size"))
      scheme.block = block_of(*block, label, "weight_block_size");
  } else {
    throw not_understood(
        label, "quant_method", found->value("quant_method", Json()),
        "\"fp8\" or \"compressed-tensors\"; merge the model that it was made from");
  }
  scheme.cache_scales = set_value(*found, "kv_cache_scheme") != nullptr;
  return scheme;
}

}  // namespace lewis

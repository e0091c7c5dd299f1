#include "merge/sources/adapter_experts.h"

#include <algorithm>
#include <array>
#include <charconv>

#include "base/error.h"

namespace lewis {
namespace {

// The names of an expert's three matrices in files: Llama's and Mixtral's.
struct ExpertNames {
  const char *gate, *up, *down;
};
constexpr auto kExpertNames =
    std::to_array<ExpertNames>({{"gate_proj", "up_proj", "down_proj"}, {"w1", "w3", "w2"}});

std::string expert_name(const std::string& module, int64_t expert, const char* matrix) {
  return fmt::format("{}.{}.{}.weight", module, expert, matrix);
}

// Adds the matrices `matrix` of all experts of a module, whose rows begin at `first_row`.
void add_matrices(const NameIndex& base, const std::string& module, const char* matrix,
                  int64_t first_row, WrappedParameter& parameter) {
  for (int64_t expert = 0;; ++expert) {
    const TensorInfo* tensor = base.find(expert_name(module, expert, matrix));
    if (!tensor) {
      parameter.experts = expert;
      return;
    }
    if (tensor->shape.size() != 2)
      throw input_error("tensor {} is {}, expected a matrix", tensor->name,
                        to_string(tensor->shape));
    parameter.parts.push_back({tensor, expert, 1, first_row, tensor->shape[0]});
  }
}

// A parameter that files store with a matrix per expert; transformers stacks those of the gate
// above those of `up`, outputs by inputs.
bool find_split(const NameIndex& base, const std::string& module, bool gate_up,
                WrappedParameter& parameter) {
  for (const ExpertNames& names : kExpertNames) {
    const TensorInfo* first = base.find(expert_name(module, 0, gate_up ? names.gate : names.down));
    if (!first || first->shape.size() != 2) continue;
    const int64_t rows = first->shape[0], columns = first->shape[1];
    add_matrices(base, module, gate_up ? names.gate : names.down, 0, parameter);
    const int64_t experts = parameter.experts;
    if (gate_up) add_matrices(base, module, names.up, rows, parameter);
    for (const auto& part : parameter.parts) {
      if (part.tensor->shape != first->shape)
        throw input_error("the experts of {} differ: {} is {}, but {} is {}", module, first->name,
                          to_string(first->shape), part.tensor->name,
                          to_string(part.tensor->shape));
    }
    if (parameter.experts != experts)
      throw input_error("{} has {} experts with {}, but {} with {}", module, experts, names.gate,
                        parameter.experts, names.up);
    parameter.rows = gate_up ? 2 * rows : rows;
    parameter.columns = columns;
    parameter.inputs_are_rows = false;
    return true;
  }
  return false;
}

// Which dimension has the inputs follows from the two parameters of a module, of which one has
// twice the other's width: [E, 2m, h] and [E, h, m], or [E, h, 2m] and [E, m, h].
std::optional<bool> inputs_are_rows(const NameIndex& base, const std::string& module) {
  const TensorInfo* gate_up = base.find(module + ".gate_up_proj");
  const TensorInfo* down = base.find(module + ".down_proj");
  if (!gate_up || !down || gate_up->shape.size() != 3 || down->shape.size() != 3) return {};
  const Shape &g = gate_up->shape, &d = down->shape;
  if (g[2] == d[1] && g[1] % 2 == 0 && g[1] / 2 == d[2]) return false;
  if (g[1] == d[2] && g[2] % 2 == 0 && g[2] / 2 == d[1]) return true;
  return {};
}

std::optional<WrappedParameter> find_parameter(const NameIndex& base, const std::string& module,
                                               const std::string& name) {
  WrappedParameter parameter;
  parameter.key = module + "." + name;
  if (const TensorInfo* tensor = base.find(parameter.key)) {
    if (tensor->shape.size() != 3) return {};
    const Shape& shape = tensor->shape;
    parameter.experts = shape[0], parameter.rows = shape[1], parameter.columns = shape[2];
    parameter.inputs_are_rows = inputs_are_rows(base, module);
    parameter.parts.push_back({tensor, 0, shape[0], 0, shape[1]});
    return parameter;
  }
  const bool gate_up = name == "gate_up_proj";
  if (!gate_up && name != "down_proj") return {};
  if (!find_split(base, module, gate_up, parameter)) return {};
  return parameter;
}

// The last part of a target, if `module` with it is what the target names: PEFT compares the whole
// name, or its end behind a dot.
std::optional<std::string> named_parameter(const std::string& target, const std::string& module) {
  const std::string name = target.substr(target.rfind('.') + 1);
  const std::string key = module + "." + name;
  if (key != target && !key.ends_with("." + target)) return {};
  return name;
}

// The second number of peft_version ("0.18.1": 18); 0 where none is written, as PEFT before 0.18
// does, and a large one from version 1 on.
int64_t minor_version(const std::string& version) {
  int major = 0, minor = 0;
  const char* end = version.data() + version.size();
  const auto first = std::from_chars(version.data(), end, major);
  if (first.ec == std::errc() && first.ptr != end) std::from_chars(first.ptr + 1, end, minor);
  return major > 0 ? INT32_MAX : minor;
}

}  // namespace

std::vector<WrappedParameter> wrapped_parameters(const AdapterConfig& config, const NameIndex& base,
                                                 const std::string& module) {
  // PEFT wraps in the order in which transformers' class makes its parameters.
  std::vector<std::string> names;
  for (const std::string& target : config.target_parameters) {
    const auto name = named_parameter(target, module);
    if (name && std::ranges::find(names, *name) == names.end()) names.push_back(*name);
  }
  std::ranges::stable_partition(names, [](const auto& n) { return n == "gate_up_proj"; });
  std::vector<WrappedParameter> found;
  for (const std::string& name : names) {
    if (auto parameter = find_parameter(base, module, name)) found.push_back(std::move(*parameter));
  }
  const bool known = found.size() == 2 && found[0].key.ends_with(".gate_up_proj") &&
                     found[1].key.ends_with(".down_proj");
  if (found.size() > 1 && !known)
    throw input_error("the adapter changes {} parameters of {}, whose order is not known",
                      found.size(), module);
  return found;
}

std::string pattern_key(const AdapterConfig& config, const std::string& module) {
  for (const std::string& target : config.target_parameters) {
    if (named_parameter(target, module) == "weight") return module + ".weight";
  }
  return module;
}

bool inputs_of_adapter_are_rows(const AdapterConfig& config, const WrappedParameter& parameter,
                                int64_t a, int64_t b) {
  const bool columns = a == parameter.columns && b == parameter.rows;
  const bool rows = a == parameter.rows && b == parameter.columns;
  if (columns != rows) return rows;
  if (!columns)
    throw input_error("gives experts of {} by {}, but those of {} are {} by {}", b, a,
                      parameter.key, parameter.rows, parameter.columns);
  // Square matrices: only the version tells.
  const int64_t version = minor_version(config.peft_version);
  if (version < 19) return true;
  if (version > 19 && parameter.inputs_are_rows) return *parameter.inputs_are_rows;
  throw input_error(
      "may have the inputs or the outputs of {}, whose matrices are square, and peft_version {} of "
      "adapter_config.json does not tell which; merge it with PEFT's merge_and_unload and name the "
      "result",
      parameter.key, config.peft_version);
}

std::vector<float> with_experts_first(std::span<const float> b, int64_t rank, int64_t experts) {
  std::vector<float> seen;
  seen.reserve(b.size());
  const auto block = static_cast<size_t>(rank * experts);
  for (size_t at = 0; at < b.size(); at += block) {
    const std::vector<float> turned = transposed(b.subspan(at, block), experts, rank);
    seen.insert(seen.end(), turned.begin(), turned.end());
  }
  return seen;
}

std::vector<LowRank> expert_factors(const WrappedParameter& parameter,
                                    const WrappedParameter::Part& part, std::span<const float> a,
                                    std::span<const float> b, int64_t rank, float scale,
                                    bool inputs_are_rows) {
  const int64_t inputs = inputs_are_rows ? parameter.rows : parameter.columns;
  const int64_t outputs = inputs_are_rows ? parameter.columns : parameter.rows;
  std::vector<LowRank> factors;
  for (int64_t expert = part.expert; expert < part.expert + part.experts; ++expert) {
    const auto a_of =
        a.subspan(static_cast<size_t>(expert * rank * inputs), static_cast<size_t>(rank * inputs));
    std::vector<float> b_of(static_cast<size_t>(outputs * rank));
    for (int64_t i = 0; i < outputs * rank; ++i) b_of[i] = b[i * parameter.experts + expert];
    const std::vector<float> left =
        inputs_are_rows ? transposed(a_of, rank, inputs) : std::move(b_of);  // [rows, rank]
    const std::vector<float> right = inputs_are_rows ? transposed(b_of, outputs, rank)
                                                     : std::vector<float>(a_of.begin(), a_of.end());
    const auto rows = std::span(left).subspan(static_cast<size_t>(part.first_row * rank),
                                              static_cast<size_t>(part.rows * rank));
    factors.push_back(make_low_rank(rows, right, rank, scale));
  }
  return factors;
}

}  // namespace lewis

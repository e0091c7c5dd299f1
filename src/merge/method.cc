#include "merge/method.h"

#include <algorithm>
#include <array>
#include <numeric>

#include "base/error.h"
#include "base/suggest.h"

namespace lewis {

// Each in methods/NAME.cc.
extern const MergeMethod kArceeFusion, kBreadcrumbs, kBreadcrumbsTies, kDareLinear, kDareTies,
    kDella, kDellaLinear, kKarcher, kLinear, kModelStock, kMultislerp, kNearswap, kNuslerp,
    kPassthrough, kRam, kRamplusTl, kSce, kSlerp, kTaskArithmetic, kTies;

namespace {

constexpr std::array kMethods = {
    &kArceeFusion, &kBreadcrumbs, &kBreadcrumbsTies, &kDareLinear,     &kDareTies,
    &kDella,       &kDellaLinear, &kKarcher,         &kLinear,         &kModelStock,
    &kMultislerp,  &kNearswap,    &kNuslerp,         &kPassthrough,    &kRam,
    &kRamplusTl,   &kSce,         &kSlerp,           &kTaskArithmetic, &kTies};

bool listed(const std::vector<std::string_view>& names, std::string_view name, bool only_required) {
  return std::any_of(names.begin(), names.end(), [&](std::string_view n) {
    const bool required = n.starts_with('!');
    if (required) n.remove_prefix(1);
    return n == name && (required || !only_required);
  });
}

}  // namespace

bool MergeMethod::reads(std::string_view parameter) const {
  return listed(model_parameters, parameter, false) || listed(global_parameters, parameter, false);
}

bool MergeMethod::requires_parameter(std::string_view parameter) const {
  return listed(model_parameters, parameter, true) || listed(global_parameters, parameter, true);
}

void ChunkPass::run_all(const See& see) const {
  std::vector<size_t> all(slots());
  std::iota(all.begin(), all.end(), size_t{0});
  run(all, see);
}

const MergeMethod& find_merge_method(std::string_view name) {
  const auto it = std::find_if(kMethods.begin(), kMethods.end(),
                               [&](const auto* m) { return m->name == name; });
  if (it != kMethods.end()) return **it;
  throw usage_error("merge_method '{}' is not known; did you mean '{}'?", name,
                    nearest_name(name, merge_method_names()));
}

std::vector<std::string_view> merge_method_names() {
  std::vector<std::string_view> names;
  for (const MergeMethod* m : kMethods) names.push_back(m->name);
  return names;
}

}  // namespace lewis

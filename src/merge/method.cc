#include "merge/method.h"

#include <algorithm>
#include <array>
#include <numeric>

#include "base/error.h"
#include "base/suggest.h"

namespace lewis {

// The table of methods: each is defined in methods/NAME.cc.
#define LEWIS_MERGE_METHODS(METHOD) \
  METHOD(kArceeFusion)              \
  METHOD(kBreadcrumbs)              \
  METHOD(kBreadcrumbsTies)          \
  METHOD(kDareLinear)               \
  METHOD(kDareTies)                 \
  METHOD(kDella)                    \
  METHOD(kDellaLinear)              \
  METHOD(kIsoC)                     \
  METHOD(kKarcher)                  \
  METHOD(kLinear)                   \
  METHOD(kModelStock)               \
  METHOD(kMultislerp)               \
  METHOD(kNearswap)                 \
  METHOD(kNuslerp)                  \
  METHOD(kPassthrough)              \
  METHOD(kRam)                      \
  METHOD(kRamplusTl)                \
  METHOD(kResmerge)                 \
  METHOD(kSce)                      \
  METHOD(kSlerp)                    \
  METHOD(kTaskArithmetic)           \
  METHOD(kTies)                     \
  METHOD(kTsvM)                     \
  METHOD(kWudi)

#define LEWIS_DECLARE(name) extern const MergeMethod name;
LEWIS_MERGE_METHODS(LEWIS_DECLARE)
#undef LEWIS_DECLARE

namespace {

#define LEWIS_ADDRESS(name) &name,
constexpr auto kMethods = std::to_array<const MergeMethod*>({LEWIS_MERGE_METHODS(LEWIS_ADDRESS)});
#undef LEWIS_ADDRESS

void set_defaults(std::span<const MethodParameter> parameters, ParameterValues& values) {
  for (const MethodParameter& p : parameters) {
    if (p.otherwise && !values.find(p.id)) values.set(p.id, *p.otherwise);
  }
}

}  // namespace

bool MergeMethod::reads(std::string_view parameter) const {
  const auto is = [&](const MethodParameter& p) { return p.id.name() == parameter; };
  return std::ranges::any_of(model_parameters, is) || std::ranges::any_of(whole_parameters, is);
}

void set_defaults(const MergeMethod& method, TensorTask& task) {
  set_defaults(method.whole_parameters, task);
  for (ModelParameters& m : task.models) set_defaults(method.model_parameters, m);
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

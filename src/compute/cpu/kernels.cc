#include "compute/cpu/kernels.h"

#include <algorithm>
#include <cmath>
#include <cstring>

namespace lewis {

namespace baseline {
namespace {
constexpr int kLanes = 4;
#include "compute/cpu/kernels.inc"
}  // namespace
}  // namespace baseline

#ifdef __x86_64__
#pragma GCC push_options
#pragma GCC target("avx2,fma")
namespace avx2 {
namespace {
constexpr int kLanes = 8;
#include "compute/cpu/kernels.inc"
}  // namespace
}  // namespace avx2
#pragma GCC pop_options

#pragma GCC push_options
#pragma GCC target("avx512f,avx512vl,avx512dq,avx2,fma")
namespace avx512 {
namespace {
constexpr int kLanes = 16;
#include "compute/cpu/kernels.inc"
}  // namespace
}  // namespace avx512
#pragma GCC pop_options
#endif

const Kernels& best_kernels() {
#ifdef __x86_64__
  if (__builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq")) {
    return avx512::kKernels;
  }
  if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) return avx2::kKernels;
#endif
  return baseline::kKernels;
}

}  // namespace lewis

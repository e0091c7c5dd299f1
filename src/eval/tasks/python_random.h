// CPython's random.Random: the few-shot examples of lm-evaluation-harness come from it.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <vector>

namespace lewis {

// random.Random(seed) for an integer seed below 2^32. The generator is MT19937 (Matsumoto and
// Nishimura, "Mersenne Twister", ACM TOMACS 8, 1998), seeded by its init_by_array.
class PythonRandom {
 public:
  explicit PythonRandom(uint32_t seed);

  uint32_t next();  // getrandbits(32)
  // Uniform in [0, n), n > 0; _randbelow of CPython 3.2 and later.
  uint32_t below(uint32_t n);
  // random.sample(range(n), k): k different numbers. k <= n.
  std::vector<uint32_t> sample(uint32_t n, uint32_t k);

 private:
  void twist();

  static constexpr size_t kWords = 624;
  std::array<uint32_t, kWords> state_;
  size_t used_ = kWords;
};

}  // namespace lewis

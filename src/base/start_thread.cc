#include "base/start_thread.h"

#include <exception>
#include <system_error>

#include "base/error.h"

namespace lewis {

void start_threads(std::vector<std::thread>& threads, size_t begin, size_t count,
                   const std::function<void(size_t)>& body, const std::function<void()>& stop) {
  std::string why;
  try {
    threads.reserve(threads.size() + count);
    for (size_t i = begin; i < begin + count; ++i) threads.emplace_back(body, i);
    return;
  } catch (const std::system_error& e) {
    why = e.code().message();
  } catch (const std::exception&) {
    why = "out of memory";  // or a count that no memory has room for
  }
  const size_t started = threads.size();
  stop();
  for (std::thread& thread : threads) thread.join();
  threads.clear();
  throw resource_error(
      "the system gives {} of {} threads ({}); choose fewer with --threads, or raise the limits of "
      "processes and address space (ulimit -u, ulimit -v)",
      started + begin, count + begin, why);
}

}  // namespace lewis

// Starts threads where the system may have no more of them.
#pragma once

#include <functional>
#include <thread>
#include <vector>

namespace lewis {

// Appends `count` threads that run body(begin), ..., body(begin + count - 1). If the system does
// not give all, calls `stop`, after which every body must return, joins those that run, and throws
// Error(kResource).
void start_threads(std::vector<std::thread>& threads, size_t begin, size_t count,
                   const std::function<void(size_t)>& body, const std::function<void()>& stop);

}  // namespace lewis

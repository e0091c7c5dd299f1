// How a verb runs beside Python: on a thread of its own, without the GIL.
#pragma once

#include <nanobind/nanobind.h>

#include <functional>
#include <string>
#include <string_view>

#include <lewis/lewis.h>

namespace lewis_python {

namespace nb = nanobind;

struct Progress {
  lewis::Progress value;
};

struct RunOptions {
  size_t threads = 0;   // 0: one per core
  nb::object progress;  // called with a Progress; None: nothing is called
  nb::object notice;    // called with (warning, text); None: nothing is called
};

// Runs `work` on a thread of its own and returns when it has ended. The caller's thread meanwhile
// waits without the GIL, and calls the two Python functions; progress that it has no time for is
// replaced by newer progress of the same work. A Python exception (of these functions, or
// KeyboardInterrupt) sets RunContext::interrupted; when the work has ended, the exception is
// thrown.
//
// No signal reaches the thread of the work or those that it starts: oneDNN's sgemm points the
// stack into a buffer of its own, where no handler can run.
//
// Throws what the work throws, as lewis::Error.
void run_beside_python(const RunOptions& options,
                       const std::function<void(const lewis::RunContext&)>& work);

// The same for one of the verbs of lewis/lewis.h.
template <typename Result, typename Job>
Result run_verb(Result (*verb)(const Job&, const lewis::RunContext&), const Job& job,
                const RunOptions& options) {
  Result result{};
  run_beside_python(options, [&](const lewis::RunContext& run) { result = verb(job, run); });
  return result;
}

// Text of C++ for Python. Bytes that are not UTF-8, as names of files may hold, become "\xNN".
nb::str python_text(std::string_view text);

// str(object) for C++.
std::string cpp_text(nb::handle object);

// Adds Progress to the module, and makes lewis::Error a Python exception, lewis.Error.
void bind_run(nb::module_& module);

}  // namespace lewis_python

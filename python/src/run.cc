#include "run.h"

#include <pthread.h>

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <csignal>
#include <deque>
#include <exception>
#include <filesystem>
#include <mutex>
#include <new>
#include <optional>
#include <string>
#include <system_error>
#include <thread>
#include <utility>
#include <variant>

#include <nanobind/stl/string.h>

namespace lewis_python {
namespace {

using Message = std::variant<lewis::Progress, lewis::Notice>;

// Whatever is no lewis::Error: a verb throws nothing else unless the machine has no more memory,
// or a folder cannot be looked at.
std::exception_ptr as_error(const std::exception_ptr& thrown) {
  using lewis::Error;
  using lewis::ExitCode;
  try {
    std::rethrow_exception(thrown);
  } catch (const Error&) {
    return thrown;
  } catch (const std::bad_alloc&) {
    return std::make_exception_ptr(Error(ExitCode::kResource, "out of memory"));
  } catch (const std::system_error& e) {
    return std::make_exception_ptr(Error(ExitCode::kInput, e.what()));
  } catch (const std::exception& e) {
    return std::make_exception_ptr(
        Error(ExitCode::kFailed, std::string("unexpected: ") + e.what()));
  }
}

// Between the thread of the work and the caller's.
class Border {
 public:
  // For the thread of the work.
  void put(Message message) {
    {
      const std::scoped_lock lock(mutex_);
      if (!replaces_last(message)) messages_.emplace_back();
      messages_.back() = std::move(message);
    }
    changed_.notify_one();
  }
  void end(std::exception_ptr error) {
    {
      const std::scoped_lock lock(mutex_);
      ended_ = true;
      error_ = std::move(error);
    }
    changed_.notify_one();
  }

  // For the caller's thread: waits a twentieth of a second at most, and returns what was put.
  std::deque<Message> take() {
    std::unique_lock lock(mutex_);
    changed_.wait_for(lock, std::chrono::milliseconds(50),
                      [&] { return ended_ || !messages_.empty(); });
    return std::exchange(messages_, {});
  }
  bool ended() const {
    const std::scoped_lock lock(mutex_);
    return ended_ && messages_.empty();
  }
  const std::exception_ptr& error() const { return error_; }  // once ended

 private:
  // Progress that nobody has looked at is replaced, unless it says that something is finished.
  bool replaces_last(const Message& message) const {
    const auto* now = std::get_if<lewis::Progress>(&message);
    const auto* last =
        messages_.empty() ? nullptr : std::get_if<lewis::Progress>(&messages_.back());
    return now && last && now->what == last->what && last->done < last->total;
  }

  mutable std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<Message> messages_;
  bool ended_ = false;
  std::exception_ptr error_;
};

// A thread that no signal reaches, nor those that it starts.
std::thread start_without_signals(const std::function<void()>& function) {
  sigset_t all, before;
  sigfillset(&all);
  pthread_sigmask(SIG_SETMASK, &all, &before);
  std::optional<std::thread> thread;
  try {
    thread.emplace(function);
  } catch (const std::system_error&) {
  }
  pthread_sigmask(SIG_SETMASK, &before, nullptr);
  if (!thread) throw lewis::Error(lewis::ExitCode::kResource, "the system gives no more threads");
  return std::move(*thread);
}

void deliver(const RunOptions& options, const Message& message) {
  if (const auto* progress = std::get_if<lewis::Progress>(&message)) {
    if (!options.progress.is_none()) options.progress(Progress{*progress});
  } else if (!options.notice.is_none()) {
    const auto& notice = std::get<lewis::Notice>(message);
    options.notice(notice.warning, python_text(notice.text));
  }
}

// Calls the Python functions and notices Ctrl-C until the work has ended. Returns the Python
// exception that stopped it, if one did.
std::optional<nb::python_error> attend(Border& border, const RunOptions& options,
                                       std::atomic<bool>& interrupted) {
  std::optional<nb::python_error> stopped;
  while (!border.ended()) {
    std::deque<Message> messages;
    {
      const nb::gil_scoped_release release;
      messages = border.take();
    }
    if (stopped) continue;
    try {
      for (const Message& message : messages) deliver(options, message);
      if (PyErr_CheckSignals() != 0) throw nb::python_error();
    } catch (nb::python_error& e) {
      stopped.emplace(std::move(e));
      interrupted = true;
    }
  }
  return stopped;
}

}  // namespace

void run_beside_python(const RunOptions& options,
                       const std::function<void(const lewis::RunContext&)>& work) {
  Border border;
  std::atomic<bool> interrupted = false;
  const lewis::RunContext context = {.threads = options.threads,
                                     .progress = [&](const lewis::Progress& p) { border.put(p); },
                                     .notice = [&](const lewis::Notice& n) { border.put(n); },
                                     .interrupted = &interrupted};
  std::thread thread = start_without_signals([&] {
    std::exception_ptr error;
    try {
      work(context);
    } catch (...) {
      error = as_error(std::current_exception());
    }
    border.end(error);
  });
  const std::optional<nb::python_error> stopped = attend(border, options, interrupted);
  thread.join();
  if (stopped) throw nb::python_error(*stopped);
  if (border.error()) std::rethrow_exception(border.error());
}

nb::str python_text(std::string_view text) {
  return nb::steal<nb::str>(
      PyUnicode_DecodeUTF8(text.data(), static_cast<Py_ssize_t>(text.size()), "backslashreplace"));
}

std::string cpp_text(nb::handle object) {
  const nb::str text(object);
  Py_ssize_t size = 0;
  const char* bytes = PyUnicode_AsUTF8AndSize(text.ptr(), &size);
  if (!bytes) throw nb::python_error();
  return {bytes, static_cast<size_t>(size)};
}

void bind_run(nb::module_& module) {
  nb::class_<Progress>(
      module, "Progress",
      "How far a piece of work is: `what` (\"merging\"), `done` of `total`, in `unit` "
      "(\"bytes\", \"tokens\", \"items\"). It is finished when both are equal.")
      .def_prop_ro("what", [](const Progress& p) { return python_text(p.value.what); })
      .def_prop_ro("unit", [](const Progress& p) { return python_text(p.value.unit); })
      .def_prop_ro("done", [](const Progress& p) { return p.value.done; })
      .def_prop_ro("total", [](const Progress& p) { return p.value.total; })
      .def("__repr__", [](const Progress& p) {
        return python_text("<" + p.value.what + ": " + std::to_string(p.value.done) + " of " +
                           std::to_string(p.value.total) + " " + p.value.unit + ">");
      });
  nb::register_exception_translator([](const std::exception_ptr& thrown, void*) {
    try {
      std::rethrow_exception(thrown);
    } catch (const lewis::Error& e) {
      const nb::object type = nb::module_::import_("lewis._error").attr("Error");
      const nb::object error = type(python_text(e.what()), static_cast<int>(e.code()));
      PyErr_SetObject(type.ptr(), error.ptr());
    }
  });
}

}  // namespace lewis_python

#include "cli/terminal.h"

#include <fmt/format.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <algorithm>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <cwchar>

#include "base/error.h"

namespace lewis {
namespace {

volatile std::sig_atomic_t interrupted = 0;

void on_signal(int number) {
  if (interrupted) {
    std::signal(number, SIG_DFL);
    std::raise(number);
  }
  interrupted = 1;
}

}  // namespace

Terminal Terminal::of(int fd) {
  Terminal t;
  const char* term = std::getenv("TERM");
  const char* no_color = std::getenv("NO_COLOR");
  t.interactive = isatty(fd) && term && std::string_view(term) != "dumb";
  t.color = t.interactive && !(no_color && *no_color);
  winsize size{};
  const char* columns = std::getenv("COLUMNS");
  if (isatty(fd) && ioctl(fd, TIOCGWINSZ, &size) == 0 && size.ws_col > 0) {
    t.width = size.ws_col;
  } else if (columns && std::atoi(columns) > 0) {
    t.width = std::atoi(columns);
  }
  return t;
}

void catch_interrupts() {
  std::signal(SIGINT, on_signal);
  std::signal(SIGTERM, on_signal);
}

void check_interrupt() {
  if (interrupted) throw Error(ExitCode::kInterrupted, "interrupted");
}

ProgressPrinter::ProgressPrinter(bool quiet)
    : terminal_(Terminal::of(STDERR_FILENO)), quiet_(quiet) {}

ProgressPrinter::~ProgressPrinter() {
  if (line_open_) fmt::print(stderr, "\r\x1b[K");
}

void ProgressPrinter::operator()(const Progress& p) {
  check_interrupt();
  if (quiet_) return;
  const auto now = Clock::now();
  const bool finished = p.total > 0 && p.done >= p.total;
  if (p.what != what_) {
    what_ = p.what;
    begun_ = now;
    shown_ = terminal_.interactive ? Clock::time_point{} : now;
  }
  const auto pause =
      terminal_.interactive ? std::chrono::milliseconds(100) : std::chrono::seconds(10);
  if (finished || now - shown_ >= pause) {
    shown_ = now;
    print(p, now);
  }
  if (finished) what_.clear();
}

void ProgressPrinter::print(const Progress& p, Clock::time_point now) {
  const double seconds = std::chrono::duration<double>(now - begun_).count();
  const double share = p.total ? static_cast<double>(p.done) / static_cast<double>(p.total) : 0;
  const double rate = seconds > 0 ? static_cast<double>(p.done) / seconds : 0;
  const auto amount = [&](double n) {
    const auto whole = static_cast<uint64_t>(n);
    return p.unit == "bytes" ? human_bytes(whole) : with_commas(whole) + " " + p.unit;
  };
  const bool finished = p.done >= p.total;
  std::string text = fmt::format("{} {:3.0f} %  {}/s", p.what, 100 * share, amount(rate));
  text += finished   ? fmt::format("  in {}", human_seconds(seconds))
          : rate > 0 ? fmt::format("  {} left",
                                   human_seconds(static_cast<double>(p.total - p.done) / rate))
                     : "";
  if (!terminal_.interactive) {
    fmt::print(stderr, "{}\n", text);
    return;
  }
  constexpr int kBar = 20;
  const int filled = static_cast<int>(share * kBar);
  std::string bar;
  for (int i = 0; i < kBar; ++i) bar += i < filled ? "━" : "─";
  const std::string line = fmt::format("{} {}", bar, text);
  // A line that wraps could not be overwritten: leave the bar away where it does not fit.
  const bool fits = display_width(line) < static_cast<size_t>(terminal_.width);
  fmt::print(stderr, "\r\x1b[K{}{}",
             fits ? line : text.substr(0, static_cast<size_t>(terminal_.width) - 1),
             finished ? "\n" : "");
  line_open_ = !finished;
  std::fflush(stderr);
}

std::string human_bytes(uint64_t bytes) {
  static constexpr const char* kUnits[] = {"B", "kB", "MB", "GB", "TB", "PB"};
  double value = static_cast<double>(bytes);
  size_t unit = 0;
  while (value >= 999.5 && unit + 1 < std::size(kUnits)) {
    value /= 1000;
    ++unit;
  }
  return unit == 0 ? fmt::format("{} B", bytes)
                   : fmt::format("{:.{}f} {}", value, value < 9.95 ? 1 : 0, kUnits[unit]);
}

std::string human_seconds(double seconds) {
  if (seconds < 59.95) return fmt::format("{:.1f} s", seconds);
  const auto whole = static_cast<uint64_t>(seconds + 0.5);
  if (whole < 3600) return fmt::format("{}m {:02}s", whole / 60, whole % 60);
  return fmt::format("{}h {:02}m", whole / 3600, whole / 60 % 60);
}

std::string with_commas(uint64_t n) {
  std::string digits = std::to_string(n);
  for (size_t i = digits.size(); i > 3; i -= 3) digits.insert(i - 3, 1, ',');
  return digits;
}

std::string styled(std::string_view text, std::string_view sgr, bool color) {
  return color ? fmt::format("\x1b[{}m{}\x1b[0m", sgr, text) : std::string(text);
}

size_t display_width(std::string_view text) {
  size_t width = 0;
  for (size_t i = 0; i < text.size(); ++i) {
    const auto byte = static_cast<unsigned char>(text[i]);
    if (byte == 0x1b) {
      i = std::min(text.find('m', i), text.size());  // an SGR sequence
    } else if (byte >> 6 != 2) {
      ++width;  // every byte but the second to last ones of a character
    }
  }
  return width;
}

}  // namespace lewis

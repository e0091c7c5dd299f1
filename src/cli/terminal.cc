#include "cli/terminal.h"

#include <fmt/format.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <algorithm>
#include <cctype>
#include <cstdio>
#include <cstdlib>
#include <utility>

namespace lewis {
namespace {

// UTF-8 unless something says otherwise: see Terminal.
bool has_unicode(const char* term) {
  if (!term || std::string_view(term) == "dumb") return false;
  for (const char* name : {"LC_ALL", "LC_CTYPE", "LANG"}) {
    const char* value = std::getenv(name);
    if (!value || !*value) continue;
    std::string locale = value;
    for (char& c : locale) c = static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
    return locale.find("utf-8") != std::string::npos || locale.find("utf8") != std::string::npos;
  }
  return std::getenv("TMUX") == nullptr;
}

// One character of UTF-8, which may be broken: the bytes that it takes, and its code point.
struct Character {
  size_t bytes;
  uint32_t code;
};
Character character_at(std::string_view text, size_t i) {
  const auto lead = static_cast<unsigned char>(text[i]);
  const size_t length = lead >> 5 == 6 ? 2 : lead >> 4 == 14 ? 3 : lead >> 3 == 30 ? 4 : 1;
  Character c{std::min(length, text.size() - i), length == 1 ? lead : lead & (0x7fu >> length)};
  for (size_t k = 1; k < c.bytes; ++k)
    c.code = c.code << 6 | (static_cast<unsigned char>(text[i + k]) & 0x3fu);
  return c;
}

// The main ranges of East Asian wide characters and emoji (Unicode's EastAsianWidth.txt) and of
// combining marks.
size_t columns_of(uint32_t code) {
  struct Range {
    uint32_t first, last;
    size_t columns;
  };
  static constexpr Range kRanges[] = {
      {0x300, 0x36f, 0},     {0x200b, 0x200f, 0},   {0x20d0, 0x20ff, 0},   {0xfe00, 0xfe0f, 0},
      {0x1100, 0x115f, 2},   {0x2e80, 0x303e, 2},   {0x3041, 0xa4cf, 2},   {0xac00, 0xd7a3, 2},
      {0xf900, 0xfaff, 2},   {0xfe30, 0xfe6f, 2},   {0xff00, 0xff60, 2},   {0xffe0, 0xffe6, 2},
      {0x1f300, 0x1f64f, 2}, {0x1f680, 0x1f6ff, 2}, {0x1f900, 0x1faff, 2}, {0x20000, 0x3fffd, 2}};
  for (const Range& r : kRanges) {
    if (code >= r.first && code <= r.last) return r.columns;
  }
  return 1;
}

}  // namespace

Terminal Terminal::of(int fd) {
  Terminal t;
  const char* term = std::getenv("TERM");
  const char* no_color = std::getenv("NO_COLOR");
  t.tty = isatty(fd);
  t.interactive = t.tty && term && std::string_view(term) != "dumb";
  t.unicode = !t.tty || has_unicode(term);
  t.color = t.interactive && !(no_color && *no_color);
  winsize size{};
  const char* columns = std::getenv("COLUMNS");
  if (t.tty && ioctl(fd, TIOCGWINSZ, &size) == 0 && size.ws_col > 0) {
    t.width = size.ws_col;
  } else if (columns && std::atoi(columns) > 0) {
    t.width = std::atoi(columns);
  }
  return t;
}

ProgressPrinter::ProgressPrinter(bool quiet)
    : terminal_(Terminal::of(STDERR_FILENO)), quiet_(quiet) {}

ProgressPrinter::~ProgressPrinter() {
  if (line_open_) fmt::print(stderr, "\r\x1b[K");
}

void ProgressPrinter::operator()(const Progress& p) {
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
  const auto speed = [&]() -> std::string {
    if (p.unit == "bytes") return human_bytes(static_cast<uint64_t>(rate)) + "/s";
    if (rate >= 10 || rate == 0)
      return with_commas(static_cast<uint64_t>(rate)) + " " + p.unit + "/s";
    return fmt::format("{:.{}f} {}/s", rate, rate < 0.095 ? 3 : rate < 0.95 ? 2 : 1, p.unit);
  };
  const bool finished = p.done >= p.total;
  std::string text = fmt::format("{} {:3.0f} %  {}", printable(p.what), 100 * share, speed());
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
  const auto width = static_cast<size_t>(std::max(terminal_.width - 1, 1));
  fmt::print(stderr, "\r\x1b[K{}{}",
             for_terminal(display_width(line) <= width ? line : elide(text, width), terminal_),
             finished ? "\n" : "");
  line_open_ = !finished;
  std::fflush(stderr);
}

std::string styled(std::string_view text, std::string_view sgr, bool color) {
  return color ? fmt::format("\x1b[{}m{}\x1b[0m", sgr, text) : std::string(text);
}

size_t display_width(std::string_view text) {
  size_t width = 0;
  for (size_t i = 0; i < text.size();) {
    if (text[i] == 0x1b) {
      i = std::min(text.find('m', i), text.size() - 1) + 1;  // an SGR sequence
      continue;
    }
    const Character c = character_at(text, i);
    width += columns_of(c.code);
    i += c.bytes;
  }
  return width;
}

std::string elide(std::string_view text, size_t width) {
  if (display_width(text) <= width) return std::string(text);
  if (width == 0) return "";
  size_t begin = 0;
  while (begin < text.size() && display_width(text.substr(begin)) > width - 1)
    begin += character_at(text, begin).bytes;
  return "…" + std::string(text.substr(begin));
}

std::string for_terminal(std::string text, const Terminal& terminal) {
  if (terminal.unicode) return text;
  static constexpr std::pair<std::string_view, std::string_view> kAscii[] = {
      {"±", "+-"}, {"✓", "+"}, {"✗", "x"}, {"─", "-"}, {"━", "="}, {"…", "~"}};
  std::string result;
  for (size_t i = 0; i < text.size();) {
    const Character c = character_at(text, i);
    const auto whole = std::string_view(text).substr(i, c.bytes);
    const auto found = std::ranges::find(kAscii, whole, [](const auto& p) { return p.first; });
    if (c.bytes == 1) {
      result += whole;
    } else if (found != std::end(kAscii)) {
      result += found->second;
    } else {
      result += '?';
    }
    i += c.bytes;
  }
  return result;
}

std::string printable(std::string_view text) {
  std::string result;
  for (size_t i = 0; i < text.size();) {
    const Character c = character_at(text, i);
    const bool control = c.code < 0x20 || (c.code >= 0x7f && c.code < 0xa0) ||
                         (c.code >= 0x200b && c.code <= 0x200f) ||
                         (c.code >= 0x2028 && c.code <= 0x202e);
    result += control ? std::string("?") : std::string(text.substr(i, c.bytes));
    i += c.bytes;
  }
  return result;
}

}  // namespace lewis

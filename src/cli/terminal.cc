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
  if (line_open_) write_err(TerminalText::ready("\r\x1b[K"));
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
  TerminalText text = terminal_text("{} {:3.0f} %  {}", p.what, 100 * share, speed());
  text += finished   ? fmt::format("  in {}", human_seconds(seconds))
          : rate > 0 ? fmt::format("  {} left",
                                   human_seconds(static_cast<double>(p.total - p.done) / rate))
                     : "";
  if (!terminal_.interactive) {
    write_err("{}\n", text);
    return;
  }
  constexpr int kBar = 20;
  const int filled = static_cast<int>(share * kBar);
  std::string bar;
  for (int i = 0; i < kBar; ++i) bar += i < filled ? "━" : "─";
  const TerminalText line = terminal_text("{} {}", bar, text);
  // A line that wraps could not be overwritten: leave the bar away where it does not fit.
  const auto width = static_cast<size_t>(std::max(terminal_.width - 1, 1));
  TerminalText whole = TerminalText::ready("\r\x1b[K");
  whole +=
      for_terminal(display_width(line.string()) <= width ? line : elide(text, width), terminal_);
  if (finished) whole += TerminalText::ready("\n");
  write_err(whole);
  line_open_ = !finished;
}

TerminalText styled(const TerminalText& text, std::string_view sgr, bool color) {
  return color ? terminal_text("\x1b[{}m{}\x1b[0m", sgr, text) : text;
}

size_t display_width(std::string_view text) {
  size_t width = 0;
  for (size_t i = 0; i < text.size();) {
    if (text[i] == 0x1b) {
      i = std::min(text.find('m', i), text.size() - 1) + 1;  // an SGR sequence
      continue;
    }
    const Utf8Character c = utf8_character_at(text, i);
    width += columns_of(c.code);
    i += c.bytes;
  }
  return width;
}

TerminalText elide(const TerminalText& whole, size_t width) {
  const std::string_view text = whole.string();
  if (display_width(text) <= width) return whole;
  if (width == 0) return "";
  size_t begin = 0;
  while (begin < text.size() && display_width(text.substr(begin)) > width - 1)
    begin += utf8_character_at(text, begin).bytes;
  return TerminalText::ready("…" + std::string(text.substr(begin)));
}

TerminalText for_terminal(TerminalText whole, const Terminal& terminal) {
  if (terminal.unicode) return whole;
  static constexpr std::pair<std::string_view, std::string_view> kAscii[] = {
      {"±", "+-"}, {"✓", "+"}, {"✗", "x"}, {"─", "-"}, {"━", "="}, {"…", "~"}};
  const std::string_view text = whole.string();
  std::string result;
  for (size_t i = 0; i < text.size();) {
    const Utf8Character c = utf8_character_at(text, i);
    const auto character = text.substr(i, c.bytes);
    const auto found = std::ranges::find(kAscii, character, [](const auto& p) { return p.first; });
    if (c.bytes == 1) {
      result += character;
    } else if (found != std::end(kAscii)) {
      result += found->second;
    } else {
      result += '?';
    }
    i += c.bytes;
  }
  return TerminalText::ready(result);
}

}  // namespace lewis

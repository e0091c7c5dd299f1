#include "yaml/yaml.h"

#include <libfyaml.h>

#include <algorithm>
#include <charconv>
#include <memory>
#include <unordered_set>

#include "base/error.h"
#include "base/text_file.h"
#include "yaml/scalar_places.h"
#include "yaml/scalars.h"

namespace lewis {
namespace {

constexpr int kMaxDepth = 32;
constexpr size_t kMaxBytes = size_t{64} << 20;

struct ParserDeleter {
  void operator()(fy_parser* p) const { fy_parser_destroy(p); }
};
struct DiagDeleter {
  void operator()(fy_diag* d) const { fy_diag_destroy(d); }
};

// Builds the tree from libfyaml's events: its own documents resolve aliases and know no lines.
class TreeBuilder {
 public:
  TreeBuilder(std::string_view text, std::string_view where) : text_(text), where_(where) {
    fy_diag_cfg diag{};
    fy_diag_cfg_default(&diag);
    diag.fp = nullptr;  // messages are collected, not printed
    diag.output_fn = [](fy_diag*, void*, const char*, size_t) {};
    diag_.reset(fy_diag_create(&diag));
    if (!diag_) throw failed_error("{}: the YAML parser cannot be set up", where_);
    fy_diag_set_collect_errors(diag_.get(), true);
    fy_parse_cfg config{};
    config.flags = static_cast<fy_parse_cfg_flags>(FYPCF_QUIET | FYPCF_DEFAULT_VERSION_1_1);
    config.diag = diag_.get();
    parser_.reset(fy_parser_create(&config));
    if (!parser_ || fy_parser_set_string(parser_.get(), text.data(), text.size()) != 0) {
      throw failed_error("{}: the YAML parser cannot be set up", where_);
    }
  }

  std::vector<YamlNode> documents() {
    std::vector<YamlNode> roots;
    expect(FYET_STREAM_START);
    for (Event e = next(); e->type != FYET_STREAM_END; e = next()) {
      if (e->type != FYET_DOCUMENT_START) fail("expected a YAML document");
      const size_t places = places_.size();
      YamlNode root = node(next(), 0);
      if (root.is_null()) {
        places_.resize(places);
      } else {
        roots.push_back(std::move(root));
      }
      expect(FYET_DOCUMENT_END);
    }
    if (roots.empty()) fail("the file is empty");
    return roots;
  }

  std::vector<ScalarPlace> places() { return std::move(places_); }

 private:
  struct EventDeleter {
    fy_parser* parser;
    void operator()(fy_event* e) const { fy_parser_event_free(parser, e); }
  };
  using Event = std::unique_ptr<fy_event, EventDeleter>;

  // The next event; line_ follows it (a value that is not there has no place of its own).
  Event next() {
    Event event(fy_parser_parse(parser_.get()), EventDeleter{parser_.get()});
    if (!event) fail_with_diagnostics();
    const fy_mark* mark = fy_event_start_mark(event.get());
    if (mark) line_ = mark->line + 1;
    return event;
  }

  void expect(fy_event_type type) {
    if (next()->type != type) fail("expected a YAML document");
  }

  [[noreturn]] void fail(std::string_view message) const {
    throw usage_error("{}:{}: {}", where_, line_, message);
  }

  [[noreturn]] void fail_with_diagnostics() {
    void* at = nullptr;
    const fy_diag_error* error = fy_diag_errors_iterate(diag_.get(), &at);
    if (!error || !error->msg) fail("not valid YAML");
    line_ = std::max(1, error->line);
    std::string message = error->msg;
    std::replace(message.begin(), message.end(), '\n', ' ');
    fail("not valid YAML: " + message);
  }

  void refuse_decoration(const fy_token* anchor, const fy_token* tag) const {
    if (anchor) fail("anchors are not accepted: write the value where it is used");
    if (tag) fail("tags are not accepted: write the plain value");
  }

  // The node that begins with this event.
  YamlNode node(const Event& event, int depth) {
    if (depth > kMaxDepth) fail(fmt::format("nested deeper than {}", kMaxDepth));
    YamlNode n;
    n.line = line_;
    switch (event->type) {
      case FYET_SCALAR:
        refuse_decoration(event->scalar.anchor, event->scalar.tag);
        read_scalar(event->scalar.value, n);
        add_place(event.get(), n);
        break;
      case FYET_SEQUENCE_START:
        refuse_decoration(event->sequence_start.anchor, event->sequence_start.tag);
        n.kind = YamlNode::Kind::kList;
        for (Event e = next(); e->type != FYET_SEQUENCE_END; e = next()) {
          n.items.push_back(node(e, depth + 1));
        }
        break;
      case FYET_MAPPING_START:
        refuse_decoration(event->mapping_start.anchor, event->mapping_start.tag);
        n.kind = YamlNode::Kind::kMap;
        read_entries(n, depth);
        break;
      case FYET_ALIAS:
        fail("aliases are not accepted: write the value out");
      default:
        fail("not valid YAML");
    }
    return n;
  }

  static void read_scalar(fy_token* token, YamlNode& n) {
    size_t length = 0;
    const char* text = token ? fy_token_get_text(token, &length) : nullptr;
    if (text) n.scalar.assign(text, length);
    n.plain = !token || fy_token_scalar_style(token) == FYSS_PLAIN;
  }

  // libfyaml's marks leave out quotes, and the line of "|" or ">" before a block.
  void add_place(fy_event* event, const YamlNode& n) {
    ScalarPlace& place = places_.emplace_back();
    const fy_mark *begin = fy_event_start_mark(event), *end = fy_event_end_mark(event);
    if (!begin || !end || begin->input_pos >= end->input_pos || end->input_pos > text_.size())
      return;
    place = {begin->input_pos, end->input_pos};
    if (n.plain || place.begin == 0) return;
    const char before = text_[place.begin - 1];
    if (before == '"' || before == '\'') {
      place = {place.begin - 1, std::min(place.end + 1, text_.size())};
    } else if (const size_t mark = text_.find_last_of("|>", place.begin); mark != text_.npos) {
      place.begin = mark;
      while (text_[place.end - 1] == ' ') --place.end;  // the indentation of the next line
    }
  }

  void read_entries(YamlNode& map, int depth) {
    std::unordered_set<std::string> seen;
    for (Event e = next(); e->type != FYET_MAPPING_END; e = next()) {
      YamlNode key = node(e, depth + 1);
      line_ = key.line;
      if (key.kind != YamlNode::Kind::kScalar) fail("a key must be a word, found a list or a map");
      if (key.plain && key.scalar == "<<") fail("merge keys (<<) are not accepted");
      if (!seen.insert(key.scalar).second) fail("duplicate key " + in_quotes(key.scalar));
      YamlNode value = node(next(), depth + 1);
      map.entries.emplace_back(std::move(key), std::move(value));
    }
  }

  std::string_view text_;
  std::string where_;
  std::vector<ScalarPlace> places_;
  int line_ = 1;
  std::unique_ptr<fy_diag, DiagDeleter> diag_;
  std::unique_ptr<fy_parser, ParserDeleter> parser_;
};

}  // namespace

const YamlNode* YamlNode::find(std::string_view key) const {
  for (const auto& [k, v] : entries) {
    if (k.scalar == key) return &v;
  }
  return nullptr;
}

bool YamlNode::is_null() const { return kind == Kind::kScalar && plain && is_null_word(scalar); }

std::optional<bool> YamlNode::boolean() const {
  return kind == Kind::kScalar && plain ? boolean_word(scalar) : std::nullopt;
}

std::optional<double> YamlNode::number() const {
  if (kind != Kind::kScalar || !is_decimal(scalar)) return std::nullopt;
  const char* end = scalar.data() + scalar.size();
  double value = 0;
  const auto result = std::from_chars(scalar.data() + scalar.starts_with('+'), end, value);
  if (result.ec != std::errc() || result.ptr != end) return std::nullopt;
  return value;
}

namespace {

void check_text(std::string_view text, std::string_view where) {
  if (text.size() > kMaxBytes) {
    throw usage_error("{}: {} bytes, expected a recipe of at most {}", where, text.size(),
                      kMaxBytes);
  }
  if (!is_utf8(text)) throw usage_error("{}:1: the text is not UTF-8", where);
}

}  // namespace

std::vector<YamlNode> parse_yaml(std::string_view text, std::string_view where) {
  check_text(text, where);
  return TreeBuilder(text, where).documents();
}

YamlWithPlaces parse_yaml_with_places(std::string_view text, std::string_view where) {
  check_text(text, where);
  TreeBuilder tree(text, where);
  YamlWithPlaces found;
  found.documents = tree.documents();
  found.places = tree.places();
  return found;
}

std::string in_quotes(std::string_view text) {
  constexpr size_t kLongest = 120;
  std::string out = "'";
  for (const char c : text.substr(0, kLongest)) {
    const auto byte = static_cast<unsigned char>(c);
    out += byte < 0x20 || byte == 0x7f ? fmt::format("\\x{:02x}", byte) : std::string(1, c);
  }
  return out + (text.size() > kLongest ? "...'" : "'");
}

}  // namespace lewis

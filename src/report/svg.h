// Pieces of SVG. Coordinates are pixels at the drawing's own size.
#pragma once

#include <string>
#include <string_view>

namespace lewis {

// "12.5", "3", "0": at most two decimals, none at the end that say nothing.
std::string number(double value);

// Where a drawing goes.
enum class Medium {
  kPage,  // into the page, whose style it shares
  kFile   // on its own, with its style inside
};

// What texts and lines look like; `dark`: for dark paper.
std::string chart_style(bool dark);

class Svg {
 public:
  // `label`: what the drawing shows, for those who cannot see it.
  Svg(double width, double height, std::string label)
      : width_(width), height_(height), label_(std::move(label)) {}

  // Classes: "t" text, "m" muted, "b" bold, "n" small; "r" ends at x, "c" is centred there.
  void text(double x, double y, std::string_view classes, std::string_view text);
  void line(double x1, double y1, double x2, double y2, std::string_view classes);
  // `paint`: a class, or a colour "#rrggbb" or "url(#id)". `title`: shown on hover; "": none.
  void rect(double x, double y, double width, double height, std::string_view paint,
            std::string_view title = {});
  void circle(double x, double y, double radius, std::string_view classes, std::string_view title);
  void raw(std::string_view markup) { body_ += markup; }

  std::string finish(Medium medium) const;

 private:
  double width_, height_;
  std::string label_, body_;
};

// How wide a text is in the charts' type, about; `size` in pixels.
double text_width(std::string_view text, double size);
// The text, or its beginning and "…" where it is wider.
std::string shortened(const std::string& text, double size, double width);

}  // namespace lewis

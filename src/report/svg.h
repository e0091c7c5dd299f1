// Writes SVG. Coordinates are pixels at the drawing's natural size.
#pragma once

#include <string>
#include <string_view>

namespace lewis {

// Formats a number with at most two decimals and no trailing zeros: "12.5", "3", "0".
std::string number(double value);

// The destination of a drawing.
enum class Medium {
  kPage,  // part of the page, whose style it shares
  kFile   // a separate file, which contains its style
};

// The style of texts and lines; `dark` is for dark backgrounds.
std::string chart_style(bool dark);

class Svg {
 public:
  // `label` describes the drawing for screen readers.
  Svg(double width, double height, std::string label)
      : width_(width), height_(height), label_(std::move(label)) {}

  // Classes: "t" text, "m" muted, "b" bold, "n" small; "r" ends at x, "c" is centred there.
  void text(double x, double y, std::string_view classes, std::string_view text);
  void line(double x1, double y1, double x2, double y2, std::string_view classes);
  // `paint` is a class, a colour "#rrggbb" or "url(#id)". `title` is shown on hover unless empty.
  void rect(double x, double y, double width, double height, std::string_view paint,
            std::string_view title = {});
  void circle(double x, double y, double radius, std::string_view classes, std::string_view title);
  void raw(std::string_view markup) { body_ += markup; }

  std::string finish(Medium medium) const;

 private:
  double width_, height_;
  std::string label_, body_;
};

// The approximate width of a text in the charts' font, in pixels; `size` is in pixels.
double text_width(std::string_view text, double size);
// Returns the text, or its beginning and "…" if it is wider than `width`.
std::string shortened(const std::string& text, double size, double width);

}  // namespace lewis

#include "data/plot_canvas.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "data/font.h"

namespace glia {
namespace {

constexpr int scale = 2;  // of a picture's letters

std::string hex(Color c) { return fmt::format("#{:02x}{:02x}{:02x}", c.r, c.g, c.b); }

std::string escaped(const std::string& text) {
  std::string out;
  for (const char c : text) {
    if (c == '<') {
      out += "&lt;";
    } else if (c == '>') {
      out += "&gt;";
    } else if (c == '&') {
      out += "&amp;";
    } else {
      out += c;
    }
  }
  return out;
}

}  // namespace

SvgCanvas::SvgCanvas(int width, int height) {
  out_ = fmt::format(
      "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {0} {1}\" width=\"{0}\" height=\"{1}\" "
      "font-family=\"system-ui, sans-serif\" font-size=\"13\">\n",
      width, height);
  rectangle(0, 0, width, height, paper);
}

void SvgCanvas::rectangle(double x, double y, double w, double h, Color c) {
  out_ += fmt::format("<rect x=\"{:.1f}\" y=\"{:.1f}\" width=\"{:.1f}\" height=\"{:.1f}\" fill=\"{}\"/>\n", x, y, w, h, hex(c));
}

void SvgCanvas::polyline(const Polyline& points, Color c, double width) {
  out_ += fmt::format("<polyline fill=\"none\" stroke=\"{}\" stroke-width=\"{:.1f}\" stroke-linejoin=\"round\" points=\"", hex(c),
                      width);
  for (const Point& p : points) out_ += fmt::format("{:.1f},{:.1f} ", p.x, p.y);
  out_ += "\"/>\n";
}

void SvgCanvas::dot(Point p, double radius, Color c) {
  out_ += fmt::format("<circle cx=\"{:.1f}\" cy=\"{:.1f}\" r=\"{:.1f}\" fill=\"{}\"/>\n", p.x, p.y, radius, hex(c));
}

void SvgCanvas::text(Point p, Align align, const std::string& text, Color c, bool large) {
  const char* anchor = align == Align::left ? "start" : align == Align::middle ? "middle" : "end";
  out_ +=
      fmt::format("<text x=\"{:.1f}\" y=\"{:.1f}\" fill=\"{}\" text-anchor=\"{}\" dominant-baseline=\"central\"{}>{}</text>\n",
                  p.x, p.y, hex(c), anchor, large ? " font-size=\"16\" font-weight=\"600\"" : "", escaped(text));
}

void SvgCanvas::vertical_text(Point p, const std::string& text, Color c) {
  out_ += fmt::format(
      "<text transform=\"translate({:.1f},{:.1f}) rotate(-90)\" fill=\"{}\" text-anchor=\"middle\" "
      "dominant-baseline=\"central\">{}</text>\n",
      p.x, p.y, hex(c), escaped(text));
}

double SvgCanvas::text_width(const std::string& text, bool large) const { return double(text.size()) * (large ? 9 : 7.2); }

PictureCanvas::PictureCanvas(int width, int height) : picture_({height, width, 3}, DType::uint8) {
  rectangle(0, 0, width, height, paper);
}

void PictureCanvas::rectangle(double x, double y, double w, double h, Color c) {
  const int64_t left = std::lround(x), top = std::lround(y);
  fill_rectangle(picture_, left, top, std::max<int64_t>(1, std::lround(x + w) - left),
                 std::max<int64_t>(1, std::lround(y + h) - top), c);
}

// The strongest cover of all segments at each pixel, so that joints aren't painted twice.
void PictureCanvas::polyline(const Polyline& points, Color color, double width) {
  const int64_t h = picture_.dim(0), w = picture_.dim(1);
  std::vector<float> cover(size_t(h * w));
  const double reach = width / 2 + 1;
  for (size_t i = 0; i + 1 < points.size(); ++i) {
    const Point a = points[i], b = points[i + 1];
    const double dx = b.x - a.x, dy = b.y - a.y, length2 = dx * dx + dy * dy;
    const auto x0 = std::max<int64_t>(0, int64_t(std::min(a.x, b.x) - reach)),
               x1 = std::min(w - 1, int64_t(std::max(a.x, b.x) + reach));
    const auto y0 = std::max<int64_t>(0, int64_t(std::min(a.y, b.y) - reach)),
               y1 = std::min(h - 1, int64_t(std::max(a.y, b.y) + reach));
    for (int64_t y = y0; y <= y1; ++y) {
      for (int64_t x = x0; x <= x1; ++x) {
        const double px = double(x) + .5 - a.x, py = double(y) + .5 - a.y;
        const double t = length2 > 0 ? std::clamp((px * dx + py * dy) / length2, 0.0, 1.0) : 0;
        const double c = std::clamp(width / 2 + .5 - std::hypot(px - t * dx, py - t * dy), 0.0, 1.0);
        cover[size_t(y * w + x)] = std::max(cover[size_t(y * w + x)], float(c));
      }
    }
  }
  for (int64_t y = 0; y < h; ++y)
    for (int64_t x = 0; x < w; ++x)
      if (const double c = double(cover[size_t(y * w + x)]); c > 0) fill_rectangle(picture_, x, y, 1, 1, color, c);
}

void PictureCanvas::dot(Point p, double radius, Color color) {
  draw_line(picture_, p.x - .5, p.y - .5, p.x - .5, p.y - .5, color, 2 * radius);
}

void PictureCanvas::text(Point p, Align align, const std::string& text, Color c, bool) {
  const double w = text_width(text, false), x = align == Align::left ? p.x : align == Align::middle ? p.x - w / 2 : p.x - w;
  draw_text(picture_, std::lround(x), std::lround(p.y - glyph_ascent * scale / 2.), text, c, scale);
}

void PictureCanvas::vertical_text(Point p, const std::string& text, Color c) {
  double y = p.y + text_width(text, false) / 2;
  const int64_t left = std::lround(p.x - glyph_ascent * scale / 2.);
  for (const char ch : text) {
    for (int row = 0; row < glyph_height; ++row)
      for (int k = 0; k < glyph_width; ++k)
        if (glyph(ch)[size_t(row)] >> (glyph_width - 1 - k) & 1)
          fill_rectangle(picture_, left + row * scale, std::lround(y) - (k + 1) * scale, scale, scale, c);
    y -= glyph_advance * scale;
  }
}

double PictureCanvas::text_width(const std::string& text, bool) const { return double(text_size(text, scale).width); }

}  // namespace glia

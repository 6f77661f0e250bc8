// A chart is laid out once, onto a canvas that is either SVG or a picture.
#include "data/plot.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <limits>

#include "data/font.h"

namespace glia {
namespace {

constexpr Color ink{40, 44, 52}, faint_ink{110, 116, 128}, grid{228, 231, 236}, paper{255, 255, 255};

// Distinguishable with the common kinds of colour blindness: Okabe and Ito (2008), without the yellow.
constexpr std::array<Color, 7> palette{
    {{0, 114, 178}, {213, 94, 0}, {0, 158, 115}, {204, 121, 167}, {230, 159, 0}, {86, 180, 233}, {90, 90, 90}}};

struct Point {
  double x, y;
};
using Polyline = std::vector<Point>;

Color paled(Color c, double strength) {
  const auto f = [strength](uint8_t v) { return static_cast<uint8_t>(std::lround(255 + strength * (double(v) - 255))); };
  return {f(c.r), f(c.g), f(c.b)};
}

enum class Align { left, middle, right };

class Canvas {
 public:
  virtual ~Canvas() = default;
  virtual void rectangle(double x, double y, double w, double h, Color color) = 0;
  virtual void polyline(const Polyline& points, Color color, double width) = 0;
  virtual void dot(Point p, double radius, Color color) = 0;
  virtual void text(Point p, Align align, const std::string& text, Color color,
                    bool large) = 0;                                              // p: left/middle/right, centre line
  virtual void vertical_text(Point p, const std::string& text, Color color) = 0;  // centred, read upwards
  virtual double text_width(const std::string& text, bool large) const = 0;
};

class SvgCanvas : public Canvas {
 public:
  SvgCanvas(int width, int height) {
    out_ = fmt::format(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {0} {1}\" width=\"{0}\" height=\"{1}\" "
        "font-family=\"system-ui, sans-serif\" font-size=\"13\">\n",
        width, height);
    rectangle(0, 0, width, height, paper);
  }
  void rectangle(double x, double y, double w, double h, Color c) override {
    out_ += fmt::format("<rect x=\"{:.1f}\" y=\"{:.1f}\" width=\"{:.1f}\" height=\"{:.1f}\" fill=\"{}\"/>\n", x, y, w, h, hex(c));
  }
  void polyline(const Polyline& points, Color c, double width) override {
    out_ += fmt::format("<polyline fill=\"none\" stroke=\"{}\" stroke-width=\"{:.1f}\" stroke-linejoin=\"round\" points=\"",
                        hex(c), width);
    for (const Point& p : points) out_ += fmt::format("{:.1f},{:.1f} ", p.x, p.y);
    out_ += "\"/>\n";
  }
  void dot(Point p, double radius, Color c) override {
    out_ += fmt::format("<circle cx=\"{:.1f}\" cy=\"{:.1f}\" r=\"{:.1f}\" fill=\"{}\"/>\n", p.x, p.y, radius, hex(c));
  }
  void text(Point p, Align align, const std::string& text, Color c, bool large) override {
    const char* anchor = align == Align::left ? "start" : align == Align::middle ? "middle" : "end";
    out_ +=
        fmt::format("<text x=\"{:.1f}\" y=\"{:.1f}\" fill=\"{}\" text-anchor=\"{}\" dominant-baseline=\"central\"{}>{}</text>\n",
                    p.x, p.y, hex(c), anchor, large ? " font-size=\"16\" font-weight=\"600\"" : "", escaped(text));
  }
  void vertical_text(Point p, const std::string& text, Color c) override {
    out_ += fmt::format(
        "<text transform=\"translate({:.1f},{:.1f}) rotate(-90)\" fill=\"{}\" text-anchor=\"middle\" "
        "dominant-baseline=\"central\">{}</text>\n",
        p.x, p.y, hex(c), escaped(text));
  }
  double text_width(const std::string& text, bool large) const override { return double(text.size()) * (large ? 9 : 7.2); }
  std::string finish() { return out_ + "</svg>\n"; }

 private:
  static std::string hex(Color c) { return fmt::format("#{:02x}{:02x}{:02x}", c.r, c.g, c.b); }
  static std::string escaped(const std::string& text) {
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
  std::string out_;
};

class PictureCanvas : public Canvas {
 public:
  PictureCanvas(int width, int height) : picture_({height, width, 3}, DType::uint8) { rectangle(0, 0, width, height, paper); }
  void rectangle(double x, double y, double w, double h, Color c) override {
    const int64_t left = std::lround(x), top = std::lround(y);
    fill_rectangle(picture_, left, top, std::max<int64_t>(1, std::lround(x + w) - left),
                   std::max<int64_t>(1, std::lround(y + h) - top), c);
  }
  // The strongest cover of all segments at each pixel, so that joints aren't painted twice.
  void polyline(const Polyline& points, Color color, double width) override {
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
  void dot(Point p, double radius, Color color) override {
    draw_line(picture_, p.x - .5, p.y - .5, p.x - .5, p.y - .5, color, 2 * radius);
  }
  void text(Point p, Align align, const std::string& text, Color c, bool) override {
    const double w = text_width(text, false), x = align == Align::left ? p.x : align == Align::middle ? p.x - w / 2 : p.x - w;
    draw_text(picture_, std::lround(x), std::lround(p.y - glyph_ascent * scale / 2.), text, c, scale);
  }
  void vertical_text(Point p, const std::string& text, Color c) override {
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
  double text_width(const std::string& text, bool) const override { return double(text_size(text, scale).width); }
  Tensor picture() const { return picture_; }

 private:
  static constexpr int scale = 2;
  Tensor picture_;
};

// Short and exact for the numbers that ticks are.
std::string tick_text(double v, double step) {
  if (std::abs(v) < step * 1e-6) return "0";
  const double size = std::abs(v);
  if (size >= 1e6 || size < 1e-3) {
    std::string text = fmt::format("{:.2e}", v);  // 1.50e-04 -> 1.5e-4
    const size_t e = text.find('e');
    std::string mantissa = text.substr(0, e);
    mantissa.erase(mantissa.find_last_not_of('0') + 1);
    if (mantissa.back() == '.') mantissa.pop_back();
    return fmt::format("{}e{}", mantissa, std::stoi(text.substr(e + 1)));
  }
  const int decimals = std::clamp(int(std::ceil(-std::log10(step) - 1e-6)), 0, 9);
  return fmt::format("{:.{}f}", v, decimals);
}

struct Axis {
  double low = 0, high = 1;  // data, log10 of it on a log axis
  bool log = false;
  std::vector<std::pair<double, std::string>> ticks;  // position 0..1, text

  bool shows(double v) const { return std::isfinite(v) && (!log || v > 0); }
  double place(double v) const { return ((log ? std::log10(v) : v) - low) / (high - low); }
};

Axis make_axis(const std::vector<Series>& series, bool is_y, bool log, int wanted) {
  Axis axis;
  axis.log = log;
  double low = std::numeric_limits<double>::infinity(), high = -low;
  for (const Series& s : series) {
    for (size_t i = 0; i < std::min(s.x.size(), s.y.size()); ++i) {
      const double v = is_y ? s.y[i] : s.x[i];
      if (!std::isfinite(s.x[i]) || !std::isfinite(s.y[i]) || (log && v <= 0)) continue;
      low = std::min(low, log ? std::log10(v) : v);
      high = std::max(high, log ? std::log10(v) : v);
    }
  }
  if (low > high) low = 0, high = 1;
  if (high - low < 1e-12 * std::max(1., std::abs(high))) {
    const double room = log ? 0.5 : std::max(std::abs(high) * 0.1, 1e-6);
    low -= room;
    high += room;
  }
  if (is_y) {
    // A quantity from 0 keeps 0 in view when it comes close to it.
    const bool from_zero = !log && low >= 0 && low < 0.4 * high;
    const double room = (high - low) * 0.05;
    low = from_zero ? 0 : low - room;
    high += room;
  }
  axis.low = low;
  axis.high = high;
  if (log && high - low >= 0.8) {  // decades, with 2 and 5 between them where there are few
    const bool between = high - low < 3;
    const int step = std::max(1, int(std::ceil((high - low) / wanted)));
    for (int k = int(std::floor(low)); k <= high; ++k) {
      const double power = std::pow(10., k);
      for (const int m : {1, 2, 5}) {
        const double v = std::log10(m) + k;
        if (v >= low && v <= high && (between || (m == 1 && k % step == 0)))
          axis.ticks.emplace_back((v - low) / (high - low), tick_text(m * power, power));
      }
    }
  } else {
    const double from = log ? std::pow(10., low) : low, to = log ? std::pow(10., high) : high;
    const std::vector<double> ticks = axis_ticks(from, to, wanted);
    const double step = ticks.size() > 1 ? ticks[1] - ticks[0] : std::abs(to);
    for (const double v : ticks)
      if (axis.shows(v)) axis.ticks.emplace_back(axis.place(v), tick_text(v, step));
  }
  return axis;
}

std::vector<double> smoothed(const std::vector<double>& y, double memory) {
  std::vector<double> out(y.size());
  double average = 0, weight = 0;  // corrected for the start, as Adam's
  for (size_t i = 0; i < y.size(); ++i) {
    if (!std::isfinite(y[i])) {
      out[i] = y[i];
      continue;
    }
    average = memory * average + (1 - memory) * y[i];
    weight = memory * weight + (1 - memory);
    out[i] = average / weight;
  }
  return out;
}

// Unbroken stretches in canvas coordinates. Of the many points that fall on one column of pixels the first, lowest, highest and last stay.
std::vector<Polyline> stretches(const std::vector<double>& x, const std::vector<double>& y, const Axis& ax, const Axis& ay,
                                double left, double top, double w, double h) {
  std::vector<Polyline> lines(1);
  Polyline column;
  const auto flush = [&] {
    if (column.size() <= 4) {
      lines.back().insert(lines.back().end(), column.begin(), column.end());
    } else {
      auto [low, high] =
          std::minmax_element(column.begin(), column.end(), [](const Point& a, const Point& b) { return a.y < b.y; });
      if (high < low) std::swap(low, high);
      lines.back().insert(lines.back().end(), {column.front(), *low, *high, column.back()});
    }
    column.clear();
  };
  for (size_t i = 0; i < std::min(x.size(), y.size()); ++i) {
    if (!ax.shows(x[i]) || !ay.shows(y[i])) {
      flush();
      if (!lines.back().empty()) lines.emplace_back();
      continue;
    }
    const Point p{left + ax.place(x[i]) * w, top + (1 - ay.place(y[i])) * h};
    if (!column.empty() && std::floor(column.front().x) != std::floor(p.x)) flush();
    column.push_back(p);
  }
  flush();
  return lines;
}

void draw_plot(const Plot& plot, Canvas& canvas) {
  const double width = plot.width, height = plot.height;
  const Axis y = make_axis(plot.series, true, plot.log_y, std::max(3, plot.height / 80));
  const Axis x = make_axis(plot.series, false, false, std::max(3, plot.width / 130));
  double label_width = 0;
  for (const auto& [at, text] : y.ticks) label_width = std::max(label_width, canvas.text_width(text, false));
  const double left = 20 + label_width + (plot.y_label.empty() ? 0 : 28), right = width - 28;
  const double top = plot.title.empty() ? 20 : 52, bottom = height - (plot.x_label.empty() ? 40 : 66);
  const double w = right - left, h = bottom - top;
  if (!plot.title.empty()) canvas.text({left, 26}, Align::left, plot.title, ink, true);
  for (const auto& [at, text] : y.ticks) {
    const double py = bottom - at * h;
    canvas.rectangle(left, py - .5, w, 1, grid);
    canvas.text({left - 8, py}, Align::right, text, faint_ink, false);
  }
  for (const auto& [at, text] : x.ticks) {
    const double px = left + at * w;
    canvas.rectangle(px - .5, bottom, 1, 5, faint_ink);
    canvas.text({px, bottom + 18}, Align::middle, text, faint_ink, false);
  }
  canvas.rectangle(left, bottom - .5, w, 1, faint_ink);
  if (!plot.x_label.empty()) canvas.text({left + w / 2, height - 18}, Align::middle, plot.x_label, ink, false);
  if (!plot.y_label.empty()) canvas.vertical_text({16, top + h / 2}, plot.y_label, ink);

  const bool crowded = plot.series.size() > palette.size();
  const auto color = [&](size_t i) { return crowded ? distinct_color(int64_t(i)) : palette[i]; };
  for (size_t i = 0; i < plot.series.size(); ++i) {
    const Series& s = plot.series[i];
    const bool smooth = s.smoothing > 0;
    if (smooth)
      for (const Polyline& line : stretches(s.x, s.y, x, y, left, top, w, h)) canvas.polyline(line, paled(color(i), .3), 1);
    for (const Polyline& line : stretches(s.x, smooth ? smoothed(s.y, s.smoothing) : s.y, x, y, left, top, w, h)) {
      if (line.size() > 1) canvas.polyline(line, color(i), 2.2);
      if (s.markers || line.size() == 1)
        for (const Point& p : line) canvas.dot(p, 3.5, color(i));
    }
  }
  // The legend stands where the fewest points are: right or left, above or below.
  double legend = 0;
  int named = 0;
  for (const Series& s : plot.series) {
    legend = std::max(legend, s.name.empty() ? 0 : canvas.text_width(s.name, false) + 36);
    named += !s.name.empty();
  }
  if (!named) return;
  const double line_height = 22, legend_height = named * line_height + 10;
  double best_x = 0, best_y = 0;
  int64_t fewest = std::numeric_limits<int64_t>::max();
  for (const bool below : {false, true}) {
    for (const bool at_left : {false, true}) {
      const double px = at_left ? left + 14 : right - legend - 22, py = below ? bottom - legend_height - 12 : top + 8;
      int64_t covered = 0;
      for (const Series& s : plot.series)
        for (const Polyline& line : stretches(s.x, s.y, x, y, left, top, w, h))
          covered += std::count_if(line.begin(), line.end(), [&](const Point& p) {
            return p.x > px - 6 && p.x < px + legend + 16 && p.y > py - 6 && p.y < py + legend_height + 6;
          });
      if (covered < fewest) fewest = covered, best_x = px, best_y = py;
    }
  }
  canvas.rectangle(best_x, best_y, legend + 12, legend_height, paper);
  double py = best_y + 5 + line_height / 2;
  for (size_t i = 0; i < plot.series.size(); ++i) {
    if (plot.series[i].name.empty()) continue;
    canvas.rectangle(best_x + 8, py - 1.5, 20, 3, color(i));
    canvas.text({best_x + 36, py}, Align::left, plot.series[i].name, ink, false);
    py += line_height;
  }
}

}  // namespace

std::vector<double> axis_ticks(double low, double high, int wanted) {
  if (!(high > low) || !std::isfinite(low) || !std::isfinite(high)) return {low};
  const double raw = (high - low) / std::max(1, wanted), power = std::pow(10., std::floor(std::log10(raw))), rest = raw / power;
  const double step = power * (rest <= 1 ? 1 : rest <= 2 ? 2 : rest <= 5 ? 5 : 10);
  std::vector<double> ticks;
  for (double k = std::ceil(low / step - 1e-9); k * step <= high + step * 1e-9 && ticks.size() < 100; ++k)
    ticks.push_back(k * step);
  return ticks;
}

std::string plot_svg(const Plot& plot) {
  SvgCanvas canvas(plot.width, plot.height);
  draw_plot(plot, canvas);
  return canvas.finish();
}

Tensor plot_picture(const Plot& plot) {
  PictureCanvas canvas(plot.width, plot.height);
  draw_plot(plot, canvas);
  return canvas.picture();
}

}  // namespace glia

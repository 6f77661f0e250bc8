// A chart is laid out once, onto a canvas (plot_canvas.h).
#include "data/plot.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <limits>

#include "data/plot_canvas.h"

namespace glia {
namespace {

using Point = Canvas::Point;
using Polyline = Canvas::Polyline;
using Align = Canvas::Align;

constexpr Color ink{40, 44, 52}, faint_ink{110, 116, 128}, grid{228, 231, 236};

// Distinguishable with the common kinds of colour blindness: Okabe and Ito (2008), without the yellow.
constexpr std::array<Color, 7> palette{
    {{0, 114, 178}, {213, 94, 0}, {0, 158, 115}, {204, 121, 167}, {230, 159, 0}, {86, 180, 233}, {90, 90, 90}}};

Color paled(Color c, double strength) {
  const auto f = [strength](uint8_t v) { return static_cast<uint8_t>(std::lround(255 + strength * (double(v) - 255))); };
  return {f(c.r), f(c.g), f(c.b)};
}

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

using Range = std::optional<std::array<double, 2>>;

Axis make_axis(const std::vector<Series>& series, bool is_y, bool log, int wanted, const Range& fixed) {
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
  if (fixed) {
    low = log ? std::log10((*fixed)[0]) : (*fixed)[0];
    high = log ? std::log10((*fixed)[1]) : (*fixed)[1];
  }
  if (high - low < 1e-12 * std::max(1., std::abs(high))) {
    const double room = log ? 0.5 : std::max(std::abs(high) * 0.1, 1e-6);
    low -= room;
    high += room;
  }
  if (!fixed && is_y) {
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

// Where the data are drawn: pixels of the canvas.
struct Area {
  double left, top, right, bottom;
  double width() const { return right - left; }
  double height() const { return bottom - top; }
};

struct Legend {
  static constexpr double line_height = 22;
  double x = 0, y = 0, width = 0, height = 0;  // width 0: none
};

Legend measured_legend(const Plot& plot, const Canvas& canvas) {
  Legend legend;
  int named = 0;
  for (const Series& s : plot.series) {
    if (s.name.empty()) continue;
    ++named;
    legend.width = std::max(legend.width, canvas.text_width(s.name, false) + 48);
  }
  legend.height = named * Legend::line_height + 10;
  return legend;
}

// Puts the legend into a corner of the area where no line passes; false where there is none.
bool place_in_corner(Legend& legend, const Plot& plot, const Area& area, const Axis& x, const Axis& y) {
  std::vector<Polyline> lines;
  for (const Series& s : plot.series)
    for (Polyline& line : stretches(s.x, s.y, x, y, area.left, area.top, area.width(), area.height()))
      lines.push_back(std::move(line));
  constexpr double room = 6, step = 3;  // pixels
  const auto inside = [&](double px, double py) {
    return px > legend.x - room && px < legend.x + legend.width + room && py > legend.y - room &&
           py < legend.y + legend.height + room;
  };
  for (const bool below : {false, true}) {
    for (const bool at_left : {false, true}) {
      legend.x = at_left ? area.left + 14 : area.right - legend.width - 10;
      legend.y = below ? area.bottom - legend.height - 12 : area.top + 8;
      bool crossed = false;
      for (const Polyline& line : lines) {
        for (size_t i = 0; i < line.size() && !crossed; ++i) {
          const Point a = line[i], b = line[std::min(i + 1, line.size() - 1)];
          const int parts = 1 + int(std::hypot(b.x - a.x, b.y - a.y) / step);
          for (int k = 0; k < parts; ++k)
            crossed = crossed || inside(a.x + (b.x - a.x) * k / parts, a.y + (b.y - a.y) * k / parts);
        }
      }
      if (!crossed) return true;
    }
  }
  return false;
}

void draw_axes(const Plot& plot, Canvas& canvas, const Area& area, const Axis& x, const Axis& y) {
  for (const auto& [at, text] : y.ticks) {
    const double py = area.bottom - at * area.height();
    canvas.rectangle(area.left, py - .5, area.width(), 1, grid);
    canvas.text({area.left - 8, py}, Align::right, text, faint_ink, false);
  }
  for (const auto& [at, text] : x.ticks) {
    const double px = area.left + at * area.width();
    canvas.rectangle(px - .5, area.bottom, 1, 5, faint_ink);
    canvas.text({px, area.bottom + 18}, Align::middle, text, faint_ink, false);
  }
  canvas.rectangle(area.left, area.bottom - .5, area.width(), 1, faint_ink);
  if (!plot.title.empty()) canvas.text({area.left, 26}, Align::left, plot.title, ink, true);
  if (!plot.x_label.empty())
    canvas.text({area.left + area.width() / 2, plot.height - 18.}, Align::middle, plot.x_label, ink, false);
  if (!plot.y_label.empty()) canvas.vertical_text({16, area.top + area.height() / 2}, plot.y_label, ink);
}

void draw_series(const Series& s, Color color, Canvas& canvas, const Area& area, const Axis& x, const Axis& y) {
  const auto lines_of = [&](const std::vector<double>& values) {
    return stretches(s.x, values, x, y, area.left, area.top, area.width(), area.height());
  };
  const bool smooth = s.smoothing > 0;
  if (smooth)
    for (const Polyline& line : lines_of(s.y)) canvas.polyline(line, paled(color, .3), 1);
  for (const Polyline& line : lines_of(smooth ? smoothed(s.y, s.smoothing) : s.y)) {
    if (line.size() > 1) canvas.polyline(line, color, 2.2);
    if (s.markers || line.size() == 1)
      for (const Point& p : line) canvas.dot(p, 3.5, color);
  }
}

// The legend stands in a corner that is free, else beside the axes.
void draw_plot(const Plot& plot, Canvas& canvas) {
  const Axis y = make_axis(plot.series, true, plot.log_y, std::max(3, plot.height / 80), plot.y_range);
  const Axis x = make_axis(plot.series, false, false, std::max(3, plot.width / 130), plot.x_range);
  double label_width = 0, last_label = 0;
  for (const auto& [at, text] : y.ticks) label_width = std::max(label_width, canvas.text_width(text, false));
  if (!x.ticks.empty()) last_label = canvas.text_width(x.ticks.back().second, false);
  Area area{20 + label_width + (plot.y_label.empty() ? 0 : 28), plot.title.empty() ? 20. : 52.,
            plot.width - std::max(28., last_label / 2 + 4), plot.height - (plot.x_label.empty() ? 40. : 66.)};
  Legend legend = measured_legend(plot, canvas);
  if (legend.width > 0 && !place_in_corner(legend, plot, area, x, y)) {
    area.right = plot.width - legend.width - 24;
    legend.x = area.right + 16;
    legend.y = area.top;
  }
  draw_axes(plot, canvas, area, x, y);
  const bool crowded = plot.series.size() > palette.size();
  const auto color = [&](size_t i) { return crowded ? distinct_color(int64_t(i)) : palette[i]; };
  for (size_t i = 0; i < plot.series.size(); ++i) draw_series(plot.series[i], color(i), canvas, area, x, y);
  if (legend.width == 0) return;
  canvas.rectangle(legend.x, legend.y, legend.width, legend.height, Canvas::paper);
  double py = legend.y + 5 + Legend::line_height / 2;
  for (size_t i = 0; i < plot.series.size(); ++i) {
    if (plot.series[i].name.empty()) continue;
    canvas.rectangle(legend.x + 8, py - 1.5, 20, 3, color(i));
    canvas.text({legend.x + 36, py}, Align::left, plot.series[i].name, ink, false);
    py += Legend::line_height;
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

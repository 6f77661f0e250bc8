#include "apps/plots.h"

#include <fmt/format.h>

#include <cmath>
#include <cstdlib>
#include <map>
#include <string>

#include "data/atomic_file.h"
#include "data/csv.h"
#include "data/image_io.h"
#include "data/plot.h"

namespace glia {
namespace {

using Columns = std::map<std::string, std::vector<double>>;

Columns read_columns(const std::filesystem::path& file) {
  Columns columns;
  CsvReader csv(file);
  while (csv.next())
    for (size_t i = 0; i < csv.header().size(); ++i) {
      const std::string text(csv.fields()[i]);
      columns[csv.header()[i]].push_back(text.empty() ? NAN : std::strtod(text.c_str(), nullptr));
    }
  return columns;
}

void draw(const std::filesystem::path& stem, Plot plot, const Columns& columns, const std::vector<std::string>& names) {
  for (const std::string& name : names)
    if (const auto found = columns.find(name); found != columns.end())
      plot.series.push_back(
          {.name = name, .x = columns.at("step"), .y = found->second, .smoothing = 0, .markers = found->second.size() < 60});
  if (plot.series.empty()) return;
  write_file(stem.string() + ".svg", plot_svg(plot));
  write_png(stem.string() + ".png", plot_picture(plot));
}

}  // namespace

void draw_curves(const std::filesystem::path& run) {
  const auto file = run / "results.csv";
  if (!std::filesystem::exists(file)) return;
  try {
    const Columns columns = read_columns(file);
    if (!columns.count("step")) return;
    std::filesystem::create_directories(run / "pictures");
    std::vector<std::string> losses, metrics;
    for (const auto& [name, values] : columns) {
      if (name.find("loss") != std::string::npos || name.find("bce") != std::string::npos) {
        losses.push_back(name);
      } else if (name.find("map_iou") != std::string::npos || name.find("dice") != std::string::npos ||
                 name.find("f1") != std::string::npos) {
        metrics.push_back(name);
      }
    }
    draw(run / "pictures" / "loss", {.title = "Losses", .x_label = "step", .y_label = "loss", .series = {}, .log_y = true},
         columns, losses);
    draw(run / "pictures" / "metrics", {.title = "Validation", .x_label = "step", .y_label = "score", .series = {}}, columns,
         metrics);
  } catch (const std::exception& e) {
    fmt::print(stderr, "warning: no curves: {}\n", e.what());
  }
}

}  // namespace glia

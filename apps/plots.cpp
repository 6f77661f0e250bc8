#include "apps/plots.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <map>
#include <string>

#include "data/atomic_file.h"
#include "data/csv.h"
#include "data/image_io.h"
#include "data/plot.h"
#include "tensor/error.h"

namespace glia {
namespace {

using Columns = std::map<std::string, std::vector<double>>;

Columns read_columns(const std::filesystem::path& file) {
  Columns columns;
  CsvReader csv(file);
  for (const std::string& name : csv.header()) columns[name];
  while (csv.next())
    for (size_t i = 0; i < csv.header().size(); ++i) {
      const std::string text(csv.fields()[i]);
      columns[csv.header()[i]].push_back(text.empty() ? NAN : std::strtod(text.c_str(), nullptr));
    }
  return columns;
}

bool is_loss(const std::string& column) {
  return column.find("loss") != std::string::npos || column.find("bce") != std::string::npos;
}

bool is_score(const std::string& column) {
  return column.find("map_iou") != std::string::npos || column.find("dice") != std::string::npos ||
         column.find("f1") != std::string::npos;
}

void add_line(Plot& plot, std::string name, const Columns& columns, const std::string& column) {
  const std::vector<double>& y = columns.at(column);
  plot.series.push_back({.name = std::move(name), .x = columns.at("step"), .y = y, .smoothing = 0, .markers = y.size() < 60});
}

void write(const std::filesystem::path& stem, const Plot& plot) {
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
    Plot losses{.title = "Losses", .x_label = "step", .y_label = "loss", .log_y = true};
    Plot metrics{.title = "Validation", .x_label = "step", .y_label = "score"};
    for (const auto& [name, values] : columns)
      if (is_loss(name) || is_score(name)) add_line(is_loss(name) ? losses : metrics, name, columns, name);
    write(run / "pictures" / "loss", losses);
    write(run / "pictures" / "metrics", metrics);
  } catch (const std::exception& e) {
    fmt::print(stderr, "warning: no curves: {}\n", e.what());
  }
}

bool is_run(const std::filesystem::path& path) { return std::filesystem::exists(path / "results.csv"); }

std::vector<std::string> draw_runs(const std::vector<std::filesystem::path>& runs, const std::filesystem::path& out) {
  std::map<std::string, Plot> plots;
  for (const auto& run : runs) {
    const Columns columns = read_columns(run / "results.csv");
    if (!columns.count("step"))
      throw DataError("{}: no column 'step'; want the file that `glia train` wrote", (run / "results.csv").string());
    for (const auto& [name, values] : columns) {
      const bool has_numbers = std::any_of(values.begin(), values.end(), [](double v) { return std::isfinite(v); });
      if (!has_numbers || !(is_loss(name) || is_score(name))) continue;
      const auto plot =
          plots.try_emplace(name, Plot{.title = name, .x_label = "step", .y_label = name, .log_y = is_loss(name)}).first;
      const auto folder = run.filename().empty() ? run.parent_path() : run;
      add_line(plot->second, folder.filename().string(), columns, name);
    }
  }
  if (plots.empty())
    throw DataError("{}: no losses or metrics in results.csv: did this run get to its first step?", runs.at(0).string());
  std::vector<std::string> names;
  for (const auto& [name, plot] : plots) {
    write(out / name, plot);
    names.push_back(name);
  }
  return names;
}

}  // namespace glia

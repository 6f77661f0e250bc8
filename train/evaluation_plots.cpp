#include "train/evaluation_plots.h"

#include <fmt/format.h>

namespace glia {
namespace {

Plot unit_plot(std::string title, std::string x, std::string y) {
  Plot plot{.title = std::move(title), .x_label = std::move(x), .y_label = std::move(y), .width = 760, .height = 560};
  plot.x_range = {0., 1.};
  plot.y_range = {0., 1.02};  // a line along 1 stays whole
  return plot;
}

std::vector<double> recall_axis() {
  std::vector<double> x;
  for (int r = 0; r < CocoCurves::recall_levels; ++r) x.push_back(r / 100.);
  return x;
}

Plot score_plot(const std::vector<double>& thresholds, std::string title, std::string y) {
  Plot plot = unit_plot(std::move(title), "score threshold", std::move(y));
  plot.x_range = {thresholds.front(), thresholds.back()};
  return plot;
}

}  // namespace

std::vector<std::pair<std::string, Plot>> evaluation_plots(const Evaluation& e) {
  std::vector<std::pair<std::string, Plot>> plots;
  const CocoCurves& all = e.curves;
  if (!all.precision_50.empty()) {
    Plot plot = unit_plot("Precision and recall (masks)", "recall", "precision");
    plot.series = {{.name = fmt::format("IoU .50: AP {:.3f}", e.segm.ap50), .x = recall_axis(), .y = all.precision_50},
                   {.name = fmt::format("IoU .75: AP {:.3f}", e.segm.ap75), .x = recall_axis(), .y = all.precision_75},
                   {.name = fmt::format("mean .50-.95: AP {:.3f}", e.segm.ap), .x = recall_axis(), .y = all.precision_mean}};
    plots.emplace_back("precision_recall", plot);
  }
  if (all.best_f1 >= 0) {
    Plot plot = score_plot(all.thresholds,
                           fmt::format("At IoU .50: best F1 {:.3f} at scores from {:.2f}", all.best_f1, all.best_threshold),
                           "F1, precision, recall");
    plot.series = {{.name = "F1", .x = all.thresholds, .y = all.f1},
                   {.name = "precision", .x = all.thresholds, .y = all.precision},
                   {.name = "recall", .x = all.thresholds, .y = all.recall}};
    plots.emplace_back("f1_by_score", plot);
  }
  Plot recall = unit_plot("Precision and recall by class (masks, IoU .50)", "recall", "precision");
  for (const auto& [name, s] : e.per_class)
    if (!s.curves.precision_50.empty())
      recall.series.push_back(
          {.name = fmt::format("{}: AP {:.3f}", name, s.segm.ap50), .x = recall_axis(), .y = s.curves.precision_50});
  if (!recall.series.empty()) plots.emplace_back("precision_recall_classes", recall);
  if (all.thresholds.empty()) return plots;
  Plot f1 = score_plot(all.thresholds, "F1 by class, at IoU .50", "F1");
  for (const auto& [name, s] : e.per_class)
    if (s.curves.best_f1 >= 0)
      f1.series.push_back({.name = fmt::format("{}: {:.3f} at {:.2f}", name, s.curves.best_f1, s.curves.best_threshold),
                           .x = s.curves.thresholds,
                           .y = s.curves.f1});
  if (!f1.series.empty()) plots.emplace_back("f1_by_score_classes", f1);
  return plots;
}

}  // namespace glia

// An Evaluation as JSON and as a table.
#include <fmt/format.h>
#include <rapidjson/prettywriter.h>
#include <rapidjson/stringbuffer.h>

#include <cmath>

#include "train/evaluation.h"

namespace glia {
namespace {

using Writer = rapidjson::PrettyWriter<rapidjson::StringBuffer>;

void write_number(Writer& w, const char* key, double value) {
  w.Key(key);
  if (std::isfinite(value)) {
    w.Double(value);
  } else {
    w.Null();
  }
}

void write_coco(Writer& w, const char* key, const CocoSummary& s) {
  w.Key(key);
  w.StartObject();
  const std::pair<const char*, double> values[] = {{"ap", s.ap},       {"ap50", s.ap50}, {"ap75", s.ap75}, {"aps", s.aps},
                                                   {"apm", s.apm},     {"apl", s.apl},   {"ar1", s.ar1},   {"ar10", s.ar10},
                                                   {"ar100", s.ar100}, {"ars", s.ars},   {"arm", s.arm},   {"arl", s.arl}};
  for (const auto& [name, value] : values) write_number(w, name, value);
  w.EndObject();
}

void write_list(Writer& w, const char* key, const std::vector<double>& values) {
  w.Key(key);
  w.StartArray();
  for (const double v : values) w.Double(v);
  w.EndArray();
}

void write_curves(Writer& w, const CocoCurves& c) {
  if (c.thresholds.empty()) return;
  w.Key("precision_by_recall");
  w.StartObject();
  write_list(w, "iou_50", c.precision_50);
  write_list(w, "iou_75", c.precision_75);
  write_list(w, "mean", c.precision_mean);
  w.EndObject();
  w.Key("by_score_threshold");
  w.StartObject();
  write_list(w, "threshold", c.thresholds);
  write_list(w, "precision", c.precision);
  write_list(w, "recall", c.recall);
  write_list(w, "f1", c.f1);
  write_number(w, "best_threshold", c.best_threshold);
  write_number(w, "best_f1", c.best_f1);
  w.EndObject();
}

void write_scores(Writer& w, const Scores& s) {
  write_number(w, "map_iou", s.map_iou);
  write_number(w, "map_iou_compat", s.map_iou_compat);
  w.Key("precision_at");
  w.StartArray();
  for (const double p : s.precision_at) w.Double(p);
  w.EndArray();
  write_coco(w, "bbox", s.bbox);
  write_coco(w, "segm", s.segm);
  write_number(w, "dice", s.dice);
  write_number(w, "bce", s.bce);
  write_number(w, "f1_at_50", s.f1_at_50);
  w.Key("n_images");
  w.Int64(s.n_images);
  w.Key("n_truth");
  w.Int64(s.n_truth);
  w.Key("n_pred");
  w.Int64(s.n_pred);
  write_curves(w, s.curves);
}

void write_group(Writer& w, const char* key, const std::vector<std::pair<std::string, Scores>>& group) {
  w.Key(key);
  w.StartObject();
  for (const auto& [name, scores] : group) {
    w.Key(name.c_str());
    w.StartObject();
    write_scores(w, scores);
    w.EndObject();
  }
  w.EndObject();
}

}  // namespace

std::string Evaluation::to_json() const {
  rapidjson::StringBuffer buffer;
  Writer w(buffer);
  w.SetIndent(' ', 1);
  w.SetFormatOptions(rapidjson::kFormatSingleLineArray);
  w.StartObject();
  write_scores(w, *this);
  w.Key("max_detections");
  w.StartArray();
  for (const int n : protocol.max_detections) w.Int(n);
  w.EndArray();
  w.Key("size_ranges");
  w.StartArray();
  for (const auto& [low, high] : protocol.sizes) {
    w.StartArray();
    w.Double(low);
    w.Double(high);
    w.EndArray();
  }
  w.EndArray();
  write_group(w, "per_class", per_class);
  write_group(w, "per_image", per_image);
  w.Key("warnings");
  w.StartArray();
  for (const std::string& text : warnings) w.String(text.c_str());
  w.EndArray();
  w.EndObject();
  return std::string(buffer.GetString(), buffer.GetSize()) + "\n";
}

std::string Evaluation::table() const {
  std::vector<std::pair<std::string, const Scores*>> columns{{"all", this}};
  for (const auto& [name, scores] : per_class) columns.emplace_back(name, &scores);
  std::string text;
  const auto line = [&](const std::string& name, auto&& cell) {
    text += fmt::format("{:<22}", name);
    for (const auto& [title, scores] : columns)
      text += fmt::format(" {:>{}}", cell(title, *scores), std::max<size_t>(9, title.size()));
    text += '\n';
  };
  const auto number = [&](const std::string& name, auto&& value) {
    line(name,
         [&](const std::string&, const Scores& s) { return value(s) < 0 ? std::string("-") : fmt::format("{:.4f}", value(s)); });
  };
  const auto count = [&](const std::string& name, int64_t Scores::*member) {
    line(name, [&](const std::string&, const Scores& s) { return fmt::format("{}", s.*member); });
  };
  line("", [](const std::string& title, const Scores&) { return title; });
  count("images", &Scores::n_images);
  count("true instances", &Scores::n_truth);
  count("predicted instances", &Scores::n_pred);
  number("map_iou", [](const Scores& s) { return s.map_iou; });
  number("map_iou_compat", [](const Scores& s) { return s.map_iou_compat; });
  for (const size_t t : {0u, 5u, 9u})
    number(fmt::format("precision_at .{}", 50 + 5 * t), [t](const Scores& s) { return s.precision_at[t]; });
  number("f1_at_50", [](const Scores& s) { return s.f1_at_50; });
  number("best f1 by score", [](const Scores& s) { return s.curves.best_f1; });
  number("  at scores from", [](const Scores& s) { return s.curves.best_f1 < 0 ? -1 : s.curves.best_threshold; });
  number("dice", [](const Scores& s) { return s.dice; });
  using Field = std::pair<const char*, double CocoSummary::*>;
  const std::string most = fmt::format("{}", protocol.max_detections[2]);
  for (const auto& [kind, member] : {std::pair{"segm", &Scores::segm}, {"bbox", &Scores::bbox}}) {
    for (const auto& [name, field] :
         {Field{"ap", &CocoSummary::ap}, Field{"ap50", &CocoSummary::ap50}, Field{"ap75", &CocoSummary::ap75},
          Field{"aps", &CocoSummary::aps}, Field{"apm", &CocoSummary::apm}, Field{"apl", &CocoSummary::apl}})
      number(fmt::format("{} {}", kind, name), [m = member, f = field](const Scores& s) { return (s.*m).*f; });
    number(fmt::format("{} ar (up to {})", kind, most), [m = member](const Scores& s) { return (s.*m).ar100; });
  }
  return text;
}

}  // namespace glia

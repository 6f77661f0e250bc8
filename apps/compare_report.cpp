#include "apps/compare_report.h"

#include <fmt/format.h>
#include <rapidjson/document.h>
#include <rapidjson/stringbuffer.h>
#include <rapidjson/writer.h>

#include <algorithm>

#include "apps/comparison.h"
#include "data/atomic_file.h"
#include "data/dataset.h"
#include "data/image_io.h"
#include "train/progress.h"

namespace glia {
namespace {

struct Figure {
  const char* name;  // in files
  double ComparedRecipe::*value;
};
constexpr Figure figures[] = {{"map_iou", &ComparedRecipe::map_iou},
                              {"ap", &ComparedRecipe::ap},
                              {"ap50", &ComparedRecipe::ap50},
                              {"f1_at_50", &ComparedRecipe::f1_at_50},
                              {"dice", &ComparedRecipe::dice},
                              {"train_seconds", &ComparedRecipe::train_seconds},
                              {"predict_seconds", &ComparedRecipe::predict_seconds},
                              {"train_mb", &ComparedRecipe::train_mb},
                              {"tensors_mb", &ComparedRecipe::tensors_mb},
                              {"predict_mb", &ComparedRecipe::predict_mb},
                              {"parameters", &ComparedRecipe::parameters}};

std::string csv_text(const std::string& text) {
  if (text.find_first_of(",\"\n") == std::string::npos) return text;
  std::string quoted = "\"";
  for (const char c : text) quoted += c == '"' ? std::string("\"\"") : std::string(1, c);
  return quoted + "\"";
}

}  // namespace

void write_compared(const std::filesystem::path& file, const ComparedRecipe& recipe) {
  rapidjson::StringBuffer buffer;
  rapidjson::Writer<rapidjson::StringBuffer> json(buffer);
  json.StartObject();
  json.Key("name");
  json.String(recipe.name.c_str());
  json.Key("settings");
  json.Uint64(recipe.settings);
  for (const Figure& f : figures) {
    json.Key(f.name);
    json.Double(recipe.*f.value);
  }
  json.Key("steps");
  json.Int64(recipe.steps);
  json.Key("planned_steps");
  json.Int64(recipe.planned_steps);
  json.EndObject();
  write_file(file, std::string(buffer.GetString()) + "\n");
}

std::optional<ComparedRecipe> read_compared(const std::filesystem::path& file, uint64_t settings) {
  std::error_code ignored;
  if (!std::filesystem::is_regular_file(file, ignored)) return std::nullopt;
  rapidjson::Document json;
  json.Parse(read_file(file).c_str());
  const auto number = [&](const char* key) { return json.HasMember(key) && json[key].IsNumber(); };
  if (json.HasParseError() || !json.IsObject() || !json.HasMember("name") || !json["name"].IsString() || !number("steps") ||
      !number("planned_steps"))
    return std::nullopt;
  if (!json.HasMember("settings") || !json["settings"].IsUint64() || json["settings"].GetUint64() != settings)
    return std::nullopt;
  ComparedRecipe recipe;
  recipe.name = json["name"].GetString();
  recipe.settings = settings;
  for (const Figure& f : figures) {
    if (!number(f.name)) return std::nullopt;
    recipe.*f.value = json[f.name].GetDouble();
  }
  recipe.steps = json["steps"].GetInt64();
  recipe.planned_steps = json["planned_steps"].GetInt64();
  return recipe;
}

const char* const compare_legend =
    R"(Scores go from 0 to 1, and more is better. Whether a found cell is a true one is told by their IoU: the area that both cover, as a part of
the area that at least one covers.

- map_iou: of all cells, true and found, the share that match, averaged over the IoUs .5 to .95 and over the images. It counts missed and
  invented cells and rough outlines alike, so it is the one to go by.
- AP, AP50: COCO's average precision of masks, over these IoUs and at .5, of the cells that are handed in.
- F1 at .5: whether cells are found at all, however rough their outlines.
- dice: whether pixels are told cell or not; says nothing of which cell.
- training, steps: what fitted in the time, evaluations and start-up included; "80 of 200" was stopped by the budget.
- s/image: seconds of prediction per validation image, start-up included.
- training MB, prediction MB: the most memory of the process; of tensors: the part of training's on its device, which on a GPU is the GPU's.
- parameters: numbers in the network, in millions.
)";

std::string compare_markdown(const std::vector<ComparedRecipe>& recipes, const std::string& title) {
  std::string text =
      title +
      "\n\n| recipe | map_iou | AP | AP50 | F1 at .5 | dice | training | steps | s/image | training MB | of tensors | "
      "prediction MB | parameters |\n|---|---|---|---|---|---|---|---|---|---|---|---|---|\n";
  for (const ComparedRecipe& r : recipes) {
    if (!r.failure.empty()) {
      text += fmt::format("| `{}` | {} | | | | | | | | | | | |\n", r.name, r.failure);
      continue;
    }
    const std::string steps =
        r.steps < r.planned_steps ? fmt::format("{} of {}", r.steps, r.planned_steps) : fmt::format("{}", r.steps);
    text += fmt::format(
        "| `{}` | {:.4f} | {:.4f} | {:.4f} | {:.4f} | {:.4f} | {} | {} | {:.2f} | {:.0f} | {:.0f} | {:.0f} | {:.2f} M |\n",
        r.name, r.map_iou, r.ap, r.ap50, r.f1_at_50, r.dice, duration_text(r.train_seconds), steps, r.predict_seconds, r.train_mb,
        r.tensors_mb, r.predict_mb, r.parameters);
  }
  return text;
}

std::string compare_csv(const std::vector<ComparedRecipe>& recipes) {
  std::string text = "recipe";
  for (const Figure& f : figures) text += std::string(",") + f.name;
  text += ",steps,planned_steps,failure\n";
  for (const ComparedRecipe& r : recipes) {
    text += csv_text(r.name);
    for (const Figure& f : figures) text += r.failure.empty() ? fmt::format(",{:.6g}", r.*f.value) : ",";
    text += r.failure.empty() ? fmt::format(",{},{},\n", r.steps, r.planned_steps) : fmt::format(",,,{}\n", csv_text(r.failure));
  }
  return text;
}

void draw_worst_side_by_side(const Dataset& truth, const std::vector<FoundCells>& found, int64_t count,
                             const std::filesystem::path& file) {
  if (found.empty() || count == 0) return;
  std::vector<std::pair<double, size_t>> order;
  for (size_t i = 0; i < truth.samples.size(); ++i) {
    double sum = 0;
    for (const FoundCells& f : found) sum += f.evaluation.per_image[i].second.map_iou;
    order.emplace_back(sum, i);
  }
  std::sort(order.begin(), order.end());
  if (static_cast<int64_t>(order.size()) > count) order.resize(static_cast<size_t>(count));
  std::vector<Panel> panels;
  for (const auto& [sum, i] : order) {
    const Sample& sample = truth.samples[i];
    const Tensor image = read_pixels(sample);
    for (const FoundCells& f : found) {
      auto [left, right] = truth_beside_prediction(sample, f.predictions.samples[i].instances, image);
      if (&f == &found.front()) panels.push_back(std::move(left));
      right.caption = fmt::format("{:.2f} {}", f.evaluation.per_image[i].second.map_iou, f.recipe);
      panels.push_back(std::move(right));
    }
  }
  write_png(file, mosaic(panels, {.columns = static_cast<int>(found.size()) + 1,
                                  .panel_height = 360,
                                  .panel_width = 460,
                                  .title = fmt::format("the {} worst images by map_iou; {}", order.size(), matches_legend)}));
}

}  // namespace glia

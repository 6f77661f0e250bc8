#pragma once
// What came of the recipes that `glia compare` trained: one row each, as a table, a CSV file and a picture.
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "data/instance.h"
#include "train/evaluation.h"

namespace glia {

struct ComparedRecipe {
  std::string name;
  uint64_t settings = 0;  // a hash of the recipe's settings, which may change between two calls
  std::string failure;    // why there are no figures; empty where there are
  double map_iou = 0, ap = 0, ap50 = 0, f1_at_50 = 0, dice = 0;
  double train_seconds = 0;  // of the process: reading, evaluations and start-up included
  int64_t steps = 0, planned_steps = 0;
  double predict_seconds = 0;           // per image, start-up included
  double train_mb = 0, predict_mb = 0;  // largest resident memory of the process
  double tensors_mb = 0;                // of training's tensors on their device: on a GPU, its memory
  double parameters = 0;                // in millions
};

// Of one recipe, kept in its folder: a comparison that goes on reads it again.
void write_compared(const std::filesystem::path& file, const ComparedRecipe& recipe);
// Nothing where it is not there, not whole, or of other settings.
std::optional<ComparedRecipe> read_compared(const std::filesystem::path& file, uint64_t settings);

std::string compare_markdown(const std::vector<ComparedRecipe>& recipes, const std::string& title);
extern const char* const compare_legend;  // what the columns are, for people
std::string compare_csv(const std::vector<ComparedRecipe>& recipes);

// The validation images with the lowest map_iou, on average over the recipes: a row each, the truth and then what each recipe found. The
// samples of `truth` name their images; `found` are predictions for the same samples.
struct FoundCells {
  std::string recipe;
  Dataset predictions;
  Evaluation evaluation;  // with per_image
};
void draw_worst_side_by_side(const Dataset& truth, const std::vector<FoundCells>& found, int64_t count,
                             const std::filesystem::path& file);

}  // namespace glia

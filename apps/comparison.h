#pragma once
// Pictures of predictions beside the truth: show, evaluate --worst, the pictures of a training run.
#include <array>
#include <filesystem>
#include <span>
#include <string>

#include "data/draw.h"
#include "data/instance.h"
#include "train/evaluation.h"

namespace glia {

// What the colours mean, for titles.
inline constexpr const char* matches_legend = "found: green right, red wrong, blue missed";

// Two panels for a row of a mosaic. Left the true instances in distinct colours; right the predictions at IoU .50: matched green, others red, missed
// objects blue; the captions count them. scores: each prediction's score is written on it.
std::array<Panel, 2> truth_beside_prediction(const Sample& truth, std::span<const Instance> predictions, const Tensor& image,
                                             bool scores = false);

// One PNG of the `count` images with the lowest map_iou, worst first. The evaluation needs per_image. Reads the images.
void draw_worst(const Evaluation& evaluation, const Dataset& truth, const Dataset& predictions, int64_t count,
                const std::filesystem::path& file);

}  // namespace glia

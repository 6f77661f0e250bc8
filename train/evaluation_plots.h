#pragma once
// Charts of an evaluation.
#include <string>
#include <utility>
#include <vector>

#include "data/plot.h"
#include "train/evaluation.h"

namespace glia {

// By file name without ending: precision_recall (IoU .50, .75, mean), f1_by_score (F1, precision and recall against the score threshold), and, where
// there are several classes, precision_recall_classes and f1_by_score_classes (a line per class, at IoU .50). Charts of nothing are left out.
std::vector<std::pair<std::string, Plot>> evaluation_plots(const Evaluation& evaluation);

}  // namespace glia

#pragma once
// Charts of a run.
#include <filesystem>

namespace glia {

// RUN/pictures/loss.png and metrics.png (and .svg) from RUN/results.csv. Errors are warnings: the run is done.
void draw_curves(const std::filesystem::path& run);

}  // namespace glia

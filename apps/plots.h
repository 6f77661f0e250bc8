#pragma once
// Charts of a run.
#include <filesystem>
#include <vector>

namespace glia {

// RUN/pictures/loss.png and metrics.png (and .svg) from RUN/results.csv. Errors are warnings: the run is done.
void draw_curves(const std::filesystem::path& run);

bool is_run(const std::filesystem::path& path);  // a folder that `train` wrote

// OUT/NAME.png and NAME.svg for each loss and metric NAME of the runs: one chart with a line for each run, named as its folder. Returns
// the names. Throws DataError where a results.csv cannot be read or none has a number.
std::vector<std::string> draw_runs(const std::vector<std::filesystem::path>& runs, const std::filesystem::path& out);

}  // namespace glia

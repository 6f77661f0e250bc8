#pragma once
// Synthetic microscopy: pictures of cells with exact instance masks, for the demo, tests and benchmarks.
//   phase         phase contrast of adherent cells, as from an incubator microscope: the thickness of each cell is drawn as an
//   optical
//                 phase, and Zernike's microscope turns it into intensity (data/synth_optics.h), which gives halos and shade-off.
//                 Classes: "shsy5y" (dense, spindle-shaped, in clumps), "astro" (large, flat, branched), "cort" (few, small,
//                 round, with long neurites that do not belong to the mask).
//   fluorescence  stained nuclei on a dark ground. Classes: "nucleus", "large_nucleus", "lobed_nucleus".
// Everything is a pure function of (options, index), whatever the number of threads.
#include <filesystem>
#include <string>
#include <vector>

#include "data/instance.h"

namespace glia {

enum class SynthStyle { phase, fluorescence };

struct SynthOptions {
  int64_t images = 20;
  int64_t height = 520, width = 704;
  SynthStyle style = SynthStyle::phase;
  int classes = 3;  // 1 to 3; every image holds one class, in turn
  uint64_t seed = 0;
  double density = 1;  // factor on the number of cells
};

struct SynthImage {
  Sample sample;  // id, size, instances with masks (which may overlap), box; no file
  Tensor image;   // (H, W, 1) uint8
  Tensor labels;  // (H, W) int32, the later instance on top; i + 1 is instance i of the sample
};

// Throws UsageError when an option is out of range (sides 32 to 16384).
void check(const SynthOptions& options);
std::vector<std::string> synth_classes(const SynthOptions& options);
SynthImage synth_image(const SynthOptions& options, int64_t index);

// Writes the Sartorius layout: FOLDER/train.csv, train/ID.png, labels/ID.png (label maps). Creates the folder; throws IoError
// when it exists and is not empty.
struct SynthSummary {
  int64_t images = 0, instances = 0;
};
SynthSummary write_synth(const SynthOptions& options, const std::filesystem::path& folder);

}  // namespace glia

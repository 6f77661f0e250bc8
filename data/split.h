#pragma once
// Splits a data set into training and validation images.
#include <string>
#include <vector>

#include "data/instance.h"

namespace glia {

enum class SplitMethod {
  seeded,     // a random choice, a pure function of (seed, set of ids)
  every_nth,  // ids sorted as text, every n-th to validation, n = 1 / fraction
};

struct SplitOptions {
  SplitMethod method = SplitMethod::seeded;
  double fraction = 0.2;  // of the images that go to validation; 0: none
  uint64_t seed = 0;
};

// Indices into the samples, each list ascending; disjoint, together all. `seeded` does not depend on the order of the samples.
// One sample alone goes to training. Throws UsageError unless 0 <= fraction < 1.
struct Split {
  std::vector<int64_t> train, validation;
};
Split split_samples(const std::vector<std::string>& ids, const SplitOptions& options);
Split split_samples(const Dataset& dataset, const SplitOptions& options);

// The data set of these samples alone, with all its categories.
Dataset subset(const Dataset& dataset, const std::vector<int64_t>& indices);

}  // namespace glia

// Training and validation images.
#include "data/split.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "tensor/random.h"

namespace glia {

Split split_samples(const std::vector<std::string>& ids, const SplitOptions& options) {
  if (!(options.fraction >= 0 && options.fraction < 1)) {
    throw UsageError("data.val_fraction: {}, want 0 or more and less than 1: something has to be left for training",
                     options.fraction);
  }
  const size_t n = ids.size();
  std::vector<size_t> by_id(n);
  std::iota(by_id.begin(), by_id.end(), size_t{0});
  std::sort(by_id.begin(), by_id.end(), [&](size_t a, size_t b) { return ids[a] < ids[b]; });

  std::vector<char> validates(n, 0);
  if (options.fraction > 0 && n > 1) {
    if (options.method == SplitMethod::every_nth) {
      const size_t every = std::max<size_t>(2, static_cast<size_t>(std::lround(1 / options.fraction)));
      for (size_t i = every - 1; i < n; i += every) validates[by_id[i]] = 1;
    } else {
      const auto wanted = static_cast<size_t>(std::lround(options.fraction * static_cast<double>(n)));
      const size_t count = std::clamp<size_t>(wanted, 1, n - 1);
      const Philox philox(options.seed, 0x73706C6974ull);
      for (size_t i = 0; i < count; ++i) {  // the first steps of a Fisher-Yates shuffle
        std::swap(by_id[i], by_id[i + philox.below(i, n - i)]);
        validates[by_id[i]] = 1;
      }
    }
  }
  Split split;
  for (size_t i = 0; i < n; ++i) (validates[i] ? split.validation : split.train).push_back(static_cast<int64_t>(i));
  return split;
}

Split split_samples(const Dataset& dataset, const SplitOptions& options) {
  std::vector<std::string> ids;
  for (const Sample& s : dataset.samples) ids.push_back(s.id);
  return split_samples(ids, options);
}

Dataset subset(const Dataset& dataset, const std::vector<int64_t>& indices) {
  Dataset result{dataset.categories, {}, dataset.category_ids};
  for (const int64_t i : indices) result.samples.push_back(dataset.samples[static_cast<size_t>(i)]);
  return result;
}

}  // namespace glia

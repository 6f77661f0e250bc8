#include "models/detection.h"

#include <algorithm>

#include "autograd/apply.h"
#include "kernels/index.h"
#include "tensor/random.h"

namespace glia {

Detections rescaled(const Detections& d, std::array<int64_t, 2> from, std::array<int64_t, 2> to) {
  const NoGrad no_grad;
  Tensor boxes({d.boxes.dim(0), 4});
  std::vector<int64_t> with_area;
  for (int64_t i = 0; i < boxes.dim(0); ++i) {
    float* b = boxes.data<float>() + 4 * i;
    for (size_t k = 0; k < 4; ++k) {
      const size_t axis = 1 - k % 2;  // x is along the width
      const float scale = static_cast<float>(double(to[axis]) / double(from[axis]));
      b[k] = std::clamp(d.boxes.data<float>()[4 * i + int64_t(k)] * scale, 0.0F, static_cast<float>(to[axis]));
    }
    if (b[2] > b[0] && b[3] > b[1]) with_area.push_back(i);
  }
  const Tensor index = index_tensor(with_area, {});
  const auto some = [&](const Tensor& t) { return t ? apply(IndexSelect{}, t, index) : Tensor(); };
  return {some(boxes), some(d.scores), some(d.classes), some(d.mask_probs), some(d.mask_scores)};
}

std::vector<int64_t> RandomSampler::pick(Stage stage, int64_t image, std::span<const int64_t> candidates, int64_t count) {
  std::vector<int64_t> list(candidates.begin(), candidates.end());
  if (count >= int64_t(list.size())) return list;
  // The first `count` steps of a shuffle; each (stage, image) has its own part of the counter's range.
  const Philox random(seed_, stream_);
  const uint64_t begin = (uint64_t(image) * 2 + uint64_t(stage == Stage::rois)) << 32;
  for (size_t i = 0; i < size_t(count); ++i) std::swap(list[i], list[i + random.below(begin + i, list.size() - i)]);
  list.resize(size_t(count));
  std::sort(list.begin(), list.end());
  return list;
}

BalancedSample balanced_sample(Sampler& sampler, Sampler::Stage stage, int64_t image, std::span<const int64_t> positives,
                               std::span<const int64_t> negatives, int64_t batch_size, double fraction) {
  const int64_t most = int64_t(double(batch_size) * fraction);
  BalancedSample sample;
  sample.positives = sampler.pick(stage, image, positives, std::min(int64_t(positives.size()), most));
  const int64_t rest = batch_size - int64_t(sample.positives.size());
  sample.negatives = sampler.pick(stage, image, negatives, std::min(int64_t(negatives.size()), rest));
  return sample;
}

Tensor index_tensor(std::span<const int64_t> indices, Device device) {
  return Tensor::from<int64_t>({int64_t(indices.size())}, indices).to(device);
}

}  // namespace glia

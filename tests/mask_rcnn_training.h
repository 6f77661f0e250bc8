#pragma once
// A Mask R-CNN that is small enough to train in a test, and cells for it.
#include <cmath>
#include <string>

#include "data/rle.h"
#include "models/mask_rcnn_segmenter.h"
#include "tensor/random.h"
#include "train/trainer.h"

namespace glia::tests {

// A network of all parts, a thousandth as wide, for cells of about 20 pixels in images of 64 x 96.
inline MaskRcnnSegmenterOptions tiny_mask_rcnn() {
  MaskRcnnSegmenterOptions o;
  o.network.resnet = {.stem_channels = 8, .res2_channels = 16, .width_per_group = 8, .norm = nn::NormKind::bn, .freeze_at = 0};
  o.network.fpn_channels = 16;
  o.network.rpn.anchor_sizes = {{8}, {16}, {32}, {64}, {128}};
  o.network.rpn.batch_size_per_image = 32;
  o.network.rpn.pre_nms_topk_train = o.network.rpn.pre_nms_topk_test = 100;
  o.network.rpn.post_nms_topk_train = o.network.rpn.post_nms_topk_test = 50;
  o.network.roi_heads.num_classes = 2;
  o.network.roi_heads.batch_size_per_image = 32;
  o.network.roi_heads.score_thresh_test = 0;
  o.network.roi_heads.detections_per_image = -1;
  o.network.roi_heads.box_fc_dim = 32;
  o.network.roi_heads.mask_conv_dim = 8;
  o.network.roi_heads.mask_num_conv = 2;
  o.pixel_mean = {60, 60, 60};
  o.pixel_std = {60, 60, 60};
  o.min_size_test = o.max_size_test = 0;
  return o;
}

// Noise with three bright discs of two classes.
inline Example disc_cells(int64_t index, int64_t height = 64, int64_t width = 96) {
  Example e;
  e.image = Tensor({height, width, 1}, DType::uint8);
  e.index = index;
  e.id = "cells" + std::to_string(index);
  const Philox random(11, static_cast<uint64_t>(index));
  for (int64_t i = 0; i < e.image.size(); ++i)
    e.image.data<uint8_t>()[i] = static_cast<uint8_t>(random.uniform(uint64_t(i), 0, 60));
  for (int64_t k = 0; k < 3; ++k) {
    const double radius = 8 + double((index + k) % 3), cy = 20 + 10 * double((index + k) % 3), cx = 18 + 28 * double(k);
    const Tensor mask = Tensor::zeros({height, width}, DType::uint8);
    for (int64_t y = 0; y < height; ++y)
      for (int64_t x = 0; x < width; ++x)
        if (std::hypot(double(y) - cy, double(x) - cx) <= radius) {
          mask.data<uint8_t>()[y * width + x] = 1;
          e.image.data<uint8_t>()[y * width + x] = static_cast<uint8_t>(150 + 60 * (k % 2));
        }
    Instance instance{.mask = encode_mask(mask), .category = static_cast<int>(k % 2)};
    instance.box = bounding_box(instance.mask);
    e.instances.push_back(std::move(instance));
  }
  return e;
}

struct MaskRcnnTraining {
  explicit MaskRcnnTraining(const MaskRcnnSegmenterOptions& options = tiny_mask_rcnn()) : segmenter(initialized(options)) {}

  std::unique_ptr<Segmenter> segmenter;
  Loader loader = loader_of(*segmenter);
  Trainer trainer{segmenter->module(), [this](const Batch& batch) { return segmenter->losses(batch.tensors); }, loader, adam()};

  static std::unique_ptr<Segmenter> initialized(const MaskRcnnSegmenterOptions& options = tiny_mask_rcnn()) {
    auto made = make_mask_rcnn_segmenter(options);
    made->module().initialize(7);
    return made;
  }
  static Loader loader_of(const Segmenter& segmenter) {
    LoaderOptions options;
    options.batch_size = 2;
    options.workers = 0;
    options.endless = true;
    options.detection = DetectionAugment{.short_edge = {64, 96}, .hflip = true};
    options.prepare = [&segmenter](std::span<const Example> examples) { return segmenter.collate(examples); };
    return Loader(
        2, [&segmenter](int64_t i) { return segmenter.fit(disc_cells(i)); }, options);
  }
  static TrainerOptions adam() {
    TrainerOptions o;
    o.optimizer = {.kind = OptimizerKind::adam, .weight_decay = 1e-4, .weight_decay_norm = 0.0};
    o.schedule.lr = 3e-3;
    o.clip_norm = 10;
    o.seed = 3;
    return o;
  }
  std::vector<StepRecord> steps(int count) {
    std::vector<StepRecord> records;
    for (int i = 0; i < count; ++i) records.push_back(trainer.step());
    return records;
  }
};

}  // namespace glia::tests

#pragma once
// Loader: reads, augments and collates examples on worker threads ahead of the training step. What comes out is a pure function
// of (seed, epoch, position): the number of workers, the cache and the machine's timing change nothing, and resuming needs no
// state but the two numbers.
//
//   Loader loader(n, [&](int64_t i) { return read_example(dataset, i); }, {.batch_size = 5, .seed = 1, .augment = ...});
//   while (auto batch = loader.next()) step(batch->tensors);
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "data/augment.h"
#include "data/detection_augment.h"
#include "data/instance.h"
#include "data/sampling.h"
#include "tensor/tensor.h"

namespace glia {

struct Example {
  Tensor image;                 // (H, W, C)
  Tensor labels;                // (H, W) int32: 0 background, i + 1 the pixels of instance i
  std::vector<int> categories;  // of instance i
  int64_t index = 0;            // in the data set
  std::string id;
  std::vector<Instance> instances{};  // detection: instead of labels and categories; masks of the image's size, which may overlap
};

struct Batch {
  std::vector<Example> examples;
  std::vector<Tensor> tensors;  // what `prepare` made of them
  int64_t epoch = 0;
  int64_t position = 0;  // number of the batch in its epoch
  bool last_of_epoch = false;
  double wait = 0;  // seconds that next() waited for it
};

// An augmentation of a system's own: a pure function of its arguments, called on workers.
using Augmenter = std::function<void(Example& example, uint64_t seed, int64_t epoch, int64_t index)>;

struct LoaderOptions {
  int64_t batch_size = 1;
  uint64_t seed = 0;
  bool shuffle = true;                          // false: examples in order, every epoch
  bool drop_last = false;                       // leave out an incomplete last batch (kept where it is the only one)
  int64_t epochs = 0;                           // next() ends after this many from the first one on; 0: never
  int64_t first_epoch = 0, first_position = 0;  // where to begin or resume
  int workers = 2;                              // 0: everything happens inside next()
  int prefetch = 4;                             // batches that may be ready or under way at a time
  bool cache = false;                           // keep what `load` returned in memory
  int64_t repeat = 1;                           // the examples are this many times the same ones: the cache has them once
  // Examples follow one another as an endless chain of the epochs' orders, and batches take them as they come, so none is incomplete
  // and a batch may hold the end of one order and the beginning of the next (detectron2's TrainingSampler). An epoch is then
  // floor(examples / batch_size) batches, at least 1.
  bool endless = false;
  // With `endless`: the group of every example; each batch is of one group, and comes when its last example does (detectron2's aspect-ratio
  // grouping). Empty: all are one group.
  std::vector<uint8_t> groups{};
  AugmentOptions augment;
  std::optional<DetectionAugment> detection{};  // applied to image and instances, instead of `augment`
  Augmenter augmenter{};                        // applied instead of either
  // Makes a batch's tensors (normalisation, targets, stacking). Called on a worker, by several at a time.
  std::function<std::vector<Tensor>(std::span<const Example>)> prepare{};
  bool keep_examples = true;  // false: the batch carries ids and indices, but neither images nor label maps nor instances
};

// `load(i)` gives example i of `size`, unaugmented; it is called on workers, by several at a time. What it, the augmentation or
// `prepare` throw is thrown again by next() in the failed batch's turn.
class Loader {
 public:
  Loader(int64_t size, std::function<Example(int64_t)> load, LoaderOptions options);
  ~Loader();
  Loader(Loader&&) noexcept;
  Loader& operator=(Loader&&) noexcept;

  std::optional<Batch> next();                 // nothing at the end of the last epoch
  void seek(int64_t epoch, int64_t position);  // go on from there; what was prefetched is dropped
  int64_t batches_per_epoch() const;
  double wait_seconds() const;  // that next() waited in all

 private:
  class Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace glia

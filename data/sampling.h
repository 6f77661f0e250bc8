#pragma once
// Which examples a batch holds: pure functions of (seed, number of the batch), so resuming needs no state.
#include <cstdint>
#include <functional>
#include <memory>
#include <vector>

namespace glia {

// Order of the n examples in an epoch: a random permutation, a pure function of (seed, epoch); 0..n-1 without shuffling.
std::vector<int64_t> epoch_order(int64_t n, uint64_t seed, int64_t epoch, bool shuffle = true);

// An example in its turn: every pair comes once. The augmentation is drawn for it.
struct Drawn {
  int64_t epoch = 0, index = 0;
  bool operator==(const Drawn&) const = default;
};

// Batches of the endless chain of the epochs' orders: the samplers of detectron2, TrainingSampler and, with groups,
// AspectRatioGroupedDataset. There, each example joins the waiting batch of its group, and a batch comes out when it is full.
class EndlessChain {
 public:
  using Order = std::function<std::shared_ptr<const std::vector<int64_t>>(int64_t epoch)>;

  // groups: one number per example, or none: all are one group. Throws InternalError where there is another number of them.
  EndlessChain(int64_t size, int64_t batch_size, std::vector<uint8_t> groups, Order order);

  // The examples of batch `number` from 0, in the order they come. Time: a few walks through the orders it touches.
  std::vector<Drawn> batch(int64_t number) const;

 private:
  size_t group_of(int64_t index) const { return groups_.empty() ? 0 : groups_[static_cast<size_t>(index)]; }
  int64_t batches_before(int64_t epoch) const;
  std::vector<Drawn> members(size_t group, int64_t place) const;

  int64_t size_, batch_size_;
  std::vector<uint8_t> groups_;
  std::vector<int64_t> group_sizes_;
  Order order_;
};

}  // namespace glia

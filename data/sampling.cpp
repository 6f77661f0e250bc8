#include "data/sampling.h"

#include <algorithm>
#include <numeric>

#include "tensor/error.h"
#include "tensor/random.h"

namespace glia {
namespace {

constexpr uint64_t order_key = 0x6F72646572ull;  // keeps the order's draws apart from the augmentation's under the same seed

}  // namespace

std::vector<int64_t> epoch_order(int64_t n, uint64_t seed, int64_t epoch, bool shuffle) {
  std::vector<int64_t> order(static_cast<size_t>(n));
  std::iota(order.begin(), order.end(), int64_t{0});
  if (!shuffle) return order;
  const Philox philox(seed ^ order_key, static_cast<uint64_t>(epoch));
  for (uint64_t i = static_cast<uint64_t>(n); i > 1; --i) std::swap(order[i - 1], order[philox.below(i, i)]);
  return order;
}

EndlessChain::EndlessChain(int64_t size, int64_t batch_size, std::vector<uint8_t> groups, Order order)
    : size_(size), batch_size_(batch_size), groups_(std::move(groups)), group_sizes_(256), order_(std::move(order)) {
  GLIA_CHECK(groups_.empty() || static_cast<int64_t>(groups_.size()) == size_, "endless chain: {} groups for {} examples",
             groups_.size(), size_);
  for (int64_t i = 0; i < size_; ++i) ++group_sizes_[group_of(i)];
}

// How many batches are full when the orders of all epochs before this one have passed.
int64_t EndlessChain::batches_before(int64_t epoch) const {
  int64_t count = 0;
  for (const int64_t n : group_sizes_) count += epoch * n / batch_size_;
  return count;
}

// One batch of the group's own chain, from number `place` on.
std::vector<Drawn> EndlessChain::members(size_t group, int64_t place) const {
  std::vector<Drawn> drawn;
  int64_t skip = place % group_sizes_[group];
  for (int64_t epoch = place / group_sizes_[group];; ++epoch) {
    const auto order = order_(epoch);
    for (const int64_t index : *order) {
      if (group_of(index) != group || skip-- > 0) continue;
      drawn.push_back({epoch, index});
      if (static_cast<int64_t>(drawn.size()) == batch_size_) return drawn;
    }
  }
}

std::vector<Drawn> EndlessChain::batch(int64_t number) const {
  // The epoch in which it becomes full: batches_before(epoch) <= number < batches_before(epoch + 1). Groups wait with at most
  // batch_size - 1 each, so the epoch is found from where no group waits at all.
  int64_t low = number * batch_size_ / size_, high = low;
  while (batches_before(high + 1) <= number) high = 2 * high + 1 - low;
  while (low < high) {
    const int64_t middle = low + (high - low) / 2;
    if (batches_before(middle + 1) <= number) {
      low = middle + 1;
    } else {
      high = middle;
    }
  }
  std::vector<int64_t> seen(group_sizes_.size());  // of each group, before
  for (size_t g = 0; g < seen.size(); ++g) seen[g] = low * group_sizes_[g];
  int64_t left = number - batches_before(low);
  const auto order = order_(low);
  for (const int64_t index : *order) {
    const size_t group = group_of(index);
    if (++seen[group] % batch_size_ == 0 && left-- == 0) return members(group, seen[group] - batch_size_);
  }
  throw InternalError("endless chain: batch {} is not full in epoch {}", number, low);
}

}  // namespace glia

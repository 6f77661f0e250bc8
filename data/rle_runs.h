#pragma once
// The runs of an Rle (data/instance.h), one by one: reading and writing them.
#include <algorithm>
#include <cstdint>
#include <vector>

#include "data/instance.h"

namespace glia {

// Calls f(begin, end) for each run of ones, column-major.
template <class F>
void for_each_run(const Rle& rle, F&& f) {
  int64_t p = 0;
  for (size_t i = 0; i < rle.counts.size(); ++i) {
    if (i % 2 && rle.counts[i]) f(p, p + int64_t(rle.counts[i]));
    p += rle.counts[i];
  }
}

// Calls f(x, y_begin, y_end) for each run within each column.
template <class F>
void for_each_column_run(const Rle& rle, F&& f) {
  const int64_t h = rle.height;
  for_each_run(rle, [&](int64_t begin, int64_t end) {
    int64_t x = begin / h, y = begin - x * h, left = end - begin;
    while (left > 0) {
      const int64_t n = std::min(left, h - y);
      f(x, y, y + n);
      left -= n;
      ++x;
      y = 0;
    }
  });
}

// Collects runs [begin, end) of ones in ascending order into counts; touching runs join.
class RunWriter {
 public:
  explicit RunWriter(std::vector<uint32_t>& counts) : counts_(counts) {}
  void add(int64_t begin, int64_t end) {
    if (begin == end_ && !counts_.empty()) {
      counts_.back() += uint32_t(end - begin);
    } else {
      counts_.push_back(uint32_t(begin - end_));
      counts_.push_back(uint32_t(end - begin));
    }
    end_ = end;
  }
  void finish(int64_t size) {
    if (end_ < size || counts_.empty()) counts_.push_back(uint32_t(size - end_));
  }

 private:
  std::vector<uint32_t>& counts_;
  int64_t end_ = 0;
};

}  // namespace glia

#include "kernels/labels.h"

#include <algorithm>
#include <cmath>
#include <vector>

#include "kernels/mask_runs.h"
#include "tensor/parallel.h"

namespace glia::cpu {
namespace {

struct Run {
  int32_t begin, end;  // columns
};

// Sets of runs: parent[i] is a run of the same component that comes no later; roots are their own parents.
class RunSets {
 public:
  void add() { parent_.push_back(int32_t(parent_.size())); }
  int32_t root(int32_t i) {
    while (parent_[size_t(i)] != i) {
      int32_t& up = parent_[size_t(i)];
      up = parent_[size_t(up)];
      i = up;
    }
    return i;
  }
  void join(int32_t a, int32_t b) {
    a = root(a);
    b = root(b);
    if (a < b) {
      parent_[size_t(b)] = a;
    } else {
      parent_[size_t(a)] = b;
    }
  }
  // Numbers the roots 1, 2, ... in order, and every run as its root.
  std::vector<int32_t> numbers() const {
    std::vector<int32_t> number(parent_.size());
    int32_t count = 0;
    for (size_t i = 0; i < parent_.size(); ++i)  // a parent comes no later, so its number is known
      number[i] = parent_[i] == int32_t(i) ? ++count : number[size_t(parent_[i])];
    return number;
  }

 private:
  std::vector<int32_t> parent_;
};

template <class T>
void find_runs(const T* row, int64_t w, bool by_value, std::vector<Run>& runs) {
  if constexpr (sizeof(T) == 1) {
    if (!by_value) {
      for_each_nonzero_run(row, w, [&](int64_t begin, int64_t end) { runs.push_back({int32_t(begin), int32_t(end)}); });
      return;
    }
  }
  for (int64_t x = 0; x < w;) {
    if (row[x] == T(0)) {
      ++x;
      continue;
    }
    const int64_t begin = x;
    const T value = row[x];
    while (x < w && row[x] != T(0) && (!by_value || row[x] == value)) ++x;
    runs.push_back({int32_t(begin), int32_t(x)});
  }
}

// The first run of a component has its first pixel, so roots in order are the components in raster order.
template <class T>
void components(const ConnectedComponents& op, const T* x, int64_t h, int64_t w, int32_t* labels) {
  std::vector<Run> runs;
  RunSets sets;
  std::vector<int32_t> first(size_t(h + 1));  // first run of each row
  const int32_t reach = op.connectivity == 8 ? 1 : 0;
  for (int64_t y = 0; y < h; ++y) {
    const auto begin = int32_t(runs.size());
    first[size_t(y)] = begin;
    const T* row = x + y * w;
    find_runs(row, w, op.by_value, runs);
    for (size_t i = size_t(begin); i < runs.size(); ++i) sets.add();
    if (y == 0) continue;
    int32_t above = first[size_t(y - 1)];
    for (int32_t i = begin; i < int32_t(runs.size()); ++i) {
      const Run run = runs[size_t(i)];
      while (above < begin && runs[size_t(above)].end + reach <= run.begin) ++above;
      for (int32_t j = above; j < begin && runs[size_t(j)].begin < run.end + reach; ++j)
        if (!op.by_value || row[run.begin] == row[runs[size_t(j)].begin - w]) sets.join(i, j);
    }
  }
  first[size_t(h)] = int32_t(runs.size());
  const std::vector<int32_t> number = sets.numbers();
  for (int64_t y = 0; y < h; ++y) {
    int32_t* to = labels + y * w;
    std::fill(to, to + w, 0);
    for (auto i = size_t(first[size_t(y)]); i < size_t(first[size_t(y + 1)]); ++i)
      for (int32_t c = runs[i].begin; c < runs[i].end; ++c) to[c] = number[i];
  }
}

}  // namespace

void connected_components(const ConnectedComponents& op, const Tensor& x, Tensor& labels) {
  const int64_t h = x.dim(0), w = x.dim(1);
  if (x.dtype() == DType::int32) {
    components(op, x.data<int32_t>(), h, w, labels.data<int32_t>());
  } else {
    components(op, reinterpret_cast<const uint8_t*>(x.raw()), h, w, labels.data<int32_t>());
  }
}

// Columns first: g(y, x) = distance to the nearest outside pixel of the column. Then per row the lower envelope of the parabolas
// (x - i)^2 + g(i)^2.
void squared_distance(const SquaredDistance&, const Tensor& mask, Tensor& squared) {
  const int64_t h = mask.dim(0), w = mask.dim(1);
  const auto* inside = reinterpret_cast<const uint8_t*>(mask.raw());
  int32_t* g = squared.data<int32_t>();
  const auto far = int32_t(h + w);
  for (int64_t y = 0; y < h; ++y) {
    const int32_t* above = y ? g + (y - 1) * w : nullptr;
    for (int64_t x = 0; x < w; ++x) g[y * w + x] = inside[y * w + x] ? (above ? std::min(above[x] + 1, far) : far) : 0;
  }
  for (int64_t y = h - 2; y >= 0; --y)
    for (int64_t x = 0; x < w; ++x) g[y * w + x] = std::min(g[y * w + x], g[(y + 1) * w + x] + 1);

  parallel_for(h, 32, [&](int64_t begin, int64_t end) {
    std::vector<int32_t> row(static_cast<size_t>(w));
    std::vector<int64_t> site(static_cast<size_t>(w));   // columns whose parabolas make up the envelope, left to right
    std::vector<int64_t> start(static_cast<size_t>(w));  // from which column on each is the lowest
    for (int64_t y = begin; y < end; ++y) {
      int32_t* to = g + y * w;
      std::copy(to, to + w, row.begin());
      const auto height = [&](int64_t x, int64_t i) { return (x - i) * (x - i) + int64_t(row[size_t(i)]) * row[size_t(i)]; };
      int64_t last = -1;
      for (int64_t u = 0; u < w; ++u) {
        while (last >= 0 && height(start[size_t(last)], site[size_t(last)]) > height(start[size_t(last)], u)) --last;
        if (last < 0) {
          site[0] = u;
          start[0] = 0;
          last = 0;
          continue;
        }
        const int64_t i = site[size_t(last)];
        const int64_t a = int64_t(row[size_t(u)]) * row[size_t(u)] - int64_t(row[size_t(i)]) * row[size_t(i)] + u * u - i * i;
        const int64_t b = 2 * (u - i);
        const int64_t from = (a >= 0 ? a / b : -((-a + b - 1) / b)) + 1;  // floor(a / b) + 1
        if (from < w) {
          ++last;
          site[size_t(last)] = u;
          start[size_t(last)] = from;
        }
      }
      for (int64_t x = w - 1; x >= 0; --x) {
        to[x] = int32_t(height(x, site[size_t(last)]));
        if (x == start[size_t(last)]) --last;
      }
    }
  });
}

}  // namespace glia::cpu

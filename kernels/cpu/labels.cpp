#include "kernels/labels.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <vector>

#include "tensor/parallel.h"

namespace glia::cpu {
namespace {

struct Run {
  int32_t begin, end;  // columns
  int32_t parent;      // index of a run of the same component that comes no later; roots are their own parents
};

int32_t find_root(std::vector<Run>& runs, int32_t i) {
  while (runs[size_t(i)].parent != i) {
    int32_t& up = runs[size_t(i)].parent;
    up = runs[size_t(up)].parent;
    i = up;
  }
  return i;
}

void join(std::vector<Run>& runs, int32_t a, int32_t b) {
  a = find_root(runs, a);
  b = find_root(runs, b);
  if (a < b) {
    runs[size_t(b)].parent = a;
  } else {
    runs[size_t(a)].parent = b;
  }
}

template <class T>
void find_runs(const T* row, int64_t w, bool by_value, std::vector<Run>& runs) {
  constexpr int64_t step = 8 / sizeof(T);
  for (int64_t x = 0; x < w;) {
    uint64_t word = 0;
    while (x + step <= w && (std::memcpy(&word, row + x, 8), word == 0)) x += step;
    while (x < w && row[x] == T(0)) ++x;
    if (x == w) break;
    const int64_t begin = x;
    const T value = row[x];
    if (by_value) {
      while (x < w && row[x] == value) ++x;
    } else {
      while (x < w && row[x] != T(0)) ++x;
    }
    const auto index = int32_t(runs.size());
    runs.push_back({int32_t(begin), int32_t(x), index});
  }
}

// The run with the lowest index is the one with the component's first pixel, so roots in order are the raster order.
template <class T>
void components(const ConnectedComponents& op, const T* x, int64_t h, int64_t w, int32_t* labels) {
  std::vector<Run> runs;
  std::vector<int32_t> first(size_t(h + 1));  // first run of each row
  const int32_t reach = op.connectivity == 8 ? 1 : 0;
  for (int64_t y = 0; y < h; ++y) {
    const auto begin = int32_t(runs.size());
    first[size_t(y)] = begin;
    const T* row = x + y * w;
    find_runs(row, w, op.by_value, runs);
    if (y == 0) continue;
    int32_t above = first[size_t(y - 1)];
    for (int32_t i = begin; i < int32_t(runs.size()); ++i) {
      const Run run = runs[size_t(i)];
      while (above < begin && runs[size_t(above)].end + reach <= run.begin) ++above;
      for (int32_t j = above; j < begin && runs[size_t(j)].begin < run.end + reach; ++j)
        if (!op.by_value || row[run.begin] == row[runs[size_t(j)].begin - w]) join(runs, i, j);
    }
  }
  first[size_t(h)] = int32_t(runs.size());
  int32_t count = 0;
  std::vector<int32_t> number(runs.size());
  for (size_t i = 0; i < runs.size(); ++i)
    number[i] = runs[i].parent == int32_t(i) ? ++count : number[size_t(find_root(runs, int32_t(i)))];
  for (int64_t y = 0; y < h; ++y) {
    int32_t* to = labels + y * w;
    int64_t at = 0;
    for (auto i = size_t(first[size_t(y)]); i < size_t(first[size_t(y + 1)]); ++i) {
      std::fill(to + at, to + runs[i].begin, 0);
      std::fill(to + runs[i].begin, to + runs[i].end, number[i]);
      at = runs[i].end;
    }
    std::fill(to + at, to + w, 0);
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

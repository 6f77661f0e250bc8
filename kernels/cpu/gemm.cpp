// The implicit GEMM. A task is a range of tiles (a few neighbouring output pixels each) times a range of columns. For each block
// of the contraction it packs b into panels of two vectors' width that stay in L2, then walks its tiles: every tile runs
// through all panels, with rows x 2 vectors of sums in registers. A tile's rows of `a` are read where they lie, one `Piece` for
// each run of taps that is contiguous in memory; only tiles at a border are gathered first.
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/cpu/gemm.cpp"
#include <hwy/foreach_target.h>
#include <hwy/highway.h>

#include <algorithm>
#include <array>
#include <cstring>

#include "kernels/cpu/gemm.h"
#include "kernels/cpu/transpose-inl.h"
#include "tensor/parallel.h"

#ifndef GLIA_GEMM_PLAN
#define GLIA_GEMM_PLAN
namespace glia::cpu {
namespace {

// Taps that are neighbours in memory, as one stretch of the contraction.
struct Run {
  int64_t dh, dw;
  int64_t first, length;  // in the contraction
};

std::vector<Run> runs_of(const ImplicitGemm& g) {
  std::vector<Run> runs;
  for (size_t t = 0; t < g.taps.size(); ++t) {
    const Tap& tap = g.taps[t];
    const bool joins =
        t > 0 && g.a_pixel == g.inner && g.a_inner == 1 && tap.dh == g.taps[t - 1].dh && tap.dw == g.taps[t - 1].dw + 1;
    if (joins) {
      runs.back().length += g.inner;
    } else {
      runs.push_back({tap.dh, tap.dw, static_cast<int64_t>(t) * g.inner, g.inner});
    }
  }
  return runs;
}

int64_t ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }

// How the output pixels are cut into tiles. Along rows: no tile reaches over the end of an output row, and all of a row are about
// equal. Flat: tiles are runs of pixels over all rows, which short rows need to fill a tile.
struct Tiling {
  bool along_rows;
  int64_t height;   // most pixels in a tile
  int64_t per_row;  // tiles of a row
  int64_t count;
};

Tiling tiling_of(const ImplicitGemm& g, int64_t max_height) {
  const int64_t per_row = std::max<int64_t>(1, ceil_div(g.q, max_height)), height = ceil_div(g.q, per_row);
  if (g.a_inner == 1 && 2 * height >= max_height) return {true, height, per_row, g.images * g.p * per_row};
  return {false, max_height, 0, ceil_div(g.images * g.p * g.q, max_height)};
}

// Number of parts that pixels and columns are cut into: about 16 tasks, with as little packing of b (once per part of the
// pixels) and passing over a (once per part of the columns) as possible. Columns in parts of at most 512 keep a packed block of
// b in L2 long enough in the contraction.
struct Parts {
  int64_t pixels, columns;
};

Parts parts_of(int64_t pixels, int64_t columns, int64_t problems, int64_t panel) {
  constexpr int64_t wanted = 16;
  Parts best{1, 1};
  double best_cost = -1;
  for (int64_t c = 1; c <= std::max<int64_t>(1, columns / (2 * panel)); c *= 2) {
    if (ceil_div(columns, c) > 512) continue;
    const int64_t p = std::min(ceil_div(wanted, c * problems), std::max<int64_t>(1, pixels / 64));
    const double idle = static_cast<double>(wanted) / static_cast<double>(std::min(wanted, p * c * problems));
    const double cost = idle * (static_cast<double>(pixels * columns) / 64 + static_cast<double>(p * columns) +
                                0.25 * static_cast<double>(c * pixels));
    if (best_cost < 0 || cost < best_cost) best = {p, c}, best_cost = cost;
  }
  if (best_cost < 0) best = {1, ceil_div(columns, 512)};
  return best;
}

}  // namespace
}  // namespace glia::cpu
#endif

HWY_BEFORE_NAMESPACE();
namespace glia::cpu::HWY_NAMESPACE {
namespace {

namespace hn = hwy::HWY_NAMESPACE;
using D = hn::ScalableTag<float>;
using V = hn::Vec<D>;
constexpr int64_t lanes = HWY_LANES(float);
constexpr int64_t panel_width = 2 * lanes;
constexpr int max_height = HWY_TARGET <= HWY_AVX3 ? 14 : 6;  // rows of sums: 28 of 32 registers, 12 of 16

// Rows of a for one tile over one stretch of the contraction: row i at a + i * row_bytes.
struct Piece {
  const float* a;
  int64_t row_bytes;
  int64_t first, length;  // in the packed block of b
};

// Where the sums of one tile and one panel go.
struct Target {
  float* d;  // of column 0 of the panel
  const float* residual;
  const int64_t* offsets;  // of the tile's pixels, in elements
  const float* affine;     // scales of the panel then biases, or null
  int64_t affine_bias;     // from a scale to its bias
  int64_t valid;           // columns
  bool accumulate, relu;
};

// The addresses of up to 14 rows from three bases and strides that x86 can encode.
struct RowBases {
  const char *a0, *a5, *a10;
  int64_t stride, stride3;
  template <int I>
  HWY_INLINE float at(int64_t byte) const {
    const char* base = I < 5 ? a0 : I < 10 ? a5 : a10;
    constexpr int j = I % 5;
    const int64_t offset = j == 0 ? 0 : j == 1 ? stride : j == 2 ? 2 * stride : j == 3 ? stride3 : 4 * stride;
    float x;
    std::memcpy(&x, base + offset + byte, sizeof x);
    return x;
  }
};

template <int I, int MR, int NV>
HWY_INLINE void multiply_rows(V (&sum)[MR][NV], const V (&b)[NV], const RowBases& a, int64_t byte) {
  const V x = hn::Set(D(), a.at<I>(byte));
  for (int v = 0; v < NV; ++v) sum[I][v] = hn::MulAdd(x, b[v], sum[I][v]);
  if constexpr (I + 1 < MR) multiply_rows<I + 1>(sum, b, a, byte);
}

template <int MR, int NV>
HWY_INLINE void multiply_step(V (&sum)[MR][NV], const float* b, const RowBases& a, int64_t step) {
  V row[NV];
  for (int v = 0; v < NV; ++v) row[v] = hn::Load(D(), b + (step * NV + v) * lanes);
  multiply_rows<0>(sum, row, a, step * 4);
}

template <int MR, int NV>
HWY_INLINE void store_sums(V (&sum)[MR][NV], const Target& t) {
  const D d;
  const auto for_each = [&](auto&& f) HWY_ATTR {
#pragma GCC unroll 14
    for (int i = 0; i < MR; ++i)
      for (int v = 0; v < NV; ++v) f(sum[i][v], t.offsets[i] + v * lanes, v);
  };
  const bool full = t.valid == NV * lanes;
  hn::Mask<D> mask[NV];
  for (int v = 0; v < NV; ++v) mask[v] = hn::FirstN(d, static_cast<size_t>(std::clamp<int64_t>(t.valid - v * lanes, 0, lanes)));
  const auto add = [&](const float* from) HWY_ATTR {
    if (full) {
      for_each([&](V& x, int64_t at, int) HWY_ATTR { x = hn::Add(x, hn::LoadU(d, from + at)); });
    } else {
      for_each([&](V& x, int64_t at, int v) HWY_ATTR { x = hn::Add(x, hn::MaskedLoad(mask[v], d, from + at)); });
    }
  };
  if (t.accumulate) add(t.d);
  if (t.affine) {
    V scale[NV], bias[NV];
    for (int v = 0; v < NV; ++v) {
      scale[v] = hn::LoadU(d, t.affine + v * lanes);
      bias[v] = hn::LoadU(d, t.affine + t.affine_bias + v * lanes);
    }
    for_each([&](V& x, int64_t, int v) HWY_ATTR { x = hn::MulAdd(x, scale[v], bias[v]); });
  }
  if (t.residual) add(t.residual);
  if (t.relu) for_each([&](V& x, int64_t, int) HWY_ATTR { x = hn::Max(hn::Zero(d), x); });  // in this order NaN stays NaN
  if (full) {
    for_each([&](V& x, int64_t at, int) HWY_ATTR { hn::StoreU(x, d, t.d + at); });
  } else {
    for_each([&](V& x, int64_t at, int v) HWY_ATTR { hn::BlendedStore(x, mask[v], d, t.d + at); });
  }
}

template <int MR, int NV>
HWY_NOINLINE void kernel(const Piece* pieces, int64_t count, const float* b, const Target& target) {
  V sum[MR][NV];
#pragma GCC unroll 14
  for (int i = 0; i < MR; ++i)
    for (int v = 0; v < NV; ++v) {
      sum[i][v] = hn::Zero(D());
      __builtin_prefetch(target.d + target.offsets[i] + v * lanes, 1);
    }
  for (const Piece* piece = pieces; piece != pieces + count; ++piece) {
    const int64_t stride = piece->row_bytes;
    const char* base = reinterpret_cast<const char*>(piece->a);
    RowBases a{base, base + 5 * stride, base + 10 * stride, stride, 3 * stride};
    const float* row = b + piece->first * NV * lanes;
    for (const char* end = base + piece->length / 2 * 8; a.a0 != end;) {  // by two: g++ runs out of registers at four
      multiply_step(sum, row, a, 0);
      multiply_step(sum, row, a, 1);
      a.a0 += 8, a.a5 += 8, a.a10 += 8;
      row += 2 * NV * lanes;
    }
    if (piece->length % 2 != 0) multiply_step(sum, row, a, 0);
  }
  store_sums(sum, target);
}

using Kernel = void (*)(const Piece*, int64_t, const float*, const Target&);

template <int NV, size_t... I>
constexpr std::array<Kernel, max_height + 1> kernels_of(std::index_sequence<I...>) {
  return {nullptr, kernel<static_cast<int>(I) + 1, NV>...};
}
constexpr std::array<Kernel, max_height + 1> kernels[2] = {kernels_of<1>(std::make_index_sequence<max_height>()),
                                                           kernels_of<2>(std::make_index_sequence<max_height>())};

void pack_rows(const float* from, int64_t stride, int64_t n, int64_t columns, int64_t width, float* to) {
  const D d;
  if (columns == width) {
    for (int64_t i = 0; i < n; ++i)
      for (int64_t j = 0; j < width; j += lanes) hn::Store(hn::LoadU(d, from + i * stride + j), d, to + i * width + j);
    return;
  }
  for (int64_t i = 0; i < n; ++i) {
    for (int64_t j = 0; j < columns; ++j) to[i * width + j] = from[i * stride + j];
    for (int64_t j = columns; j < width; ++j) to[i * width + j] = 0;
  }
}

// Steps [k0, k1) of the contraction, columns [column, column + columns) of b, as rows of `width`.
void pack_panel(const ImplicitGemm& g, int64_t k0, int64_t k1, int64_t column, int64_t columns, int64_t width, float* to) {
  for (int64_t k = k0; k < k1;) {
    const int64_t tap = k / g.inner, i = k % g.inner, n = std::min(g.inner - i, k1 - k);
    const float* from = g.b + g.taps[static_cast<size_t>(tap)].filter + i * g.b_inner + column * g.b_column;
    if (g.b_column == 1) {
      pack_rows(from, g.b_inner, n, columns, width, to);
    } else if (g.b_inner == 1) {
      pack_transposed(from, g.b_column, n, columns, width, to);
    } else {
      for (int64_t s = 0; s < n; ++s)
        for (int64_t j = 0; j < width; ++j) to[s * width + j] = j < columns ? from[s * g.b_inner + j * g.b_column] : 0.0f;
    }
    to += n * width;
    k += n;
  }
}

// One task's walk over its tiles: makes the pieces of a tile.
class Tiles {
 public:
  Tiles(const ImplicitGemm& g, const Tiling& tiling, const std::vector<Run>& runs, int64_t block)
      : g_(g), tiling_(tiling), runs_(runs), gathered_stride_((block + 15) / 16 * 16 + 16) {
    gathered_ = thread_scratch(Scratch::gathered, max_height * gathered_stride_);
    pieces_.reserve(runs.size());
  }

  // Steps [k0, k1) of tile t.
  void prepare(int64_t t, int64_t k0, int64_t k1) {
    locate(t);
    pieces_.clear();
    for (const Run& run : runs_) {
      const int64_t from = std::max(k0, run.first), to = std::min(k1, run.first + run.length);
      if (from < to) add(run, from, to, k0);
    }
  }

  int height() const { return height_; }
  const std::vector<Piece>& pieces() const { return pieces_; }
  const int64_t* offsets() const { return offsets_; }

 private:
  void locate(int64_t t) {
    if (t == tile_) return;
    tile_ = t;
    int64_t first = t * tiling_.height, end = std::min(first + tiling_.height, g_.images * g_.p * g_.q);
    if (tiling_.along_rows) {
      const int64_t row = t / tiling_.per_row * g_.q, part = t % tiling_.per_row;
      first = row + part * g_.q / tiling_.per_row;
      end = row + (part + 1) * g_.q / tiling_.per_row;
    }
    height_ = static_cast<int>(end - first);
    int64_t q = first % g_.q, p = first / g_.q % g_.p, n = first / g_.q / g_.p;
    for (int i = 0; i < height_; ++i) {
      where_[i] = {n, p * g_.stride_h, q * g_.stride_w};
      offsets_[i] = n * g_.d_image + p * g_.d_row + q * g_.d_pixel;
      if (++q == g_.q) {
        q = 0;
        if (++p == g_.p) p = 0, ++n;
      }
    }
  }

  void add(const Run& run, int64_t from, int64_t to, int64_t k0) {
    const int64_t row_bytes = g_.stride_w * g_.a_pixel * static_cast<int64_t>(sizeof(float));
    if (tiling_.along_rows) {
      const Where& first = where_[0];
      const int64_t h = first.h + run.dh;
      if (h < 0 || h >= g_.h) return;  // zeros
      const int64_t left = first.w + run.dw + (from - run.first) / g_.inner;
      const int64_t right = where_[height_ - 1].w + run.dw + (to - 1 - run.first) / g_.inner;
      // Rows a multiple of 4096 bytes apart share one set of the first-level cache.
      if (left >= 0 && right < g_.w && row_bytes % 4096 != 0) {
        const int64_t pixel = (first.n * g_.h + h) * g_.w + first.w + run.dw;
        pieces_.push_back({g_.a + pixel * g_.a_pixel + (from - run.first), row_bytes, from - k0, to - from});
        return;
      }
    }
    for (int i = 0; i < height_; ++i) gather_row(run, where_[i], from, to, gathered_ + i * gathered_stride_ + (from - k0));
    const int64_t gathered_bytes = gathered_stride_ * static_cast<int64_t>(sizeof(float));
    if (!pieces_.empty()) {
      Piece& last = pieces_.back();
      if (last.row_bytes == gathered_bytes && last.a + last.length == gathered_ + (from - k0)) {
        last.length += to - from;
        return;
      }
    }
    pieces_.push_back({gathered_ + (from - k0), gathered_bytes, from - k0, to - from});
  }

  struct Where {
    int64_t n, h, w;  // image, and the pixel that tap (0, 0) reads
  };

  void gather_row(const Run& run, const Where& at, int64_t from, int64_t to, float* out) const {
    const int64_t h = at.h + run.dh, w = at.w + run.dw, size = to - from;
    // The pixels of the run that are inside: of elements from - run.first .. to - run.first these.
    const int64_t inside_from = std::max<int64_t>(0, -w) * g_.inner, inside_to = (g_.w - w) * g_.inner;
    int64_t begin = std::clamp<int64_t>(inside_from - (from - run.first), 0, size);
    int64_t end = std::clamp<int64_t>(inside_to - (from - run.first), begin, size);
    if (h < 0 || h >= g_.h) begin = end = size;
    const float* pixel = g_.a + ((at.n * g_.h + h) * g_.w + w) * g_.a_pixel;
    std::fill(out, out + begin, 0.0f);
    if (g_.a_inner == 1) {
      std::copy(pixel + (from - run.first) + begin, pixel + (from - run.first) + end, out + begin);
    } else {
      for (int64_t i = begin; i < end; ++i) out[i] = pixel[(from - run.first + i) * g_.a_inner];
    }
    std::fill(out + end, out + size, 0.0f);
  }

  const ImplicitGemm& g_;
  const Tiling& tiling_;
  const std::vector<Run>& runs_;
  int64_t gathered_stride_;
  float* gathered_;
  std::vector<Piece> pieces_;
  int64_t tile_ = -1;
  int height_ = 0;
  Where where_[max_height];
  int64_t offsets_[max_height];
};

struct Panel {
  int64_t column, columns, width;
  int64_t start;  // in the packed block: start * steps
};

struct Plan {
  const ImplicitGemm* g;
  Tiling tiling;
  std::vector<Run> runs;
};

void run_task(const Plan& plan, int64_t tile_begin, int64_t tile_end, int64_t column_begin, int64_t column_end) {
  const ImplicitGemm& g = *plan.g;
  std::vector<Panel> panels;
  int64_t width = 0;
  for (int64_t j = column_begin; j < column_end; j += panel_width) {
    const int64_t columns = std::min(panel_width, column_end - j);
    panels.push_back({j, columns, columns <= lanes ? lanes : panel_width, width});
    width += panels.back().width;
  }
  const int64_t total = static_cast<int64_t>(g.taps.size()) * g.inner;
  const int64_t most = std::max<int64_t>(64, l2_bytes() / 2 / static_cast<int64_t>(sizeof(float)) / width);
  const int64_t blocks = std::max<int64_t>(1, ceil_div(total, most));
  const int64_t block = ceil_div(ceil_div(total, blocks), 4) * 4;
  float* affine = thread_scratch(Scratch::packed, block * width + 2 * width);
  float* packed = affine + 2 * width;
  const Epilogue& e = g.epilogue;
  for (const Panel& panel : panels)
    for (int64_t j = 0; j < panel.width; ++j) {
      const int64_t column = panel.column + j;
      affine[panel.start + j] = e.scale && j < panel.columns ? e.scale[column] : 1.0f;
      affine[width + panel.start + j] = e.bias && j < panel.columns ? e.bias[column] : 0.0f;
    }
  Tiles tiles(g, plan.tiling, plan.runs, block);
  for (int64_t k0 = 0; k0 < std::max<int64_t>(1, total); k0 += std::max<int64_t>(1, block)) {
    const int64_t k1 = std::min(total, k0 + block);
    const bool last = k1 == total;
    for (const Panel& panel : panels)
      pack_panel(g, k0, k1, panel.column, panel.columns, panel.width, packed + panel.start * (k1 - k0));
    Target target{.d = nullptr,
                  .residual = nullptr,
                  .offsets = tiles.offsets(),
                  .affine = nullptr,
                  .affine_bias = width,
                  .valid = 0,
                  .accumulate = k0 > 0 || e.accumulate,
                  .relu = last && e.relu};
    for (int64_t t = tile_begin; t < tile_end; ++t) {
      tiles.prepare(t, k0, k1);
      const auto& pieces = tiles.pieces();
      for (const Panel& panel : panels) {
        target.d = g.d + panel.column;
        target.residual = last && e.residual ? e.residual + panel.column : nullptr;
        target.affine = last && (e.scale || e.bias) ? affine + panel.start : nullptr;
        target.valid = panel.columns;
        kernels[panel.width == panel_width][static_cast<size_t>(tiles.height())](
            pieces.data(), static_cast<int64_t>(pieces.size()), packed + panel.start * (k1 - k0), target);
      }
    }
  }
}

void run_all(std::span<const ImplicitGemm> problems) {
  std::vector<Plan> plans;
  int64_t most_tiles = 0, most_columns = 0;
  for (const ImplicitGemm& g : problems) {
    if (g.images * g.p * g.q == 0 || g.columns == 0) continue;
    plans.push_back({&g, tiling_of(g, max_height), runs_of(g)});
    most_tiles = std::max(most_tiles, plans.back().tiling.count);
    most_columns = std::max(most_columns, g.columns);
  }
  if (plans.empty()) return;
  const int64_t count = static_cast<int64_t>(plans.size());
  const Parts parts = parts_of(most_tiles * max_height, most_columns, count, panel_width);
  // Problems vary fastest: those that read the same part of a follow one another.
  parallel_for(parts.pixels * parts.columns * count, 1, [&](int64_t begin, int64_t end) {
    for (int64_t task = begin; task < end; ++task) {
      const Plan& plan = plans[static_cast<size_t>(task % count)];
      const int64_t column_part = task / count % parts.columns, pixel_part = task / count / parts.columns;
      const int64_t step = ceil_div(ceil_div(plan.g->columns, parts.columns), panel_width) * panel_width;
      const int64_t column = column_part * step, tile = pixel_part * plan.tiling.count / parts.pixels;
      const int64_t column_end = std::min(plan.g->columns, column + step),
                    tile_end = (pixel_part + 1) * plan.tiling.count / parts.pixels;
      if (column < column_end && tile < tile_end) run_task(plan, tile, tile_end, column, column_end);
    }
  });
}

}  // namespace
}  // namespace glia::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace glia::cpu {

HWY_EXPORT(run_all);
void run(std::span<const ImplicitGemm> problems) { HWY_DYNAMIC_DISPATCH(run_all)(problems); }

}  // namespace glia::cpu
#endif

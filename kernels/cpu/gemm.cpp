// The implicit GEMM. A task is a range of tiles (a few neighbouring output pixels each) times a range of columns. For each block
// of the contraction it packs b into panels of a few vectors' width that stay in L2, then walks its tiles: every tile runs
// through all panels, with rows x vectors of sums in registers. A tile's rows of `a` are read where they lie, one `Piece` for
// each run of taps that is contiguous in memory; only tiles at a border are gathered first. What the next tile will read is asked
// for on the way.
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/cpu/gemm.cpp"
#include <hwy/foreach_target.h>
#include <hwy/highway.h>

#include <algorithm>
#include <array>
#include <cstring>

#include "kernels/cpu/gemm.h"
#include "kernels/cpu/gemm_kernel-inl.h"
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

// Number of parts that pixels and columns are cut into: four tasks for a thread, with as little packing of b (once per part of the
// pixels) and passing over a (once per part of the columns) as possible. Columns in parts of at most 512 keep a packed block of
// b in L2 long enough in the contraction. A sum is added up in the same order whatever the parts.
struct Parts {
  int64_t pixels, columns;
};

Parts parts_of(int64_t pixels, int64_t columns, int64_t problems, int64_t panel) {
  const int64_t wanted = num_threads() == 1 ? 1 : 4 * num_threads();
  Parts best{1, 1};
  double best_cost = -1;
  for (int64_t c = 1; c <= std::max<int64_t>(1, columns / panel); c *= 2) {
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

  // Starts a walk from tile t on, over steps [k0, k1).
  void start(int64_t t, int64_t k0, int64_t k1) {
    stretches_.clear();
    for (const Run& run : runs_) {
      const int64_t from = std::max(k0, run.first), to = std::min(k1, run.first + run.length);
      if (from >= to) continue;
      const int64_t skip = from - run.first;
      stretches_.push_back(
          {run.dh, run.dw, skip, run.dw + skip / g_.inner, run.dw + (to - 1 - run.first) / g_.inner, from - k0, to - from});
    }
    if (tiling_.along_rows) {
      part_ = t % tiling_.per_row, t /= tiling_.per_row;
      at_ = {t / g_.p, t % g_.p, part_ * (g_.q / tiling_.per_row) + std::min(part_, g_.q % tiling_.per_row)};
    } else {
      const int64_t first = t * tiling_.height;
      at_ = {first / g_.q / g_.p, first / g_.q % g_.p, first % g_.q};
    }
  }

  // Makes the next tile.
  void next() {
    if (tiling_.along_rows) {
      height_ = static_cast<int>(g_.q / tiling_.per_row + (part_ < g_.q % tiling_.per_row ? 1 : 0));
      if (++part_ == tiling_.per_row) part_ = 0;
    } else {
      const int64_t left = (g_.images - at_.n) * g_.p * g_.q - at_.p * g_.q - at_.q;
      height_ = static_cast<int>(std::min(tiling_.height, left));
    }
    for (int i = 0; i < height_; ++i) {
      where_[i] = {at_.n, at_.p * g_.stride_h, at_.q * g_.stride_w};
      offsets_[i] = at_.n * g_.d_image + at_.p * g_.d_row + at_.q * g_.d_pixel;
      if (++at_.q == g_.q) {
        at_.q = 0;
        if (++at_.p == g_.p) at_.p = 0, ++at_.n;
      }
    }
    pieces_.clear();
    for (const Stretch& s : stretches_) add(s);
  }

  int height() const { return height_; }
  const std::vector<Piece>& pieces() const { return pieces_; }
  const int64_t* offsets() const { return offsets_; }

 private:
  // The part of a run that belongs to this block of the contraction.
  struct Stretch {
    int64_t dh, dw;
    int64_t skip;           // steps of the run before it
    int64_t left, right;    // least and greatest dw read
    int64_t first, length;  // in the packed block of b
  };

  void add(const Stretch& s) {
    const int64_t row_bytes = g_.stride_w * g_.a_pixel * static_cast<int64_t>(sizeof(float));
    if (tiling_.along_rows) {
      const Where& first = where_[0];
      const int64_t h = first.h + s.dh;
      if (h < 0 || h >= g_.h) return;  // zeros
      if (first.w + s.left >= 0 && where_[height_ - 1].w + s.right < g_.w) {
        const int64_t pixel = (first.n * g_.h + h) * g_.w + first.w + s.dw;
        const float* a = g_.a + pixel * g_.a_pixel + s.skip;
        pieces_.push_back({a, row_bytes, s.first, s.length});
        return;
      }
    }
    for (int i = 0; i < height_; ++i) gather_row(s, where_[i], gathered_ + i * gathered_stride_ + s.first);
    const int64_t gathered_bytes = gathered_stride_ * static_cast<int64_t>(sizeof(float));
    if (!pieces_.empty()) {
      Piece& last = pieces_.back();
      if (last.row_bytes == gathered_bytes && last.a + last.length == gathered_ + s.first) {
        last.length += s.length;
        return;
      }
    }
    pieces_.push_back({gathered_ + s.first, gathered_bytes, s.first, s.length});
  }

  struct Where {
    int64_t n, h, w;  // image, and the pixel that tap (0, 0) reads
  };

  void gather_row(const Stretch& s, const Where& at, float* out) const {
    const int64_t h = at.h + s.dh, w = at.w + s.dw;
    // The pixels of the run that are inside: of the stretch's elements these.
    const int64_t inside_from = std::max<int64_t>(0, -w) * g_.inner, inside_to = (g_.w - w) * g_.inner;
    int64_t begin = std::clamp<int64_t>(inside_from - s.skip, 0, s.length);
    int64_t end = std::clamp<int64_t>(inside_to - s.skip, begin, s.length);
    if (h < 0 || h >= g_.h) begin = end = s.length;
    const float* pixel = g_.a + ((at.n * g_.h + h) * g_.w + w) * g_.a_pixel;
    std::fill(out, out + begin, 0.0f);
    if (g_.a_inner == 1) {
      std::copy(pixel + s.skip + begin, pixel + s.skip + end, out + begin);
    } else {
      for (int64_t i = begin; i < end; ++i) out[i] = pixel[(s.skip + i) * g_.a_inner];
    }
    std::fill(out + end, out + s.length, 0.0f);
  }

  struct Pixel {
    int64_t n, p, q;
  };

  const ImplicitGemm& g_;
  const Tiling& tiling_;
  const std::vector<Run>& runs_;
  std::vector<Stretch> stretches_;
  int64_t gathered_stride_;
  float* gathered_;
  std::vector<Piece> pieces_;
  Pixel at_{};        // the first of the next tile
  int64_t part_ = 0;  // of its row
  int height_ = 0;
  Where where_[max_height];
  int64_t offsets_[max_height];
};

struct Panel {
  int64_t column, columns, width;
  int64_t start;  // in the packed block: start * steps
};

// Columns [begin, end) in panels of about equal width.
std::vector<Panel> panels_of(int64_t begin, int64_t end) {
  const int64_t vectors = ceil_div(end - begin, lanes), count = ceil_div(vectors, max_vectors);
  std::vector<Panel> panels;
  for (int64_t i = 0; i < count; ++i) {
    const int64_t from = i * vectors / count * lanes, width = (i + 1) * vectors / count * lanes - from;
    panels.push_back({begin + from, std::min(width, end - begin - from), width, from});
  }
  return panels;
}

struct Plan {
  const ImplicitGemm* g;
  Tiling tiling;
  std::vector<Run> runs;
};

void run_task(const Plan& plan, int64_t tile_begin, int64_t tile_end, int64_t column_begin, int64_t column_end) {
  const ImplicitGemm& g = *plan.g;
  const std::vector<Panel> panels = panels_of(column_begin, column_end);
  const int64_t width = panels.back().start + panels.back().width;
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
    tiles.start(tile_begin, k0, k1);
    for (int64_t t = tile_begin; t < tile_end; ++t) {
      tiles.next();
      const auto& pieces = tiles.pieces();
      for (const Panel& panel : panels) {
        target.d = g.d + panel.column;
        target.residual = last && e.residual ? e.residual + panel.column : nullptr;
        target.affine = last && (e.scale || e.bias) ? affine + panel.start : nullptr;
        target.valid = panel.columns;
        kernels[static_cast<size_t>(panel.width / lanes - 1)][static_cast<size_t>(tiles.height())](
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
    plans.push_back({&g, tiling_of(g, height_of(ceil_div(g.columns, lanes))), runs_of(g)});
    most_tiles = std::max(most_tiles, plans.back().tiling.count);
    most_columns = std::max(most_columns, g.columns);
  }
  if (plans.empty()) return;
  const int64_t count = static_cast<int64_t>(plans.size());
  const Parts parts = parts_of(most_tiles * 6, most_columns, count, panel_width);
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

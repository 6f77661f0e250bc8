// The implicit GEMM. A task is a range of tiles (a few neighbouring output pixels each) times a range of columns. For each block
// of the contraction it packs b into panels of a few vectors' width that stay in L2, then walks its tiles: every tile runs
// through all panels, with rows x vectors of sums in registers. A tile's rows of `a` are read where they lie, one `Piece` for
// each run of taps that is contiguous in memory; only tiles at a border are gathered first. What the next tile will read is asked
// for on the way. Panels that were packed before are read where they lie.
//
// With up to four columns vectors of columns would be mostly empty: there a panel is these columns, each with its steps in a row, and
// vectors are steps of the contraction.
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/cpu/gemm.cpp"
#include <hwy/cache_control.h>
#include <hwy/foreach_target.h>
#include <hwy/highway.h>

#include <algorithm>
#include <array>
#include <cstring>

#include "kernels/cpu/gemm.h"
#include "kernels/cpu/gemm_dot-inl.h"
#include "kernels/cpu/gemm_tiles-inl.h"
#include "kernels/cpu/transpose-inl.h"
#include "tensor/parallel.h"

#ifndef GLIA_GEMM_PLAN
#define GLIA_GEMM_PLAN
namespace glia::cpu {
namespace {

constexpr int64_t most_columns = 512;  // of a task, so that a packed block of b stays in L2 long enough in the contraction

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
    if (ceil_div(columns, c) > most_columns) continue;
    const int64_t p = std::min(ceil_div(wanted, c * problems), std::max<int64_t>(1, pixels / 64));
    const double idle = static_cast<double>(wanted) / static_cast<double>(std::min(wanted, p * c * problems));
    const double cost = idle * (static_cast<double>(pixels * columns) / 64 + static_cast<double>(p * columns) +
                                0.25 * static_cast<double>(c * pixels));
    if (best_cost < 0 || cost < best_cost) best = {p, c}, best_cost = cost;
  }
  if (best_cost < 0) best = {1, ceil_div(columns, most_columns)};
  return best;
}

// Whether results had better go around the caches, which spares reading their lines first: all together leave the caches before anyone reads
// them, lines are written whole, and each once if the contraction is one block.
bool worth_streaming(std::span<const ImplicitGemm> problems) {
  constexpr int64_t stream_bytes = int64_t(48) << 20;
  int64_t bytes = 0;
  for (const ImplicitGemm& g : problems) {
    const bool whole_lines = reinterpret_cast<uintptr_t>(g.d) % 64 == 0 && (g.d_image | g.d_row | g.d_pixel) % 16 == 0;
    if (!whole_lines || g.epilogue.accumulate) return false;
    bytes += g.images * g.p * g.q * g.columns * static_cast<int64_t>(sizeof(float));
  }
  return bytes >= stream_bytes;
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

struct Panel {
  int64_t column, columns, width;
  int64_t start;  // in the packed block: start * steps
};

// Columns of a panel with their steps in a row, as gemm_dot-inl.h reads them.
bool has_few_columns(const ImplicitGemm& g) { return g.columns <= max_dot_columns && g.a_inner == 1 && g.inner >= lanes; }

// All columns, in panels of about equal width.
std::vector<Panel> panels_of(const ImplicitGemm& g) {
  if (has_few_columns(g)) return {{0, g.columns, g.columns, 0}};
  const int64_t vectors = ceil_div(g.columns, lanes), count = ceil_div(vectors, max_vectors);
  std::vector<Panel> panels;
  for (int64_t i = 0; i < count; ++i) {
    const int64_t from = i * vectors / count * lanes, width = (i + 1) * vectors / count * lanes - from;
    panels.push_back({from, std::min(width, g.columns - from), width, from});
  }
  return panels;
}

int64_t steps_of(const ImplicitGemm& g) { return static_cast<int64_t>(g.taps.size()) * g.inner; }

void pack_columns(const ImplicitGemm& g, int64_t k0, int64_t k1, float* to) {
  for (int64_t j = 0; j < g.columns; ++j)
    for (int64_t k = k0; k < k1; ++k)
      *to++ = g.b[g.taps[static_cast<size_t>(k / g.inner)].filter + k % g.inner * g.b_inner + j * g.b_column];
}

// Steps [k0, k1) of the contraction of a panel, as rows of its width.
void pack_panel(const ImplicitGemm& g, int64_t k0, int64_t k1, const Panel& panel, float* to) {
  if (has_few_columns(g)) return pack_columns(g, k0, k1, to);
  const auto [column, columns, width, start] = panel;
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

struct Plan {
  const ImplicitGemm* g;
  Tiling tiling;
  std::vector<Run> runs;
  std::vector<Panel> panels;
  const float* packed;  // all panels, or null
  bool stream;          // results go around the caches
};

Plan plan_of(const ImplicitGemm& g, const float* packed, bool stream) {
  const int64_t height = has_few_columns(g) ? dot_height(static_cast<int>(g.columns)) : height_of(ceil_div(g.columns, lanes));
  return {&g, tiling_of(g, height), runs_of(g), panels_of(g), packed, stream};
}

// The floats of its packed panels.
int64_t packed_size(const Plan& plan) { return (plan.panels.back().start + plan.panels.back().width) * steps_of(*plan.g); }

void run_task(const Plan& plan, int64_t tile_begin, int64_t tile_end, std::span<const Panel> panels) {
  const ImplicitGemm& g = *plan.g;
  const bool dots = has_few_columns(g);
  const int64_t origin = panels.front().start, width = panels.back().start + panels.back().width - origin;
  const int64_t total = steps_of(g);
  // A block's sums are added to those before it, so where it ends may not depend on the part of the columns that a task has.
  const int64_t widest = std::min(most_columns, plan.panels.back().start + plan.panels.back().width);
  const int64_t most = std::max<int64_t>(64, l2_bytes() / 2 / static_cast<int64_t>(sizeof(float)) / widest);
  const int64_t blocks = std::max<int64_t>(1, ceil_div(total, most));
  const int64_t block = ceil_div(ceil_div(total, blocks), 4) * 4;
  const int64_t affine_size = ceil_div(2 * width, lanes) * lanes;
  float* affine = thread_scratch(Scratch::packed, affine_size + (plan.packed ? 0 : block * width));
  float* own = affine + affine_size;
  const Epilogue& e = g.epilogue;
  for (const Panel& panel : panels)
    for (int64_t j = 0; j < panel.width; ++j) {
      const int64_t column = panel.column + j, at = panel.start - origin + j;
      affine[at] = e.scale && j < panel.columns ? e.scale[column] : 1.0f;
      affine[width + at] = e.bias && j < panel.columns ? e.bias[column] : 0.0f;
    }
  Tiles tiles(g, plan.tiling, plan.runs, block);
  for (int64_t k0 = 0; k0 < std::max<int64_t>(1, total); k0 += std::max<int64_t>(1, block)) {
    const int64_t k1 = std::min(total, k0 + block);
    const bool last = k1 == total;
    if (!plan.packed)
      for (const Panel& panel : panels) pack_panel(g, k0, k1, panel, own + (panel.start - origin) * (k1 - k0));
    const auto packed = [&](const Panel& panel) -> const float* {
      if (!plan.packed) return own + (panel.start - origin) * (k1 - k0);
      return plan.packed + panel.start * total + k0 * (dots ? 1 : panel.width);
    };
    Target target{.d = nullptr,
                  .residual = nullptr,
                  .offsets = tiles.offsets(),
                  .affine = nullptr,
                  .affine_bias = width,
                  .valid = 0,
                  .accumulate = k0 > 0 || e.accumulate,
                  .relu = last && e.relu,
                  .stream = plan.stream && blocks == 1};
    tiles.start(tile_begin, k0, k1);
    for (int64_t t = tile_begin; t < tile_end; ++t) {
      tiles.next();
      const auto& pieces = tiles.pieces();
      const auto count = static_cast<int64_t>(pieces.size());
      for (const Panel& panel : panels) {
        target.d = g.d + panel.column;
        target.residual = last && e.residual ? e.residual + panel.column : nullptr;
        target.affine = last && (e.scale || e.bias) ? affine + panel.start - origin : nullptr;
        target.valid = panel.columns;
        const auto height = static_cast<size_t>(tiles.height());
        if (dots) {
          dot_kernels[static_cast<size_t>(panel.columns - 1)][height](pieces.data(), count, packed(panel),
                                                                      plan.packed ? total : k1 - k0, target);
        } else {
          kernels[static_cast<size_t>(panel.width / lanes - 1)][height](pieces.data(), count, packed(panel), target);
        }
      }
    }
  }
}

void run_all(std::span<const ImplicitGemm> problems, const float* packed) {
  std::vector<Plan> plans;
  const bool stream = worth_streaming(problems);
  int64_t tiles = 0, columns = 0;  // the most of any
  for (const ImplicitGemm& g : problems) {
    if (g.images * g.p * g.q == 0 || g.columns == 0) continue;
    plans.push_back(plan_of(g, packed, stream));
    if (packed) packed += packed_size(plans.back());
    tiles = std::max(tiles, plans.back().tiling.count);
    columns = std::max(columns, g.columns);
  }
  if (plans.empty()) return;
  const int64_t count = static_cast<int64_t>(plans.size());
  const Parts parts = parts_of(tiles * 6, columns, count, panel_width);
  // Problems vary fastest: those that read the same part of a follow one another.
  parallel_for(parts.pixels * parts.columns * count, 1, [&](int64_t begin, int64_t end) {
    for (int64_t task = begin; task < end; ++task) {
      const Plan& plan = plans[static_cast<size_t>(task % count)];
      const int64_t column_part = task / count % parts.columns, pixel_part = task / count / parts.columns;
      const auto part = [](int64_t i, int64_t parts, int64_t whole) { return i * whole / parts; };
      const auto panels = static_cast<int64_t>(plan.panels.size());
      const int64_t panel = part(column_part, parts.columns, panels), panel_end = part(column_part + 1, parts.columns, panels);
      const int64_t tile = part(pixel_part, parts.pixels, plan.tiling.count),
                    tile_end = part(pixel_part + 1, parts.pixels, plan.tiling.count);
      if (panel < panel_end && tile < tile_end)
        run_task(plan, tile, tile_end, std::span(plan.panels).subspan(size_t(panel), size_t(panel_end - panel)));
    }
    if (stream) hwy::FlushStream();
  });
}

Tensor pack_all(std::span<const ImplicitGemm> problems) {
  std::vector<Plan> plans;
  std::vector<int64_t> starts{0};
  for (const ImplicitGemm& g : problems) {
    plans.push_back(plan_of(g, nullptr, false));
    starts.push_back(starts.back() + packed_size(plans.back()));
  }
  const Tensor packed({starts.back()});
  for (size_t i = 0; i < plans.size(); ++i) {
    const Plan& plan = plans[i];
    const int64_t steps = steps_of(*plan.g);
    parallel_for(static_cast<int64_t>(plan.panels.size()), 1, [&](int64_t begin, int64_t end) {
      for (int64_t j = begin; j < end; ++j) {
        const Panel& panel = plan.panels[static_cast<size_t>(j)];
        pack_panel(*plan.g, 0, steps, panel, packed.data<float>() + starts[i] + panel.start * steps);
      }
    });
  }
  return packed;
}

}  // namespace
}  // namespace glia::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace glia::cpu {

HWY_EXPORT(run_all);
HWY_EXPORT(pack_all);
void run(std::span<const ImplicitGemm> problems, const Tensor& panels) {
  HWY_DYNAMIC_DISPATCH(run_all)(problems, panels ? panels.data<float>() : nullptr);
}
Tensor packed_panels(std::span<const ImplicitGemm> problems) { return HWY_DYNAMIC_DISPATCH(pack_all)(problems); }

}  // namespace glia::cpu
#endif

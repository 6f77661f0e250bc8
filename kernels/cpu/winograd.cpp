// Winograd's F(4x4, 3x3): forward passes and data gradients, in one of two ways.
//
// Many tiles: the transformed filters U come first. Then each task takes a block of tiles: transforms its pixels to V, and for a few
// columns at a time multiplies V by U and transforms the products back, so that V and the products stay in the cache.
//
// Few tiles, where U, four times the filters, would be the most of what is read and written: tasks have larger blocks of tiles, or some of the
// columns of one, and each transforms its filters itself, a few input channels at a time, so that U never leaves the cache.
//
//   U  [element][panel][c][panel_width]                 V     [element][row block][c / lanes][height][lanes]
//   (few tiles: [element][c][panel_width])              taps  [panel][c / filter_block][tap][filter_block][panel_width]
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/cpu/winograd.cpp"
#include <hwy/foreach_target.h>
#include <hwy/highway.h>

#include <algorithm>
#include <array>

#include "kernels/cpu/gemm.h"
#include "kernels/cpu/transpose-inl.h"
#include "kernels/cpu/winograd-inl.h"
#include "tensor/parallel.h"

HWY_BEFORE_NAMESPACE();
namespace glia::cpu::HWY_NAMESPACE {
namespace {

constexpr int height = HWY_TARGET <= HWY_AVX3 ? 14 : 6;  // rows of sums in registers
constexpr int64_t skew = 16;                             // floats between planes, which would else share sets of the caches
constexpr int64_t filter_block = 32;                     // input channels of a block of taps
constexpr int64_t taps_size = 9 * filter_block * panel_width;

int64_t ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }

// How a problem is cut. Every sum runs over the input channels in order, so that the bits do not depend on it; `few`, which decides what
// can be kept of the filters, depends on the sizes alone.
struct Plan {
  TileGrid grid;
  int64_t c_padded, panels;
  bool few;                           // tiles: see above
  int64_t block;                      // tiles of a task
  int64_t row_blocks, rows;           // of a block of tiles; rows: of all but perhaps the last
  int64_t part, parts;                // panels of a task, and parts of all panels: with few tiles
  int64_t chunk;                      // panels that are multiplied and transformed back at a time
  int64_t rows_at_once, c_at_once;    // of the transformed filters, and input channels of them: with few tiles not all
  int64_t u_plane, v_plane, m_plane;  // floats from one element to the next

  explicit Plan(const WinogradConv& g) : grid(g.images, g.p, g.q) {
    c_padded = ceil_div(g.c, lanes) * lanes;
    panels = ceil_div(g.k, panel_width);
    const int64_t tiles = std::max<int64_t>(1, grid.count());
    // V of a task in about the second-level cache, but enough tiles that the filters are not read too often.
    const int64_t fitting =
        l2_bytes() / (elements * std::max(c_padded, lanes) * static_cast<int64_t>(sizeof(float))) / height * height;
    int64_t blocks = ceil_div(tiles, std::clamp<int64_t>(fitting, 3 * height, 6 * height));
    few = blocks < 8, parts = 1;
    if (few) {
      // V of a task in 4 MB, a core's share of the third-level cache: it is read again for every few columns.
      const int64_t most = std::clamp<int64_t>((4 << 20) / (elements * std::max(c_padded, lanes) * 4) / height, 1, 6);
      blocks = ceil_div(tiles, most * height);
      parts = std::clamp<int64_t>(ceil_div(num_threads(), blocks), 1, std::max<int64_t>(1, panels));
      blocks = std::max(blocks, std::min(ceil_div(tiles, height), ceil_div(num_threads(), parts)));
    }
    part = ceil_div(panels, parts);
    parts = ceil_div(panels, std::max<int64_t>(1, part));
    chunk = std::clamp<int64_t>(64 / panel_width, 1, std::max<int64_t>(1, part));
    block = ceil_div(tiles, blocks);
    row_blocks = ceil_div(block, height);
    rows = ceil_div(block, row_blocks);
    rows_at_once = tile_in, c_at_once = std::max(lanes, c_padded);
    if (few) {  // the products in half of the second-level cache, with filters in another quarter
      constexpr int64_t row = tile_in * panel_width * static_cast<int64_t>(sizeof(float));
      const int64_t in_half = l2_bytes() / 2 / (row * chunk * block);
      rows_at_once = in_half >= 6 ? 6 : std::clamp<int64_t>(in_half, 1, 3);
      const int64_t left = l2_bytes() / 4 * 3 / (row * chunk * rows_at_once) - block;
      c_at_once = std::max(filter_block, left / filter_block * filter_block);
    }
    u_plane = (few ? chunk * c_at_once : panels * c_padded) * panel_width + skew;
    v_plane = row_blocks * c_padded * height + skew;
    m_plane = chunk * block * panel_width + skew;
  }
  int64_t blocks() const { return ceil_div(grid.count(), block); }
  int64_t tiles_of(int64_t b) const { return std::min(block, grid.count() - b * block); }
  int64_t c_blocks() const { return ceil_div(c_padded, filter_block); }
};

// Block b of `filter_block` input channels of a panel's filters.
void gather_taps(const WinogradConv& g, int64_t panel, int64_t b, float* taps) {
  const int64_t j = panel * panel_width, valid = std::min(panel_width, g.k - j), from = b * filter_block;
  const int64_t inside = std::clamp<int64_t>(g.c - from, 0, filter_block);
  for (int64_t tap = 0; tap < 9; ++tap, taps += filter_block * panel_width) {
    const float* filter = g.filter + tap / 3 * g.f_row + tap % 3 * g.f_column + from * g.f_inner + j * g.f_outer;
    std::fill(taps + inside * panel_width, taps + filter_block * panel_width, 0.0f);
    if (g.f_inner == 1) {
      pack_transposed(filter, g.f_outer, inside, valid, panel_width, taps);
    } else {
      for (int64_t c = 0; c < inside; ++c) {
        float* row = taps + c * panel_width;
        std::fill(std::copy(filter + c * g.f_inner, filter + c * g.f_inner + valid, row), row + panel_width, 0.0f);
      }
    }
  }
}

// Rows [top, bottom) of U of the first `channels` of a block of taps; u: where the first row's first channel belongs.
void transform_taps(const float* taps, int64_t channels, int64_t top, int64_t bottom, float* u, int64_t u_plane) {
  const D d;
  for (int64_t i = 0; i < channels * panel_width; i += lanes) {
    V t[6][3];
    for (int s = 0; s < 3; ++s) {
      const auto tap = [&](int r) HWY_ATTR { return hn::Load(d, taps + (3 * r + s) * filter_block * panel_width + i); };
      V o[6];
      transform_filter({tap(0), tap(1), tap(2)}, o);
      for (int r = 0; r < 6; ++r) t[r][s] = o[r];
    }
    for (int64_t r = top; r < bottom; ++r) {
      V o[6];
      transform_filter(t[r], o);
      for (int s = 0; s < 6; ++s) hn::Store(o[s], d, u + ((r - top) * 6 + s) * u_plane + i);
    }
  }
}

// A part of U: rows [top, bottom) of input channels [from, to), of which `from` is the first of a block of taps.
struct FilterPart {
  int64_t top, bottom, from, to;
};

// kept: the filters' taps, or null.
void make_filters(const WinogradConv& g, const Plan& plan, const float* kept, int64_t panel, const FilterPart& part, float* u) {
  HWY_ALIGN float gathered[taps_size];
  for (int64_t c = part.from; c < part.to; c += filter_block, u += filter_block * panel_width) {
    const int64_t b = c / filter_block;
    if (!kept) gather_taps(g, panel, b, gathered);
    transform_taps(kept ? kept + (panel * plan.c_blocks() + b) * taps_size : gathered, std::min(filter_block, part.to - c),
                   part.top, part.bottom, u, plan.u_plane);
  }
}

// V of tile t, which is number i of its block.
void make_tile(const WinogradConv& g, const Plan& plan, int64_t t, int64_t i, float* v) {
  const auto at = plan.grid.place(t), next = plan.grid.place(t + 1);
  const int64_t known = next.column == 0 ? 0 : 2;  // columns that are in this tile already
  float* row = v + i / plan.rows * plan.c_padded * height + i % plan.rows * lanes;
  for (int64_t c = 0; c < g.c; c += lanes) {
    const auto [x, pixel] = g.x.channel(c, g.c);
    const int64_t image = g.h * g.w * pixel;
    if (next.image < g.images)
      prefetch_pixels(x + next.image * image, g.h, g.w, pixel, next.row - g.top, next.column - g.left + known, tile_in,
                      tile_in - known, c);
    input_tile(x + at.image * image, g.h, g.w, pixel, at.row - g.top, at.column - g.left, g.c - c, row + c * height,
               plan.v_plane);
  }
}

// MR rows of V times a panel of U -> MR rows of products; `first`: nothing is to be added to.
template <int MR>
HWY_NOINLINE void multiply(int64_t channels, const float* v, const float* u, float* m, bool first) {
  const D d;
  V sum[MR][2];
#pragma GCC unroll 14
  for (int i = 0; i < MR; ++i) {
    sum[i][0] = first ? hn::Zero(d) : hn::Load(d, m + i * panel_width);
    sum[i][1] = first ? hn::Zero(d) : hn::Load(d, m + i * panel_width + lanes);
  }
  for (int64_t c = 0; c < channels; c += lanes, v += height * lanes) {
#pragma GCC unroll 4
    for (int64_t lane = 0; lane < lanes; ++lane, u += panel_width) {
      const V u0 = hn::Load(d, u), u1 = hn::Load(d, u + lanes);
#pragma GCC unroll 14
      for (int i = 0; i < MR; ++i) {
        const V x = hn::Set(d, v[i * lanes + lane]);
        sum[i][0] = hn::MulAdd(x, u0, sum[i][0]);
        sum[i][1] = hn::MulAdd(x, u1, sum[i][1]);
      }
    }
  }
#pragma GCC unroll 14
  for (int i = 0; i < MR; ++i) {
    hn::Store(sum[i][0], d, m + i * panel_width);
    hn::Store(sum[i][1], d, m + i * panel_width + lanes);
  }
}

using Multiply = void (*)(int64_t, const float*, const float*, float*, bool);
template <size_t... I>
constexpr std::array<Multiply, height + 1> multiplies_of(std::index_sequence<I...>) {
  return {nullptr, multiply<static_cast<int>(I) + 1>...};
}
constexpr std::array<Multiply, height + 1> multiplies = multiplies_of(std::make_index_sequence<height>());

// The results of the tile at a place in `lanes` output channels from j on; `next`: the place of the next tile.
void store_tile(const WinogradConv& g, const Plan& plan, TileGrid::Place at, TileGrid::Place next, int64_t j, const float* m) {
  const D d;
  const auto [y, pixel] = g.y.channel(j, g.k);
  if (next.image < g.images)
    prefetch_pixels(y + next.image * g.p * g.q * pixel, g.p, g.q, pixel, next.row, next.column, tile_out, tile_out, j);
  V s[4][6];
#pragma GCC unroll 6
  for (int column = 0; column < 6; ++column) {
    V products[6], o[4];
#pragma GCC unroll 6
    for (int i = 0; i < 6; ++i) products[i] = hn::Load(d, m + (i * 6 + column) * plan.m_plane);
    transform_output(products, o);
#pragma GCC unroll 4
    for (int i = 0; i < 4; ++i) s[i][column] = o[i];
  }
  const int64_t valid = g.k - j;
  const ConvEpilogue& e = g.epilogue;
  const V scale = e.scale ? load_first(e.scale + j, valid) : hn::Set(d, 1.0f);
  const V bias = e.bias ? load_first(e.bias + j, valid) : hn::Zero(d);
  const bool affine = e.scale || e.bias;
  const int64_t columns = std::min<int64_t>(tile_out, g.q - at.column);
  const bool over = g.y.over[j < g.y.split ? 0 : 1];
  for (int i = 0; i < tile_out && at.row + i < g.p; ++i) {
    V o[4];
    transform_output(s[i], o);
    const int64_t first = (at.image * g.p + at.row + i) * g.q + at.column;
    for (int64_t column = 0; column < columns; ++column) {
      V x = o[column];
      if (affine) x = hn::MulAdd(x, scale, bias);
      if (e.residual) x = hn::Add(x, load_first(e.residual + (first + column) * g.k + j, valid));
      if (e.relu) x = hn::Max(hn::Zero(d), x);  // in this order NaN stays NaN
      float* to = y + (first + column) * pixel;
      if (over) x = hn::IfThenElseZero(hn::Gt(load_first(to, valid), hn::Zero(d)), x);
      store_first(x, to, valid);
    }
  }
}

// Products of block b of tiles and a part of U in panels [from, to); u: that part in panel `from`.
void multiply_part(const Plan& plan, int64_t b, const FilterPart& part, const float* v, const float* u, float* m, int64_t from,
                   int64_t to) {
  const int64_t tiles = plan.tiles_of(b);
  for (int64_t element = part.top * tile_in; element < part.bottom * tile_in; ++element, u += plan.u_plane)
    for (int64_t panel = 0; panel < to - from; ++panel)
      for (int64_t first = 0; first < tiles; first += plan.rows)
        multiplies[static_cast<size_t>(std::min(plan.rows, tiles - first))](
            part.to - part.from, v + element * plan.v_plane + (first / plan.rows * plan.c_padded + part.from) * height,
            u + panel * plan.c_at_once * panel_width, m + element * plan.m_plane + (panel * plan.block + first) * panel_width,
            part.from == 0);
}

// Block b of tiles in panels [from, to): products, then results. filters: U, or with few tiles the taps that were kept, or null.
void multiply_block(const WinogradConv& g, const Plan& plan, int64_t b, const float* filters, const float* v, int64_t from,
                    int64_t to) {
  const int64_t tiles = plan.tiles_of(b);
  float* m = thread_scratch(Scratch::gathered, elements * plan.m_plane);
  float* made = plan.few ? thread_scratch(Scratch::packed, plan.rows_at_once * tile_in * plan.u_plane) : nullptr;
  for (int64_t top = 0; top < tile_in; top += plan.rows_at_once)
    for (int64_t c = 0; c == 0 || c < plan.c_padded; c += plan.c_at_once) {
      const FilterPart part{top, std::min<int64_t>(tile_in, top + plan.rows_at_once), c,
                            std::min(plan.c_padded, c + plan.c_at_once)};
      for (int64_t panel = from; plan.few && panel < to; ++panel)
        make_filters(g, plan, filters, panel, part, made + (panel - from) * plan.c_at_once * panel_width);
      multiply_part(plan, b, part, v, plan.few ? made : filters + from * plan.c_padded * panel_width, m, from, to);
    }
  for (int64_t i = 0; i < tiles; ++i) {
    const auto at = plan.grid.place(b * plan.block + i), next = plan.grid.place(b * plan.block + i + 1);
    for (int64_t j = from * panel_width; j < std::min(g.k, to * panel_width); j += lanes)
      store_tile(g, plan, at, next, j, m + ((j / panel_width - from) * plan.block + i) * panel_width + j % panel_width);
  }
}

// With many tiles the transform is under 3 % of the work, and four times as large as the filter: not worth its memory.
const char* form_of(const WinogradConv& g) { return Plan(g).few ? "Winograd's taps" : nullptr; }

Tensor make_all_filters(const WinogradConv& g) {
  const Plan plan(g);
  const int64_t parts = plan.c_blocks();
  const Tensor filters({plan.few ? plan.panels * parts * taps_size : elements * plan.u_plane});
  float* to = filters.data<float>();
  parallel_for(plan.panels * parts, 1, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      const int64_t panel = i / parts, c = i % parts * filter_block;
      if (plan.few) {
        gather_taps(g, panel, i % parts, to + i * taps_size);
      } else {
        make_filters(g, plan, nullptr, panel, {0, tile_in, c, std::min(plan.c_padded, c + filter_block)},
                     to + (panel * plan.c_padded + c) * panel_width);
      }
    }
  });
  return filters;
}

void run_winograd(const WinogradConv& g, const float* filters) {
  if (g.images * g.p * g.q * g.k == 0) return;
  const Plan plan(g);
  const Tensor made = filters || plan.few ? Tensor() : make_all_filters(g);
  if (made) filters = made.data<float>();
  const Tensor all_v({num_threads() * elements * plan.v_plane});
  parallel_for(plan.blocks() * plan.parts, 1, [&](int64_t begin, int64_t end) {
    float* v = all_v.data<float>() + thread_index() * elements * plan.v_plane;
    for (int64_t task = begin; task < end; ++task) {
      const int64_t b = task / plan.parts, first = task % plan.parts * plan.part;
      for (int64_t i = 0; i < plan.tiles_of(b); ++i) make_tile(g, plan, b * plan.block + i, i, v);
      const int64_t last = std::min(plan.panels, first + plan.part);
      for (int64_t panel = first; panel < last; panel += plan.chunk)
        multiply_block(g, plan, b, filters, v, panel, std::min(last, panel + plan.chunk));
    }
  });
}

}  // namespace
}  // namespace glia::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace glia::cpu {

HWY_EXPORT(form_of);
HWY_EXPORT(make_all_filters);
HWY_EXPORT(run_winograd);
const char* packed_form(const WinogradConv& conv) { return HWY_DYNAMIC_DISPATCH(form_of)(conv); }
Tensor packed_filter(const WinogradConv& conv) { return HWY_DYNAMIC_DISPATCH(make_all_filters)(conv); }
void run(const WinogradConv& conv, const Tensor& packed) {
  HWY_DYNAMIC_DISPATCH(run_winograd)(conv, packed ? packed.data<float>() : nullptr);
}

}  // namespace glia::cpu
#endif

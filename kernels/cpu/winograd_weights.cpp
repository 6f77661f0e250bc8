// Winograd's F(4x4, 3x3): the gradient of the filter, G^T [ sum over tiles of (B^T d B) . (A dy A^T) ] G. A task has a group of tiles, some
// input channels and some output channels; a block of tiles after the other it transforms its pixels to V, its gradients to Z, and adds
// their products to its part of the 36 matrices of sums. It shares nothing with other tasks: two cores that write to lines of each
// other's caches wait for them longer than it takes to transform some pixels twice. Groups depend on the sizes alone and every sum runs over
// a group's tiles in order, so the bits are the same for any number of threads.
//
//   V  [element][panel of c][tile][panel_width]    Z  [element][k / lanes][tile][lanes]    sums  [group][element][panel of c][k][panel_width]
//
// Where one group is one block, sums stay in the second-level cache, for a few output channels at a time, and become filters at once.
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/cpu/winograd_weights.cpp"
#include <hwy/foreach_target.h>
#include <hwy/highway.h>

#include <algorithm>

#include "kernels/cpu/gemm.h"
#include "kernels/cpu/winograd-inl.h"
#include "tensor/parallel.h"

HWY_BEFORE_NAMESPACE();
namespace glia::cpu::HWY_NAMESPACE {
namespace {

constexpr int64_t rows = std::min<int64_t>(lanes, HWY_TARGET <= HWY_AVX3 ? 8 : 4);  // of sums in registers
constexpr int64_t skew = 16;
constexpr int64_t chain = 128;  // tiles that are summed before they are added to the rest: one long sum would round more

int64_t ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }

// How a problem is cut. What decides the order of sums, groups and chains, depends on the sizes alone; parts and blocks depend on the number of
// threads too.
struct Plan {
  TileGrid grid;
  int64_t panels, k_padded;
  int64_t groups, group, block;           // tiles of a group, and of a block
  bool at_once;                           // one group of one block
  int64_t part_panels, c_parts;           // panels of a task
  int64_t k_block, part_blocks, k_parts;  // output channels of a block, and blocks of a task
  int64_t v_plane, z_plane, sum_plane;    // floats from one element to the next
  int64_t sum_rows;                       // output channels of a panel of sums

  explicit Plan(const WinogradWeights& g) : grid(g.images, g.p, g.q) {
    panels = ceil_div(g.c, panel_width);
    k_padded = ceil_div(g.k, lanes) * lanes;
    const int64_t tiles = grid.count(), c_padded = panels * panel_width;
    at_once = tiles <= 512 && tiles * (c_padded + k_padded) <= 2 * c_padded * k_padded;  // sums would be as large as V and Z
    groups = 1;
    if (!at_once)  // sums of 12 MB, at least 128 tiles each
      while (groups < 8 && 2 * groups * elements * c_padded * k_padded * 4 <= 12 << 20 && 2 * groups * chain <= tiles)
        groups *= 2;
    group = ceil_div(ceil_div(tiles, groups), chain) * chain;
    groups = ceil_div(tiles, group);

    const int64_t wanted = ceil_div(num_threads(), groups);
    part_panels = ceil_div(panels, std::max(wanted, ceil_div(panels, at_once ? 4 : 14)));
    c_parts = ceil_div(panels, part_panels);
    const int64_t part = part_panels * panel_width;
    const int64_t in_caches = std::min(l2_bytes() / 2 / (elements * part * 4), (4 << 20) / (elements * tiles * 4));
    k_block = std::min(k_padded, at_once ? std::max(lanes, in_caches / lanes * lanes) : 64 / lanes * lanes);
    const int64_t k_blocks = ceil_div(k_padded, k_block);
    part_blocks = ceil_div(k_blocks, std::min(k_blocks, ceil_div(wanted, c_parts)));
    k_parts = ceil_div(k_blocks, part_blocks);

    // V and Z of a block in about 4 MB, a core's share of the third-level cache.
    block = at_once ? tiles : std::clamp<int64_t>((4 << 20) / (elements * (part + k_block) * 4 * chain), 1, 2) * chain;
    v_plane = part * block + skew;
    z_plane = k_block * block + skew;
    sum_rows = at_once ? k_block : k_padded;
    sum_plane = (at_once ? part_panels : panels) * sum_rows * panel_width + skew;
  }
};

// A task's tiles [begin, end), panels and output channels.
struct Part {
  int64_t begin, end, panel_begin, panel_end, k_begin, k_end;
};

// A dy A^T of one tile and `lanes` channels; element e goes to z[e * stride].
void gradient_tile(const float* image, int64_t h, int64_t w, int64_t c, int64_t row, int64_t column, int64_t valid, float* z,
                   int64_t stride) {
  V t[6][4];
  for_each_column<4>(image, h, w, c, row, column, valid, [&](int j, const V(&pixels)[4]) HWY_ATTR {
    V o[6];
    transform_output_adjoint(pixels, o);
#pragma GCC unroll 6
    for (int i = 0; i < 6; ++i) t[i][j] = o[i];
  });
#pragma GCC unroll 6
  for (int i = 0; i < 6; ++i) {
    V o[6];
    transform_output_adjoint(t[i], o);
#pragma GCC unroll 6
    for (int j = 0; j < 6; ++j) hn::Store(o[j], D(), z + (i * 6 + j) * stride);
  }
}

// V of tile t, which is number i of its block, in some panels.
void make_pixels(const WinogradWeights& g, const Plan& plan, int64_t t, int64_t i, const Part& part, float* v) {
  const auto at = plan.grid.place(t), next = plan.grid.place(t + 1);
  const int64_t known = next.column == 0 ? 0 : 2;  // columns that are in this tile already
  const int64_t from = part.panel_begin * panel_width;
  for (int64_t c = from; c < part.panel_end * panel_width; c += lanes) {
    const auto [x, pixel] = g.x.channel(std::min(c, g.c - 1), g.c);  // behind the last are zeros, nothing is read
    const int64_t image = g.h * g.w * pixel;
    if (next.image < g.images)
      prefetch_pixels(x + next.image * image, g.h, g.w, pixel, next.row - g.top, next.column - g.left + known, tile_in,
                      tile_in - known, c);
    input_tile(x + at.image * image, g.h, g.w, pixel, at.row - g.top, at.column - g.left, std::max<int64_t>(0, g.c - c),
               v + ((c - from) / panel_width * plan.block + i) * panel_width + c % panel_width, plan.v_plane);
  }
}

// Z of the same in output channels [from, to).
void make_gradients(const WinogradWeights& g, const Plan& plan, int64_t t, int64_t i, int64_t from, int64_t to, float* z) {
  const auto at = plan.grid.place(t), next = plan.grid.place(t + 1);
  const int64_t image = g.p * g.q * g.k;
  for (int64_t k = from; k < std::min(to, g.k); k += lanes) {
    if (next.image < g.images)
      prefetch_pixels(g.g + next.image * image + k, g.p, g.q, g.k, next.row, next.column, tile_out, tile_out, k);
    gradient_tile(g.g + at.image * image + k, g.p, g.q, g.k, at.row, at.column, g.k - k,
                  z + ((k - from) / lanes * plan.block + i) * lanes, plan.z_plane);
  }
}

// Adds `tiles` outer products of `rows` values of z and a panel of v to the sums; `first`: they are the first.
HWY_NOINLINE void accumulate(int64_t tiles, const float* z, const float* v, float* sums, bool first) {
  const D d;
  V sum[rows][2];
#pragma GCC unroll 8
  for (int64_t i = 0; i < rows; ++i) sum[i][0] = sum[i][1] = hn::Zero(d);
  for (int64_t t = 0; t < tiles; ++t, z += lanes, v += panel_width) {
    const V v0 = hn::Load(d, v), v1 = hn::Load(d, v + lanes);
#pragma GCC unroll 8
    for (int64_t i = 0; i < rows; ++i) {
      const V x = hn::Set(d, z[i]);
      sum[i][0] = hn::MulAdd(x, v0, sum[i][0]);
      sum[i][1] = hn::MulAdd(x, v1, sum[i][1]);
    }
  }
#pragma GCC unroll 8
  for (int64_t i = 0; i < rows; ++i)
    for (int64_t j = 0; j < 2; ++j) {
      float* const to = sums + i * panel_width + j * lanes;
      hn::Store(first ? sum[i][j] : hn::Add(hn::Load(d, to), sum[i][j]), d, to);
    }
}

// G^T sums G for output channel k and `lanes` input channels from c on -> dw. sums: the first group's for these; behind them the others'.
void store_filter(const WinogradWeights& g, const Plan& plan, int64_t k, int64_t c, const float* sums) {
  const D d;
  V t[3][6];
  for (int column = 0; column < 6; ++column) {
    V u[6], o[3];
    for (int i = 0; i < 6; ++i) {
      const float* from = sums + (i * 6 + column) * plan.sum_plane;
      u[i] = hn::Load(d, from);
      for (int64_t group = 1; group < plan.groups; ++group)
        u[i] = hn::Add(u[i], hn::Load(d, from + group * elements * plan.sum_plane));
    }
    transform_filter_adjoint(u, o);
    for (int r = 0; r < 3; ++r) t[r][column] = o[r];
  }
  for (int r = 0; r < 3; ++r) {
    V o[3];
    transform_filter_adjoint(t[r], o);
    for (int s = 0; s < 3; ++s) store_first(o[s], g.dw + ((k * 3 + r) * 3 + s) * g.c + c, g.c - c);
  }
}

// Products of a block of tiles in output channels [from, to) -> sums of the task's first panel and of `from`.
void add_products(const Plan& plan, const Part& part, int64_t tiles, int64_t from, int64_t to, const float* v, const float* z,
                  float* sums, bool first) {
  for (int64_t element = 0; element < elements; ++element)
    for (int64_t t = 0; t < tiles; t += chain)
      for (int64_t panel = 0; panel < part.panel_end - part.panel_begin; ++panel)
        for (int64_t k = 0; k < to - from; k += rows)
          accumulate(std::min(chain, tiles - t), z + element * plan.z_plane + (k / lanes * plan.block + t) * lanes + k % lanes,
                     v + element * plan.v_plane + (panel * plan.block + t) * panel_width,
                     sums + element * plan.sum_plane + (panel * plan.sum_rows + k) * panel_width, first && t == 0);
}

// sums: the group's, or null where they become filters at once.
void run_part(const WinogradWeights& g, const Plan& plan, const Part& part, float* v, float* z, float* sums) {
  float* here = plan.at_once ? thread_scratch(Scratch::packed, elements * plan.sum_plane) : nullptr;
  for (int64_t begin = part.begin; begin < part.end; begin += plan.block) {
    const int64_t tiles = std::min(plan.block, part.end - begin);
    for (int64_t i = 0; i < tiles; ++i) make_pixels(g, plan, begin + i, i, part, v);
    for (int64_t k = part.k_begin; k < part.k_end; k += plan.k_block) {
      const int64_t to = std::min(k + plan.k_block, part.k_end);
      for (int64_t i = 0; i < tiles; ++i) make_gradients(g, plan, begin + i, i, k, to, z);
      float* at = here ? here : sums + (part.panel_begin * plan.sum_rows + k) * panel_width;
      add_products(plan, part, tiles, k, to, v, z, at, begin == part.begin);
      for (int64_t c = part.panel_begin * panel_width; here && c < std::min(g.c, part.panel_end * panel_width); c += lanes)
        for (int64_t j = k; j < std::min(g.k, to); ++j)
          store_filter(g, plan, j, c,
                       here + ((c / panel_width - part.panel_begin) * plan.sum_rows + j - k) * panel_width + c % panel_width);
    }
  }
}

void run_winograd_weights(const WinogradWeights& g) {
  if (g.images * g.p * g.q * g.c * g.k == 0) {
    std::fill(g.dw, g.dw + g.k * 9 * g.c, 0.0f);
    return;
  }
  const Plan plan(g);
  const Tensor all_v({num_threads() * elements * plan.v_plane}), all_z({num_threads() * elements * plan.z_plane});
  const Tensor sums_tensor({plan.at_once ? 0 : plan.groups * elements * plan.sum_plane});
  float* sums = plan.at_once ? nullptr : sums_tensor.data<float>();
  parallel_for(plan.groups * plan.c_parts * plan.k_parts, 1, [&](int64_t from, int64_t to) {
    for (int64_t task = from; task < to; ++task) {
      const int64_t group = task / (plan.c_parts * plan.k_parts), panel = task / plan.k_parts % plan.c_parts * plan.part_panels;
      const int64_t k = task % plan.k_parts * plan.part_blocks * plan.k_block;
      run_part(g, plan,
               {group * plan.group, std::min(plan.grid.count(), (group + 1) * plan.group), panel,
                std::min(plan.panels, panel + plan.part_panels), k, std::min(plan.k_padded, k + plan.part_blocks * plan.k_block)},
               all_v.data<float>() + thread_index() * elements * plan.v_plane,
               all_z.data<float>() + thread_index() * elements * plan.z_plane,
               sums ? sums + group * elements * plan.sum_plane : nullptr);
    }
  });
  if (plan.at_once) return;
  parallel_for(g.k, 1, [&](int64_t from, int64_t to) {
    for (int64_t k = from; k < to; ++k)
      for (int64_t c = 0; c < g.c; c += lanes)
        store_filter(g, plan, k, c, sums + (c / panel_width * plan.k_padded + k) * panel_width + c % panel_width);
  });
}

}  // namespace
}  // namespace glia::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace glia::cpu {

HWY_EXPORT(run_winograd_weights);
void run(const WinogradWeights& gradient) { HWY_DYNAMIC_DISPATCH(run_winograd_weights)(gradient); }

}  // namespace glia::cpu
#endif

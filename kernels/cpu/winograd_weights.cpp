// Winograd's F(4x4, 3x3): the gradient of the filter, G^T [ sum over tiles of (B^T d B) . (A dy A^T) ] G. Blocks of tiles in order: their
// pixels and gradients are transformed to V and Z, then each task adds the products of some elements and columns to its own part of
// the 36 matrices of sums. So every sum has one order, whatever the number of threads.
//
//   V  [element][panel of c][tile][panel_width]    Z  [element][k / lanes][tile][lanes]    sums  [element][panel of c][k][panel_width]
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/cpu/winograd_weights.cpp"
#include <hwy/foreach_target.h>
#include <hwy/highway.h>

#include <algorithm>

#include "kernels/cpu/winograd-inl.h"
#include "tensor/parallel.h"

HWY_BEFORE_NAMESPACE();
namespace glia::cpu::HWY_NAMESPACE {
namespace {

constexpr int64_t rows = std::min<int64_t>(lanes, HWY_TARGET <= HWY_AVX3 ? 8 : 4);  // of sums in registers
constexpr int64_t skew = 16;

int64_t ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }

struct Plan {
  TileGrid grid;
  int64_t panels, k_padded, block, v_plane, z_plane, sum_plane;

  explicit Plan(const WinogradWeights& g) : grid(g.images, g.p, g.q) {
    panels = ceil_div(g.c, panel_width);
    k_padded = ceil_div(g.k, lanes) * lanes;
    // V and Z of a block in about 8 MB, which the cores share.
    const int64_t most = std::clamp<int64_t>((8 << 20) / (elements * (panels * panel_width + k_padded) * 4), 32, 256);
    const int64_t blocks = ceil_div(grid.count(), most);
    block = ceil_div(grid.count(), std::max<int64_t>(1, blocks));
    v_plane = panels * block * panel_width + skew;
    z_plane = k_padded * block + skew;
    sum_plane = panels * k_padded * panel_width + skew;
  }
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

// V and Z of tile t, which is number i of its block.
void transform_tile(const WinogradWeights& g, const Plan& plan, int64_t t, int64_t i, float* v, float* z) {
  const auto at = plan.grid.place(t), next = plan.grid.place(t + 1);
  for (int64_t c = 0; c < plan.panels * panel_width; c += lanes) {
    const auto [x, pixel] = g.x.channel(std::min(c, g.c - 1), g.c);  // behind the last are zeros, nothing is read
    const int64_t image = g.h * g.w * pixel;
    if (next.image < g.images)  // two columns are in this tile already
      prefetch_pixels(x + next.image * image, g.h, g.w, pixel, next.row - g.top, next.column - g.left + 2, tile_in, tile_out, c);
    input_tile(x + at.image * image, g.h, g.w, pixel, at.row - g.top, at.column - g.left, std::max<int64_t>(0, g.c - c),
               v + (c / panel_width * plan.block + i) * panel_width + c % panel_width, plan.v_plane);
  }
  for (int64_t k = 0; k < g.k; k += lanes) {
    const int64_t image = g.p * g.q * g.k;
    if (next.image < g.images)
      prefetch_pixels(g.g + next.image * image + k, g.p, g.q, g.k, next.row, next.column, tile_out, tile_out, k);
    gradient_tile(g.g + at.image * image + k, g.p, g.q, g.k, at.row, at.column, g.k - k, z + (k / lanes * plan.block + i) * lanes,
                  plan.z_plane);
  }
}

// Adds `tiles` outer products of `rows` values of z and a panel of v to the sums; `first`: they are the first.
HWY_NOINLINE void accumulate(int64_t tiles, const float* z, const float* v, float* sums, bool first) {
  const D d;
  V sum[rows][2];
#pragma GCC unroll 8
  for (int64_t i = 0; i < rows; ++i) {
    sum[i][0] = first ? hn::Zero(d) : hn::Load(d, sums + i * panel_width);
    sum[i][1] = first ? hn::Zero(d) : hn::Load(d, sums + i * panel_width + lanes);
  }
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
  for (int64_t i = 0; i < rows; ++i) {
    hn::Store(sum[i][0], d, sums + i * panel_width);
    hn::Store(sum[i][1], d, sums + i * panel_width + lanes);
  }
}

// G^T sums G for one k and `lanes` channels from c on -> dw.
void store_filter(const WinogradWeights& g, const Plan& plan, int64_t k, int64_t c, const float* sums) {
  const D d;
  const float* from = sums + (c / panel_width * plan.k_padded + k) * panel_width + c % panel_width;
  V t[3][6];
  for (int column = 0; column < 6; ++column) {
    V u[6], o[3];
    for (int i = 0; i < 6; ++i) u[i] = hn::Load(d, from + (i * 6 + column) * plan.sum_plane);
    transform_filter_adjoint(u, o);
    for (int r = 0; r < 3; ++r) t[r][column] = o[r];
  }
  for (int r = 0; r < 3; ++r) {
    V o[3];
    transform_filter_adjoint(t[r], o);
    for (int s = 0; s < 3; ++s) store_first(o[s], g.dw + ((k * 3 + r) * 3 + s) * g.c + c, g.c - c);
  }
}

void run_winograd_weights(const WinogradWeights& g) {
  if (g.images * g.p * g.q * g.c == 0) {
    std::fill(g.dw, g.dw + g.k * 9 * g.c, 0.0f);
    return;
  }
  const Plan plan(g);
  const Tensor v_tensor({elements * plan.v_plane}), z_tensor({elements * plan.z_plane}), sum_tensor({elements * plan.sum_plane});
  float *v = v_tensor.data<float>(), *z = z_tensor.data<float>(), *sums = sum_tensor.data<float>();
  for (int64_t begin = 0; begin < plan.grid.count(); begin += plan.block) {
    const int64_t tiles = std::min(plan.block, plan.grid.count() - begin);
    parallel_for(tiles, 2, [&](int64_t from, int64_t to) {
      for (int64_t i = from; i < to; ++i) transform_tile(g, plan, begin + i, i, v, z);
    });
    parallel_for(elements * plan.panels, 1, [&](int64_t from, int64_t to) {
      for (int64_t task = from; task < to; ++task) {
        const int64_t element = task / plan.panels, panel = task % plan.panels;
        for (int64_t k = 0; k < plan.k_padded; k += rows)
          accumulate(tiles, z + element * plan.z_plane + k / lanes * plan.block * lanes + k % lanes,
                     v + element * plan.v_plane + panel * plan.block * panel_width,
                     sums + element * plan.sum_plane + (panel * plan.k_padded + k) * panel_width, begin == 0);
      }
    });
  }
  parallel_for(g.k, 1, [&](int64_t from, int64_t to) {
    for (int64_t k = from; k < to; ++k)
      for (int64_t c = 0; c < g.c; c += lanes) store_filter(g, plan, k, c, sums);
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

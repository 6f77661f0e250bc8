// Sums over pixels of outer products: weight gradients. A task is a range of pixel rows times a range of column panels times a
// range of row blocks of d. For a few hundred pixels at a time it packs g by row blocks and x by panels, with zeros where a tap
// leaves the image; then every (row block, tap row, panel) is one long loop with rows x 2 vectors of sums in registers. Ranges of
// pixels have partial results of their own, added up in order at the end.
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/cpu/gemm_pixels.cpp"
#include <hwy/foreach_target.h>
#include <hwy/highway.h>

#include <algorithm>
#include <array>
#include <cstring>

#include "kernels/cpu/gemm.h"
#include "tensor/parallel.h"
#include "tensor/tensor.h"

#ifndef GLIA_GEMM_PIXELS_PLAN
#define GLIA_GEMM_PIXELS_PLAN
namespace glia::cpu {
namespace {

// Taps of one filter row that are neighbours in x and in d, with every vertical shift at which they occur: columns of d that
// share one packing of x.
struct Strip {
  int64_t dw, columns;
  struct Shift {
    int64_t dh, filter;
  };
  std::vector<Shift> shifts;
};

std::vector<Strip> strips_of(const PixelSum& s) {
  std::vector<Strip> strips;
  for (size_t t = 0; t < s.taps.size();) {
    size_t end = t + 1;
    while (end < s.taps.size() && s.x_pixel == s.channels && s.taps[end].dh == s.taps[t].dh &&
           s.taps[end].dw == s.taps[end - 1].dw + 1 && s.taps[end].filter == s.taps[end - 1].filter + s.channels)
      ++end;
    const int64_t columns = static_cast<int64_t>(end - t) * s.channels;
    const auto same = std::find_if(strips.begin(), strips.end(),
                                   [&](const Strip& strip) { return strip.dw == s.taps[t].dw && strip.columns == columns; });
    Strip& strip = same != strips.end() ? *same : strips.emplace_back(Strip{s.taps[t].dw, columns, {}});
    strip.shifts.push_back({s.taps[t].dh, s.taps[t].filter});
    t = end;
  }
  return strips;
}

struct SumParts {
  int64_t pixels = 1, panels = 1, blocks = 1;
};

// Numbers of parts with the least traffic among those that give about 16 tasks: a part of the pixels costs a partial result, a part
// of the panels packs all of g again, a part of the row blocks packs all of x again.
SumParts sum_parts_of(int64_t pixel_rows, double pixels, int64_t panels, int64_t blocks, double d_size, double g_width,
                      double x_width, int64_t problems) {
  constexpr int64_t wanted = 16;
  SumParts best;
  double best_cost = -1;
  for (int64_t p = 1; p <= wanted; p *= 2)
    for (int64_t j = 1; j <= wanted; j *= 2)
      for (int64_t b = 1; b <= wanted; b *= 2) {
        if (p > std::max<int64_t>(1, pixel_rows) || j > panels || b > blocks) continue;
        const double idle = static_cast<double>(wanted) / static_cast<double>(std::min(wanted, p * j * b * problems));
        const double cost = idle * pixels * d_size / 64 + 3 * static_cast<double>(p) * d_size +
                            0.5 * pixels * (static_cast<double>(j) * g_width + static_cast<double>(b) * x_width);
        if (best_cost < 0 || cost < best_cost) best = {p, j, b}, best_cost = cost;
      }
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

// `count` pixels in a row, in packed x and packed g.
struct Stretch {
  const float* x;
  const float* g;
  int64_t count;
};

template <int MR, int NV>
HWY_INLINE void add_outer(V (&sum)[MR][NV], const float* x, const float* g) {
  const D d;
  V row[NV];
  for (int v = 0; v < NV; ++v) row[v] = hn::Load(d, x + v * lanes);
#pragma GCC unroll 14
  for (int i = 0; i < MR; ++i) {
    const V a = hn::Set(d, g[i]);
    for (int v = 0; v < NV; ++v) sum[i][v] = hn::MulAdd(a, row[v], sum[i][v]);
  }
}

template <int MR, int NV>
HWY_NOINLINE void kernel(const Stretch* stretches, int64_t count, float* to, int64_t stride, int64_t valid, bool accumulate) {
  const D d;
  V sum[MR][NV];
#pragma GCC unroll 14
  for (int i = 0; i < MR; ++i)
    for (int v = 0; v < NV; ++v) sum[i][v] = hn::Zero(d);
  for (const Stretch* s = stretches; s != stretches + count; ++s) {
    const float* x = s->x;
    const float* g = s->g;
    int64_t rest = s->count;
    for (; rest >= 2; rest -= 2) {  // by two: g++ runs out of registers at four
      add_outer(sum, x, g);
      add_outer(sum, x + NV * lanes, g + MR);
      x += 2 * NV * lanes;
      g += 2 * MR;
    }
    if (rest > 0) add_outer(sum, x, g);
  }
  const auto for_each = [&](auto&& f) HWY_ATTR {
#pragma GCC unroll 14
    for (int i = 0; i < MR; ++i)
      for (int v = 0; v < NV; ++v) f(sum[i][v], to + i * stride + v * lanes, v);
  };
  if (valid == NV * lanes) {
    if (accumulate) for_each([&](V& x, float* at, int) HWY_ATTR { x = hn::Add(x, hn::LoadU(d, at)); });
    for_each([&](V& x, float* at, int) HWY_ATTR { hn::StoreU(x, d, at); });
    return;
  }
  hn::Mask<D> mask[NV];
  for (int v = 0; v < NV; ++v) mask[v] = hn::FirstN(d, static_cast<size_t>(std::clamp<int64_t>(valid - v * lanes, 0, lanes)));
  if (accumulate) for_each([&](V& x, float* at, int v) HWY_ATTR { x = hn::Add(x, hn::MaskedLoad(mask[v], d, at)); });
  for_each([&](V& x, float* at, int v) HWY_ATTR { hn::BlendedStore(x, mask[v], d, at); });
}

using Kernel = void (*)(const Stretch*, int64_t, float*, int64_t, int64_t, bool);

template <int NV, size_t... I>
constexpr std::array<Kernel, max_height + 1> kernels_of(std::index_sequence<I...>) {
  return {nullptr, kernel<static_cast<int>(I) + 1, NV>...};
}
constexpr std::array<Kernel, max_height + 1> kernels[2] = {kernels_of<1>(std::make_index_sequence<max_height>()),
                                                           kernels_of<2>(std::make_index_sequence<max_height>())};

struct Panel {
  const Strip* strip;
  int64_t start;  // column in the strip
  int64_t columns, width;
};

struct Plan {
  const PixelSum* s;
  std::vector<Strip> strips;
  std::vector<Panel> panels;
  int64_t height, blocks;  // of row blocks
};

Plan plan_of(const PixelSum& s) {
  Plan plan{&s, strips_of(s), {}, 0, 0};
  for (const Strip& strip : plan.strips)
    for (int64_t j = 0; j < strip.columns; j += panel_width) {
      const int64_t columns = std::min(panel_width, strip.columns - j);
      plan.panels.push_back({&strip, j, columns, columns <= lanes ? lanes : panel_width});
    }
  plan.blocks = (s.rows + max_height - 1) / max_height;
  plan.height = (s.rows + plan.blocks - 1) / plan.blocks;
  plan.blocks = (s.rows + plan.height - 1) / plan.height;
  return plan;
}

// One row of packed x: for q in [0, count) the `width` elements from (q stride_w + dw) x_pixel + start on; zeros outside the row.
void pack_x_row(const PixelSum& s, const float* row, const Panel& panel, float* to) {
  const D d;
  // x may point to a group of channels in the middle of a pixel: after the group's last number memory may end.
  const int64_t size = (s.w - 1) * s.x_pixel + s.channels;
  const int64_t step = s.stride_w * s.x_pixel, origin = panel.strip->dw * s.x_pixel + panel.start;
  for (int64_t q = 0; q < s.q; ++q, to += panel.width) {
    const int64_t at = q * step + origin;
    if (at >= 0 && at + panel.width <= size) {
      for (int64_t j = 0; j < panel.width; j += lanes) hn::Store(hn::LoadU(d, row + at + j), d, to + j);
    } else {
      for (int64_t j = 0; j < panel.width; ++j) to[j] = at + j >= 0 && at + j < size ? row[at + j] : 0.0f;
    }
  }
}

// Rows [begin, end) of row blocks, pixels [first, first + count): block by block, pixel by pixel, `height` numbers.
void pack_g(const Plan& plan, int64_t block_begin, int64_t block_end, int64_t first, int64_t count, float* to) {
  const PixelSum& s = *plan.s;
  for (int64_t b = block_begin; b < block_end; ++b) {
    const int64_t k = b * plan.height, height = std::min(plan.height, s.rows - k);
    const float* from = s.g + first * s.g_pixel + k;
    // Whole vectors run past a pixel's numbers, where the next pixel overwrites them. Near the end of g one by one.
    int64_t i = 0;
#if HWY_TARGET != HWY_SCALAR
    if (s.g_pixel > 0) {
      const hn::FixedTag<float, 8> d8;
      const int64_t safe = std::min(count, s.images * s.p * s.q - 1 - first - 16 / s.g_pixel);
      for (; i < safe; ++i) {
        hn::StoreU(hn::LoadU(d8, from + i * s.g_pixel), d8, to + i * height);
        if (height > 8) hn::StoreU(hn::LoadU(d8, from + i * s.g_pixel + 8), d8, to + i * height + 8);
      }
    }
#endif
    for (; i < count; ++i)
      for (int64_t j = 0; j < height; ++j) to[i * height + j] = from[i * s.g_pixel + j];
    to += count * height;
  }
}

// The pixel rows [begin, end) of all images, counted through, that one round of packing takes.
struct Round {
  int64_t begin, end;
};

// Image rows that the pixel rows of a round read, and where they lie in packed x.
struct ImagePart {
  int64_t n, p0, p1;  // pixel rows
  int64_t h0, h1;     // image rows
  int64_t start;      // in packed x, in image rows
};

std::vector<ImagePart> image_parts(const PixelSum& s, const Round& round) {
  std::vector<ImagePart> parts;
  int64_t low = 0, high = 0, start = 0;
  if (!s.taps.empty()) low = s.taps.front().dh, high = s.taps.back().dh;
  for (int64_t row = round.begin; row < round.end;) {
    const int64_t n = row / s.p, p0 = row % s.p, p1 = std::min(s.p, p0 + round.end - row);
    const int64_t h0 = std::clamp<int64_t>(p0 * s.stride_h + low, 0, s.h);
    const int64_t h1 = std::clamp<int64_t>((p1 - 1) * s.stride_h + high + 1, h0, s.h);
    parts.push_back({n, p0, p1, h0, h1, start});
    start += h1 - h0;
    row += p1 - p0;
  }
  return parts;
}

void pack_x(const PixelSum& s, const std::vector<ImagePart>& parts, const Panel& panel, float* to) {
  for (const ImagePart& part : parts)
    for (int64_t h = part.h0; h < part.h1; ++h) {
      const bool read = std::any_of(panel.strip->shifts.begin(), panel.strip->shifts.end(),
                                    [&](const Strip::Shift& shift) { return (h - shift.dh) % s.stride_h == 0; });
      if (read)
        pack_x_row(s, s.x + (part.n * s.h + h) * s.w * s.x_pixel, panel, to + (part.start + h - part.h0) * s.q * panel.width);
    }
}

void stretches_of(const PixelSum& s, const std::vector<ImagePart>& parts, int64_t dh, const float* x, int64_t width,
                  const float* g, int64_t height, int64_t first_row, std::vector<Stretch>& out) {
  out.clear();
  for (const ImagePart& part : parts) {
    for (int64_t p = part.p0; p < part.p1; ++p) {
      const int64_t h = p * s.stride_h + dh;
      if (h < 0 || h >= s.h) continue;
      const float* from = x + (part.start + h - part.h0) * s.q * width;
      const float* with = g + (part.n * s.p + p - first_row) * s.q * height;
      if (!out.empty() && out.back().x + out.back().count * width == from && out.back().g + out.back().count * height == with) {
        out.back().count += s.q;
      } else {
        out.push_back({from, with, s.q});
      }
    }
  }
}

void run_task(const Plan& plan, int64_t row_begin, int64_t row_end, int64_t panel_begin, int64_t panel_end, int64_t block_begin,
              int64_t block_end, float* d, bool accumulate) {
  const PixelSum& s = *plan.s;
  constexpr int64_t pixels_per_round = 1024;
  const int64_t rounds = std::max<int64_t>(1, (row_end - row_begin) * s.q / pixels_per_round);
  std::vector<Stretch> stretches;
  for (int64_t r = 0; r < rounds; ++r) {
    const Round round{row_begin + r * (row_end - row_begin) / rounds, row_begin + (r + 1) * (row_end - row_begin) / rounds};
    const auto parts = image_parts(s, round);
    const int64_t image_rows = parts.empty() ? 0 : parts.back().start + parts.back().h1 - parts.back().h0;
    const int64_t pixels = (round.end - round.begin) * s.q;
    float* g = thread_scratch(Scratch::gathered, pixels * plan.height * (block_end - block_begin) + 16);
    float* x = thread_scratch(Scratch::packed, image_rows * s.q * panel_width);
    pack_g(plan, block_begin, block_end, round.begin * s.q, pixels, g);
    for (int64_t j = panel_begin; j < panel_end; ++j) {
      const Panel& panel = plan.panels[static_cast<size_t>(j)];
      pack_x(s, parts, panel, x);
      for (const Strip::Shift& shift : panel.strip->shifts)
        for (int64_t b = block_begin; b < block_end; ++b) {
          const int64_t k = b * plan.height, height = std::min(plan.height, s.rows - k);
          stretches_of(s, parts, shift.dh, x, panel.width, g + (b - block_begin) * plan.height * pixels, height, round.begin,
                       stretches);
          kernels[panel.width == panel_width][static_cast<size_t>(height)](
              stretches.data(), static_cast<int64_t>(stretches.size()), d + k * s.d_row + shift.filter + panel.start, s.d_row,
              panel.columns, accumulate || r > 0);
        }
    }
  }
}

void run_one(const PixelSum& s, SumParts parts, const Plan& plan, std::span<float> partial, int64_t task) {
  const int64_t pixel_rows = s.images * s.p, d_size = s.rows * s.d_row;
  const int64_t panels = static_cast<int64_t>(plan.panels.size());
  const int64_t b = task % parts.blocks, j = task / parts.blocks % parts.panels, p = task / parts.blocks / parts.panels;
  float* d = parts.pixels == 1 ? s.d : partial.data() + p * d_size;
  run_task(plan, p * pixel_rows / parts.pixels, (p + 1) * pixel_rows / parts.pixels, j * panels / parts.panels,
           (j + 1) * panels / parts.panels, b * plan.blocks / parts.blocks, (b + 1) * plan.blocks / parts.blocks, d,
           parts.pixels == 1 && s.accumulate);
}

void add_partials(const PixelSum& s, std::span<const float> partial, int64_t parts, int64_t begin, int64_t end) {
  const int64_t d_size = s.rows * s.d_row;
  for (int64_t i = begin; i < end; ++i) {
    float sum = s.accumulate ? s.d[i] : 0.0f;
    for (int64_t p = 0; p < parts; ++p) sum += partial[static_cast<size_t>(p * d_size + i)];
    s.d[i] = sum;
  }
}

void run_all(std::span<const PixelSum> problems) {
  std::vector<Plan> plans;
  for (const PixelSum& s : problems)
    if (s.rows > 0 && s.channels > 0 && !s.taps.empty()) plans.push_back(plan_of(s));
  if (plans.empty()) return;
  // Problems of one call are groups of one convolution: all alike.
  const PixelSum& s = *plans[0].s;
  const int64_t count = static_cast<int64_t>(plans.size()), d_size = s.rows * s.d_row;
  const SumParts parts = sum_parts_of(
      s.images * s.p, static_cast<double>(s.images * s.p * s.q), static_cast<int64_t>(plans[0].panels.size()), plans[0].blocks,
      static_cast<double>(d_size), static_cast<double>(s.rows), static_cast<double>(plans[0].panels.size() * panel_width), count);
  const int64_t tasks = parts.pixels * parts.panels * parts.blocks;
  const int64_t partial_size = parts.pixels == 1 ? 0 : parts.pixels * d_size;
  const Tensor partial({count, partial_size});
  const std::span<float> all = partial.values<float>();
  const auto partial_of = [&](int64_t i) {
    return all.subspan(static_cast<size_t>(i * partial_size), static_cast<size_t>(partial_size));
  };
  parallel_for(tasks * count, 1, [&](int64_t begin, int64_t end) {
    for (int64_t t = begin; t < end; ++t) {
      const Plan& plan = plans[static_cast<size_t>(t % count)];
      run_one(*plan.s, parts, plan, partial_of(t % count), t / count);
    }
  });
  if (parts.pixels == 1) return;
  for (int64_t i = 0; i < count; ++i)
    parallel_for(d_size, 1 << 12, [&](int64_t begin, int64_t end) {
      add_partials(*plans[static_cast<size_t>(i)].s, partial_of(i), parts.pixels, begin, end);
    });
}

}  // namespace
}  // namespace glia::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace glia::cpu {

HWY_EXPORT(run_all);
void run(std::span<const PixelSum> problems) { HWY_DYNAMIC_DISPATCH(run_all)(problems); }

}  // namespace glia::cpu
#endif

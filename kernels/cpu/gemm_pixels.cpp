// Sums over pixels of outer products: weight gradients. A task is a range of pixel rows times a range of column panels times a
// range of row blocks of d. For a few hundred pixels at a time it packs x by panels, with zeros where a tap leaves the image; g is
// read where it lies. Then every (row block, tap row, panel) is one long loop with rows x vectors of sums in registers, between which
// the next pixels are asked for. Ranges of pixels have partial results of their own, added up in order at the end.
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/cpu/gemm_pixels.cpp"
#include <hwy/foreach_target.h>
#include <hwy/highway.h>

#include <algorithm>
#include <array>
#include <cstdlib>
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
// Rows x vectors of sums: 24 of 32 registers, 12 of 16.
constexpr int max_vectors = HWY_TARGET <= HWY_AVX3 ? 4 : 2;
constexpr int max_height = 6;
constexpr int64_t panel_width = max_vectors * lanes;

// `count` pixels in a row, in packed x and in g.
struct Stretch {
  const float* x;
  const float* g;
  int64_t count;
};

template <int MR, int NV>
HWY_INLINE void add_outer(V (&sum)[MR][NV], const float* x, const float* g) {
  const D d;
  V row[NV];
#pragma GCC unroll 4
  for (int v = 0; v < NV; ++v) row[v] = hn::LoadU(d, x + v * lanes);
#pragma GCC unroll 14
  for (int i = 0; i < MR; ++i) {
    const V a = hn::Set(d, g[i]);
#pragma GCC unroll 4
    for (int v = 0; v < NV; ++v) sum[i][v] = hn::MulAdd(a, row[v], sum[i][v]);
  }
}

template <int MR, int NV>
HWY_NOINLINE void kernel(const Stretch* stretches, int64_t count, int64_t x_pixel, int64_t k, int64_t g_pixel, float* to,
                         int64_t stride, int64_t valid, bool accumulate) {
  const D d;
  V sum[MR][NV];
#pragma GCC unroll 14
  for (int i = 0; i < MR; ++i)
#pragma GCC unroll 4
    for (int v = 0; v < NV; ++v) sum[i][v] = hn::Zero(d);
  for (const Stretch* s = stretches; s != stretches + count; ++s) {
    const float* x = s->x;
    const float* g = s->g + k;
    int64_t rest = s->count;
    for (; rest >= 2; rest -= 2) {  // by two: g++ runs out of registers at four
      add_outer(sum, x, g);
      __builtin_prefetch(g + 16 * g_pixel);
      __builtin_prefetch(g + 17 * g_pixel);
      add_outer(sum, x + x_pixel, g + g_pixel);
      x += 2 * x_pixel;
      g += 2 * g_pixel;
    }
    if (rest > 0) add_outer(sum, x, g);
  }
  const auto for_each = [&](auto&& f) HWY_ATTR {
#pragma GCC unroll 14
    for (int i = 0; i < MR; ++i)
#pragma GCC unroll 4
      for (int v = 0; v < NV; ++v) f(sum[i][v], to + i * stride + v * lanes, v);
  };
  if (valid == NV * lanes) {
    if (accumulate) for_each([&](V& x, float* at, int) HWY_ATTR { x = hn::Add(x, hn::LoadU(d, at)); });
    for_each([&](V& x, float* at, int) HWY_ATTR { hn::StoreU(x, d, at); });
    return;
  }
  hn::Mask<D> mask[NV];
#pragma GCC unroll 4
  for (int v = 0; v < NV; ++v) mask[v] = hn::FirstN(d, static_cast<size_t>(std::clamp<int64_t>(valid - v * lanes, 0, lanes)));
  if (accumulate) for_each([&](V& x, float* at, int v) HWY_ATTR { x = hn::Add(x, hn::MaskedLoad(mask[v], d, at)); });
  for_each([&](V& x, float* at, int v) HWY_ATTR { hn::BlendedStore(x, mask[v], d, at); });
}

using Kernel = void (*)(const Stretch*, int64_t, int64_t, int64_t, int64_t, float*, int64_t, int64_t, bool);

template <int NV, size_t... I>
constexpr std::array<Kernel, max_height + 1> kernels_of(std::index_sequence<I...>) {
  return {nullptr, kernel<static_cast<int>(I) + 1, NV>...};
}
template <size_t... V>
constexpr std::array<std::array<Kernel, max_height + 1>, max_vectors> all_kernels(std::index_sequence<V...>) {
  return {kernels_of<static_cast<int>(V) + 1>(std::make_index_sequence<max_height>())...};
}
constexpr auto kernels = all_kernels(std::make_index_sequence<max_vectors>());

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
  for (const Strip& strip : plan.strips) {
    const int64_t vectors = (strip.columns + lanes - 1) / lanes, count = (vectors + max_vectors - 1) / max_vectors;
    for (int64_t i = 0; i < count; ++i) {
      const int64_t from = i * vectors / count * lanes, width = (i + 1) * vectors / count * lanes - from;
      plan.panels.push_back({&strip, from, std::min(width, strip.columns - from), width});
    }
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

void stretches_of(const PixelSum& s, const std::vector<ImagePart>& parts, int64_t dh, const float* x, const Panel& panel,
                  std::vector<Stretch>& out) {
  const int64_t width = x ? panel.width : s.x_pixel;
  out.clear();
  for (const ImagePart& part : parts) {
    for (int64_t p = part.p0; p < part.p1; ++p) {
      const int64_t h = p * s.stride_h + dh;
      if (h < 0 || h >= s.h) continue;
      const float* from = x ? x + (part.start + h - part.h0) * s.q * width : s.x + (part.n * s.h + h) * s.w * width + panel.start;
      const float* with = s.g + (s.g_row > 0 ? part.n * s.g_image + p * s.g_row : (part.n * s.p + p) * s.q * s.g_pixel);
      if (!out.empty() && out.back().x + out.back().count * width == from &&
          out.back().g + out.back().count * s.g_pixel == with) {
        out.back().count += s.q;
      } else {
        out.push_back({from, with, s.q});
      }
    }
  }
}

// Pixels that the next round reads: `bytes` of each.
struct Ahead {
  const float* at = nullptr;
  int64_t stride = 0, pixels = 0, bytes = 0;
};

// Asks for part i of n.
void prefetch(const Ahead& a, int64_t i, int64_t n) {
  for (int64_t pixel = i * a.pixels / n; pixel < (i + 1) * a.pixels / n; ++pixel)
    for (int64_t byte = 0; byte < a.bytes; byte += 64)
      __builtin_prefetch(reinterpret_cast<const char*>(a.at + pixel * a.stride) + byte, 0, 3);
}

Ahead ahead_in_x(const PixelSum& s, const Round& next, const Panel& panel) {
  if (next.begin == next.end) return {};
  const int64_t n = next.begin / s.p, h = std::min(next.begin % s.p * s.stride_h, s.h - 1);
  const int64_t rows = std::min((next.end - next.begin) * s.stride_h, (s.images - n) * s.h - h);
  return {s.x + (n * s.h + h) * s.w * s.x_pixel + panel.start, s.stride_w * s.x_pixel, rows * s.w / s.stride_w, panel.width * 4};
}

// Whether pixel i of x is that of g. Where its numbers are used but a few times, packing them would not pay.
bool reads_in_place(const PixelSum& s) {
  return s.taps.size() == 1 && s.taps[0].dh == 0 && s.taps[0].dw == 0 && s.stride_h == 1 && s.stride_w == 1 && s.p == s.h &&
         s.q == s.w;
}

struct Part {
  int64_t row_begin, row_end, panel_begin, panel_end, block_begin, block_end;
};

void run_task(const Plan& plan, const Part& part, float* d, bool accumulate) {
  const PixelSum& s = *plan.s;
  const int64_t width = plan.height * (part.block_end - part.block_begin), all = part.row_end - part.row_begin;
  constexpr int64_t pixels_per_round = 128;  // 256 bytes of each of packed x stay in the first-level cache
  const int64_t rounds = std::clamp<int64_t>(all * s.q / pixels_per_round, 1, std::max<int64_t>(1, all));
  const auto round_of = [&](int64_t r) {
    return Round{part.row_begin + r * all / rounds, part.row_begin + (r + 1) * all / rounds};
  };
  const bool few_blocks = part.block_end - part.block_begin <= 12;
  std::vector<Stretch> stretches;
  for (int64_t r = 0; r < rounds; ++r) {
    const Round round = round_of(r), next = r + 1 < rounds ? round_of(r + 1) : Round{0, 0};
    const auto parts = image_parts(s, round);
    const int64_t image_rows = parts.empty() ? 0 : parts.back().start + parts.back().h1 - parts.back().h0;
    float* x = thread_scratch(Scratch::packed, image_rows * s.q * panel_width);
    const Ahead g_ahead{s.g + next.begin * s.q * s.g_pixel + part.block_begin * plan.height, s.g_pixel,
                        s.g_row > 0 ? 0 : (next.end - next.begin) * s.q, width * 4};
    for (int64_t j = part.panel_begin; j < part.panel_end; ++j) {
      const Panel& panel = plan.panels[static_cast<size_t>(j)];
      const bool in_place = few_blocks && panel.columns == panel.width && reads_in_place(s);
      const int64_t x_pixel = in_place ? s.x_pixel : panel.width;
      if (!in_place) pack_x(s, parts, panel, x);
      prefetch(g_ahead, j - part.panel_begin, part.panel_end - part.panel_begin);
      const Ahead x_ahead = ahead_in_x(s, next, panel);
      for (const Strip::Shift& shift : panel.strip->shifts) {
        stretches_of(s, parts, shift.dh, in_place ? nullptr : x, panel, stretches);
        for (int64_t b = part.block_begin; b < part.block_end; ++b) {
          const int64_t k = b * plan.height, height = std::min(plan.height, s.rows - k);
          if (&shift == &panel.strip->shifts.front()) prefetch(x_ahead, b - part.block_begin, part.block_end - part.block_begin);
          kernels[static_cast<size_t>(panel.width / lanes - 1)][static_cast<size_t>(height)](
              stretches.data(), static_cast<int64_t>(stretches.size()), x_pixel, k, s.g_pixel,
              d + k * s.d_row + shift.filter + panel.start, s.d_row, panel.columns, accumulate || r > 0);
        }
      }
    }
  }
}

void run_one(const PixelSum& s, SumParts parts, const Plan& plan, std::span<float> partial, int64_t task) {
  const int64_t pixel_rows = s.images * s.p, d_size = s.rows * s.d_row;
  const int64_t panels = static_cast<int64_t>(plan.panels.size());
  const int64_t b = task % parts.blocks, j = task / parts.blocks % parts.panels, p = task / parts.blocks / parts.panels;
  float* d = parts.pixels == 1 ? s.d : partial.data() + p * d_size;
  const Part part{p * pixel_rows / parts.pixels,   (p + 1) * pixel_rows / parts.pixels, j * panels / parts.panels,
                  (j + 1) * panels / parts.panels, b * plan.blocks / parts.blocks,      (b + 1) * plan.blocks / parts.blocks};
  run_task(plan, part, d, parts.pixels == 1 && s.accumulate);
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

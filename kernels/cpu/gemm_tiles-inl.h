// How the implicit GEMM (gemm.cpp) cuts the output pixels into tiles, and where the rows of a tile lie. Included by that file once per SIMD
// target.
#ifndef GLIA_GEMM_TILES
#define GLIA_GEMM_TILES
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

}  // namespace
}  // namespace glia::cpu
#endif

HWY_BEFORE_NAMESPACE();
namespace glia::cpu::HWY_NAMESPACE {
namespace {

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

}  // namespace
}  // namespace glia::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

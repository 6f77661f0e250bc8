#include "tests/gpu/conformance_formulas.h"

#include <algorithm>
#include <bit>
#include <climits>
#include <cmath>

namespace glia::tests {

namespace {

float as_float(uint32_t word) { return std::bit_cast<float>(word); }
uint32_t as_word(double x) { return std::bit_cast<uint32_t>(static_cast<float>(x)); }

// `mantissa` stored bits, smallest normal exponent `least`; the pattern after the largest finite one is infinity.
uint32_t encode(double x, int mantissa, int least, uint32_t infinity) {
  if (std::isnan(x)) return 0x7fff;
  const uint32_t sign = std::signbit(x) ? 0x8000 : 0;
  const double size = std::fabs(x);
  if (std::isinf(size)) return sign | infinity;
  const int exponent = size == 0 ? least : std::max(std::ilogb(size), least);
  const double units = std::nearbyint(std::ldexp(size, mantissa - exponent));  // an infinity if it is much too large
  if (units >= std::ldexp(1.0, mantissa + 2)) return sign | infinity;
  const double pattern = std::ldexp(exponent - least, mantissa) + units;
  return sign | (pattern >= infinity ? infinity : static_cast<uint32_t>(pattern));
}

double decode(uint32_t bits, int mantissa, int least, uint32_t infinity) {
  const uint32_t size = bits & 0x7fff;
  const uint32_t field = size >> mantissa;
  double value = std::ldexp(size & ((1u << mantissa) - 1), least - mantissa);
  if (field > 0) value = std::ldexp(value + std::ldexp(1.0, least), static_cast<int>(field) - 1);
  if (size == infinity) value = INFINITY;
  if (size > infinity) value = NAN;
  return bits & 0x8000 ? -value : value;
}

}  // namespace

uint32_t encode_fp16(double x) { return encode(x, 10, -14, 0x7c00); }
uint32_t encode_bf16(double x) { return encode(x, 7, -126, 0x7f80); }
double decode_fp16(uint32_t bits) { return decode(bits, 10, -14, 0x7c00); }
double decode_bf16(uint32_t bits) { return decode(bits, 7, -126, 0x7f80); }

// ---- tensor cores --------------------------------------------------------------------------------------------------------------

double FragmentsTf32::value(uint32_t word, int) { return as_float(word); }

template <class F, int M, int N>
Words expect_mma(const Words& in) {
  constexpr int kA = M * 4, kB = N * 2, kC = M * N * 4, kWords = kA + kB + kC;
  static double a[M][16][F::k], b[N][F::k][8], c[M][N][16][8];
  const auto c_place = [](int group, int thread, int i) { return Place{i < 2 ? group : group + 8, thread * 2 + (i & 1)}; };
  for (int lane = 0; lane < 32; ++lane) {
    const uint32_t* mine = &in[static_cast<size_t>(lane * kWords)];
    const int group = lane >> 2, thread = lane % 4;
    for (int m = 0; m < M; ++m)
      for (int i = 0; i < 4 * F::values; ++i) {
        const Place at = F::a(group, thread, i);
        a[m][at.row][at.column] = F::value(mine[m * 4 + i / F::values], i % F::values);
      }
    for (int n = 0; n < N; ++n)
      for (int i = 0; i < 2 * F::values; ++i) {
        const Place at = F::b(group, thread, i);
        b[n][at.row][at.column] = F::value(mine[kA + n * 2 + i / F::values], i % F::values);
      }
    for (int i = 0; i < kC; ++i) {
      const Place at = c_place(group, thread, i % 4);
      c[i / 4 / N][i / 4 % N][at.row][at.column] = as_float(mine[kA + kB + i]);
    }
  }
  Words out;
  for (int lane = 0; lane < 32; ++lane)
    for (int i = 0; i < kC; ++i) {
      const Place at = c_place(lane >> 2, lane % 4, i % 4);
      const int m = i / 4 / N, n = i / 4 % N;
      double sum = c[m][n][at.row][at.column];
      for (int k = 0; k < F::k; ++k) sum += a[m][at.row][k] * b[n][k][at.column];
      out.push_back(as_word(sum));
    }
  return out;
}
template Words expect_mma<FragmentsTf32, 1, 1>(const Words&);
template Words expect_mma<FragmentsBf16, 1, 1>(const Words&);
template Words expect_mma<FragmentsFp16, 1, 1>(const Words&);
template Words expect_mma<FragmentsTf32, 2, 3>(const Words&);
template Words expect_mma<FragmentsBf16, 2, 3>(const Words&);
template Words expect_mma<FragmentsFp16, 2, 3>(const Words&);

template <int kCount, bool kTransposed>
Words expect_ldmatrix(const Words& in) {
  const auto element = [&](int matrix, int row, int column) {
    const int address = (matrix * 8 + row) * 5 % 32;  // the row that lane 8 matrix + row points at
    const uint32_t pair = in[static_cast<size_t>(address * 4 + column / 2)];
    return column % 2 ? pair >> 16 : pair & 0xffff;
  };
  Words out;
  for (int lane = 0; lane < 32; ++lane)
    for (int q = 0; q < kCount; ++q) {
      const int row = lane / 4, column = lane % 4 * 2;
      out.push_back(kTransposed ? element(q, column, row) | element(q, column + 1, row) << 16
                                : element(q, row, column) | element(q, row, column + 1) << 16);
    }
  return out;
}
template Words expect_ldmatrix<4, false>(const Words&);
template Words expect_ldmatrix<4, true>(const Words&);
template Words expect_ldmatrix<2, false>(const Words&);
template Words expect_ldmatrix<2, true>(const Words&);

Words expect_cp_async(const Words& in) {
  Words out;
  for (size_t lane = 0; lane < 32; ++lane) {
    for (size_t i = 0; i < 4; ++i) out.push_back(lane % 3 ? in[lane * 4 + i] : 0);
    for (size_t i = 0; i < 2; ++i) out.push_back(lane % 3 ? in[128 + lane * 2 + i] : 0);
    out.push_back(lane % 3 ? in[192 + lane] : 0);
  }
  return out;
}

// ---- the warp ------------------------------------------------------------------------------------------------------------------

// shfl.sync's pseudo code.
template <int kWidth>
Words expect_shuffle(const Words& in) {
  enum Mode { idx, bfly, down, up };
  const auto source = [](Mode mode, int lane, int b) {
    const int c = (32 - kWidth) << 8 | (mode == up ? 0 : 0x1f);
    const int clamp = c & 0x1f, segment = c >> 8 & 0x1f;
    const int most = (lane & segment) | (clamp & ~segment), least = lane & segment;
    const int j = mode == up ? lane - b : mode == down ? lane + b : mode == bfly ? lane ^ b : least | (b & ~segment);
    const bool in_range = mode == up ? j >= most : j <= most;
    return static_cast<size_t>(in_range ? j : lane);
  };
  Words out;
  const int by = static_cast<int>(in[1] % 32);
  for (int lane = 0; lane < 32; ++lane) {
    const int own = static_cast<int>(in[static_cast<size_t>(lane * 2 + 1)] % 32);
    out.push_back(in[source(idx, lane, own) * 2]);
    for (const Mode mode : {bfly, down, up}) out.push_back(in[source(mode, lane, by) * 2]);
  }
  return out;
}
template Words expect_shuffle<32>(const Words&);
template Words expect_shuffle<16>(const Words&);
template Words expect_shuffle<4>(const Words&);

Words expect_wide_shuffle(const Words& in) {
  Words out;
  for (size_t lane = 0; lane < 32; ++lane) {
    out.push_back(in[(31 - lane) * 2]);
    out.push_back(in[(31 - lane) * 2 + 1]);
  }
  return out;
}

Words expect_votes(const Words& in) {
  Words out;
  for (uint32_t lane = 0; lane < 32; ++lane) {
    uint32_t ballot = 0, same = 0;
    for (uint32_t i = 0; i < 32; ++i) {
      ballot |= static_cast<uint32_t>(in[i] % 4 == 0) << i;
      same |= static_cast<uint32_t>(in[i] % 4 == in[lane] % 4) << i;
    }
    const uint32_t half = lane < 16 ? 0xffffu : 0xffff0000u;
    const Words mine{ballot, ballot != 0, ballot == ~0u, ballot & half, lane < 16, lane < 16, same & half};
    out.insert(out.end(), mine.begin(), mine.end());
  }
  return out;
}

Words expect_reduce(const Words& in) {
  uint32_t sum = 0, all = ~0u, any = 0, odd = 0;
  int least = INT_MAX, most = INT_MIN;
  for (const uint32_t v : in) {
    sum += v;
    all &= v | 0xffff0000u;
    any |= v & 0x11111111u;
    odd ^= v;
    least = std::min(least, static_cast<int>(v));
    most = std::max(most, static_cast<int>(v));
  }
  const Words once{sum, *std::min_element(in.begin(), in.end()), *std::max_element(in.begin(), in.end()), sum,
                   static_cast<uint32_t>(least), static_cast<uint32_t>(most), all, any, odd};
  Words out;
  for (int lane = 0; lane < 32; ++lane) out.insert(out.end(), once.begin(), once.end());
  return out;
}

Words expect_block_votes(const Words& in) {
  uint32_t count = 0;
  for (const uint32_t v : in) count += v & 1;
  Words out;
  for (int lane = 0; lane < 32; ++lane) {
    out.push_back(count);
    for (const uint32_t vote : {1u, 0u, 0u}) out.push_back(vote);
  }
  return out;
}

// ---- bits, conversions, arithmetic, atomics --------------------------------------------------------------------------------------

Words expect_bits(const Words& in) {
  const auto bit = [](uint64_t x, int i) { return static_cast<uint32_t>(x >> i & 1); };
  Words out;
  for (size_t lane = 0; lane < 32; ++lane) {
    const uint32_t a = in[lane * 3], b = in[lane * 3 + 1], c = in[lane * 3 + 2];
    const uint64_t wide = static_cast<uint64_t>(a) << 32 | b;
    uint32_t count = 0, wide_count = 0, first = 0, wide_first = 0, zeros = 32, wide_zeros = 64, reversed = 0, bytes = 0;
    uint64_t wide_reversed = 0;
    for (int i = 63; i >= 0; --i) {
      if (!bit(wide, i)) continue;
      ++wide_count;
      wide_first = static_cast<uint32_t>(i + 1);
      wide_zeros = std::min(wide_zeros, static_cast<uint32_t>(63 - i));
      wide_reversed |= uint64_t{1} << (63 - i);
      if (i < 32) continue;
      ++count;
      first = static_cast<uint32_t>(i - 31);
      zeros = std::min(zeros, static_cast<uint32_t>(63 - i));
      reversed |= 1u << (63 - i);
    }
    for (int i = 0; i < 4; ++i) {  // prmt: of the eight bytes b:a; the selector's fourth bit repeats the sign
      const uint32_t selector = c >> (4 * i) & 0xf, at = selector & 7;
      const uint32_t byte = (at < 4 ? a >> (8 * at) : b >> (8 * (at - 4))) & 0xff;
      bytes |= (selector & 8 ? (byte >> 7 ? 0xffu : 0u) : byte) << (8 * i);
    }
    const uint64_t pair = static_cast<uint64_t>(b) << 32 | a;  // funnel shifts: high is the second
    const auto square = static_cast<unsigned __int128>(wide) * wide;
    const int64_t product = static_cast<int64_t>(static_cast<int32_t>(a)) * static_cast<int32_t>(b);
    const Words mine{count,
                     wide_count,
                     first,
                     wide_first,
                     zeros,
                     wide_zeros,
                     reversed,
                     static_cast<uint32_t>(wide_reversed >> 13),
                     static_cast<uint32_t>(pair << (c % 32) >> 32),
                     static_cast<uint32_t>(pair >> (c % 32)),
                     bytes,
                     static_cast<uint32_t>(static_cast<uint64_t>(a) * b >> 32),
                     static_cast<uint32_t>(product >> 32),
                     static_cast<uint32_t>(static_cast<uint64_t>(square >> 64) >> 7)};
    out.insert(out.end(), mine.begin(), mine.end());
  }
  return out;
}

namespace {

uint32_t clamp_int(double x) {
  return std::isnan(x) ? 0 : static_cast<uint32_t>(static_cast<int32_t>(std::clamp(x, -2147483648.0, 2147483647.0)));
}
uint32_t clamp_unsigned(double x) { return std::isnan(x) ? 0 : static_cast<uint32_t>(std::clamp(x, 0.0, 4294967295.0)); }

double round_to_tf32(double x) {  // 10 stored bits, ties away from zero
  if (x == 0 || !std::isfinite(x)) return x;
  const int exponent = std::max(std::ilogb(x), -126);
  return std::ldexp(std::round(std::ldexp(x, 10 - exponent)), exponent - 10);
}

}  // namespace

Words expect_conversions(const Words& in) {
  Words out;
  for (const uint32_t word : in) {
    const double x = as_float(word);
    const Words mine{clamp_int(std::nearbyint(x)),
                     clamp_int(std::trunc(x)),
                     clamp_int(std::floor(x)),
                     clamp_int(std::ceil(x)),
                     clamp_unsigned(std::nearbyint(x)),
                     clamp_unsigned(std::trunc(x)),
                     encode_fp16(x),
                     encode_bf16(x),
                     as_word(decode_fp16(word & 0xffff)),
                     as_word(decode_bf16(word & 0xffff)),
                     as_word(round_to_tf32(x)),
                     as_word(x > 0 ? std::fmin(x, 1) : 0),
                     as_word(std::fmin(std::fmax(x, -1.5), 2.5))};
    out.insert(out.end(), mine.begin(), mine.end());
  }
  return out;
}

template <double (*decode)(uint32_t), uint32_t (*encode)(double)>
Words expect_half_arithmetic(const Words& in) {
  // Doubles hold every product exactly. A sum that they cannot hold is rounded to odd, so that the second rounding is right.
  const auto sum = [](double x, double y) {
    const double s = x + y, part = s - x, rest = (x - (s - part)) + (y - part);
    const bool even = (std::bit_cast<uint64_t>(s) & 1) == 0;
    return std::isfinite(s) && rest != 0 && even ? std::nextafter(s, rest > 0 ? INFINITY : -INFINITY) : s;
  };
  Words out;
  for (size_t lane = 0; lane < 32; ++lane) {
    const double a = decode(in[lane * 3] & 0xffff), b = decode(in[lane * 3 + 1] & 0xffff), c = decode(in[lane * 3 + 2] & 0xffff);
    for (const double result : {sum(a, b), sum(a, -b), a * b, sum(a * b, c)}) out.push_back(encode(result));
    out.push_back((a < b ? 1u : 0u) | (a >= b ? 2u : 0u) | (a == b ? 4u : 0u));
  }
  return out;
}
template Words expect_half_arithmetic<decode_fp16, encode_fp16>(const Words&);
template Words expect_half_arithmetic<decode_bf16, encode_bf16>(const Words&);

Words expect_functions(const Words& in) {
  Words out;
  for (const uint32_t word : in) {
    const double x = as_float(word);
    for (const double y : {std::exp(x), std::log(x), std::pow(x, 1.7), 1 / std::sqrt(x), std::sin(x) + 2, std::cos(x) + 2, 1 / x, x * x + 1})
      out.push_back(as_word(y));
  }
  return out;
}

Words expect_atomics(const Words& in) {
  Words out(8);
  out[1] = out[4] = ~0u;
  int most = 0, least = 0;
  for (const uint32_t v : in) {
    out[0] += v;
    out[1] = std::min(out[1], v);
    out[2] = std::max(out[2], v);
    out[3] |= v & 0x10101010u;
    out[4] &= v | 0xf0f0f0f0u;
    out[5] ^= v;
    most = std::max(most, static_cast<int>(v));
    least = std::min(least, static_cast<int>(v));
  }
  out[6] = static_cast<uint32_t>(most);
  out[7] = static_cast<uint32_t>(least);
  for (uint32_t lane = 0; lane < 32; ++lane) {
    const uint32_t swapped = lane % 2 ? 9 : 7;
    for (const uint32_t v : {in[lane], 7u, swapped, swapped, swapped - 3}) out.push_back(v);
  }
  return out;
}

}  // namespace glia::tests

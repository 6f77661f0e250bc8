// Layer normalisation of rows. Rows of up to 8192 (backward: 4096) are held in registers: mean and variance by two passes over
// the registers, x read once and y written once; backward keeps gamma and its sums for dgamma and dbeta in registers too while a
// team walks over its rows, so that x and dy are read once, and what the teams leave is then summed. Longer rows take two
// launches: a reduction and a map.
//   dx = (gamma g - mean(gamma g) - xhat mean(gamma g xhat)) / s
#include "kernels/cuda/reduce_axes.cuh"
#include "kernels/cuda/rows.cuh"
#include "kernels/norm.h"

namespace glia::GPU_NS {
namespace {

struct LayerStatistics {
  float *mean, *variance;
  float eps;
  __device__ float rstd(int64_t row) const { return 1 / sqrtf(variance[row] + eps); }
};

template <bool Quads>
__global__ void __launch_bounds__(1024)
    layer_norm_kernel(RowShape s, const float* x, const float* gamma, const float* beta, LayerStatistics st, float* y) {
  GPU_SHARED(Total<float>, mean_parts, [32]);
  GPU_SHARED(Total<float>, square_parts, [32]);
  const int64_t row = row_of_thread(s);
  const bool active = row < s.rows;
  const RowPart<Quads> part(s);
  float v[row_values], scale[row_values], shift[row_values];
  part.load(x + row * s.width, active, 0, v);
  part.load(gamma, gamma != nullptr, 1, scale);
  part.load(beta, beta != nullptr, 0, shift);
  Total<float> sum = Total<float>::none(), squares = sum;
  GPU_UNROLL
  for (const float each : v) sum.sum += each;
  const float mean = merge_team(sum, s.team, mean_parts).sum / float(s.width);
  GPU_UNROLL
  for (int j = 0; j < row_values; ++j) {
    const float d = part.column(j) < s.width ? v[j] - mean : 0.0f;
    squares.sum += d * d;
  }
  const float variance = merge_team(squares, s.team, square_parts).sum / float(s.width), rstd = 1 / sqrtf(variance + st.eps);
  GPU_UNROLL
  for (int j = 0; j < row_values; ++j) v[j] = fmaf(scale[j], (v[j] - mean) * rstd, shift[j]);
  part.store(y + row * s.width, active, v);
  if (active && part.lane == 0) st.mean[row] = mean, st.variance[row] = variance;
}

constexpr int backward_team = 512;  // holds twice as much in registers

// Row t of dgamma_parts and dbeta_parts, if wanted, gets the sums of team t's rows.
template <bool Quads>
__global__ void __launch_bounds__(backward_team)
    layer_norm_backward_kernel(RowShape s, const float* x, const float* dy, const float* gamma, LayerStatistics st, float* dx,
                               float* dgamma_parts, float* dbeta_parts) {
  using Sums = Both<Total<float>, Total<float>>;
  GPU_SHARED(Sums, parts, [2][32]);  // one is written while the other is read
  const RowPart<Quads> part(s);
  float scale[row_values], dgamma[row_values] = {}, dbeta[row_values] = {};
  part.load(gamma, gamma != nullptr, 1, scale);
  const int teams = int(blockDim.x) / s.team;
  const int64_t first = row_of_thread(s), step = int64_t(gridDim.x) * teams;
  int turn = 0;
  for (int64_t start = int64_t(blockIdx.x) * teams; start < s.rows; start += step, turn ^= 1) {
    const int64_t row = start + int(threadIdx.x) / s.team;
    const bool active = row < s.rows;
    float v[row_values], g[row_values];
    part.load(x + row * s.width, active, 0, v);
    part.load(dy + row * s.width, active, 0, g);
    const float mean = active ? st.mean[row] : 0.0f, rstd = active ? st.rstd(row) : 0.0f;
    Sums sums = Sums::none();
    GPU_UNROLL
    for (int j = 0; j < row_values; ++j) {  // values beyond the row have g = 0
      v[j] = (v[j] - mean) * rstd;
      dgamma[j] += g[j] * v[j];
      dbeta[j] += g[j];
      g[j] *= scale[j];
      sums.first.sum += g[j];
      sums.second.sum += g[j] * v[j];
    }
    sums = merge_team(sums, s.team, parts[turn]);
    const float mean_g = sums.first.sum / float(s.width), mean_gx = sums.second.sum / float(s.width);
    GPU_UNROLL
    for (int j = 0; j < row_values; ++j) v[j] = (g[j] - mean_g - v[j] * mean_gx) * rstd;
    if (dx) part.store(dx + row * s.width, active, v);
  }
  if (dgamma_parts) part.store(dgamma_parts + first * s.width, true, dgamma);
  if (dbeta_parts) part.store(dbeta_parts + first * s.width, true, dbeta);
}

// ---- rows that do not fit ------------------------------------------------------------------------------------------------

struct StoreStatistics {
  const float* x;
  int64_t width;
  LayerStatistics st;
  __device__ void operator()(int64_t row, const Deviations::Accumulator& a) const {
    st.mean[row] = float(double(x[row * width]) + a.first.sum / double(width));
    st.variance[row] = float(squares_of(a, double(width)) / double(width));
  }
};

struct NormalizeRow {
  const float *x, *gamma, *beta;
  float* y;
  LayerStatistics st;
  float mean, rstd;
  __device__ NormalizeRow line(int64_t, int64_t row) const { return {x, gamma, beta, y, st, st.mean[row], st.rstd(row)}; }
  __device__ float load(int64_t at) const { return x[at]; }
  __device__ void store(int64_t at, float v, int64_t r) const {
    y[at] = fmaf(gamma ? gamma[r] : 1.0f, (v - mean) * rstd, beta ? beta[r] : 0.0f);
  }
};

struct PullRow {
  using Accumulator = Both<Total<double>, Total<double>>;
  const float *x, *dy, *gamma;
  float* dx;
  const float2* means;
  LayerStatistics st;
  float mean, rstd;
  float2 of_row;
  __device__ PullRow line(int64_t, int64_t row) const {
    return {x, dy, gamma, dx, means, st, st.mean[row], st.rstd(row), means ? means[row] : float2{}};
  }
  __device__ float2 load(int64_t at) const { return make_float2((x[at] - mean) * rstd, dy[at]); }
  __device__ float scaled(float g, int64_t r) const { return gamma ? gamma[r] * g : g; }
  __device__ void add(Accumulator& a, float2 v, int64_t r) const {
    a.first.sum += double(scaled(v.y, r));
    a.second.sum += double(scaled(v.y, r) * v.x);
  }
  __device__ void store(int64_t at, float2 v, int64_t r) const { dx[at] = (scaled(v.y, r) - of_row.x - v.x * of_row.y) * rstd; }
};
struct StoreMeans {
  float2* means;
  double width;
  __device__ void operator()(int64_t row, const PullRow::Accumulator& a) const {
    means[row] = make_float2(float(a.first.sum / width), float(a.second.sum / width));
  }
};

struct PullAffine {  // over the rows r of a column
  using Accumulator = Both<Total<double>, Total<double>>;
  const float *x, *dy;
  LayerStatistics st;
  __device__ PullAffine line(int64_t, int64_t) const { return *this; }
  __device__ float2 load(int64_t at) const { return make_float2(x[at], dy[at]); }
  __device__ void add(Accumulator& a, float2 v, int64_t row) const {
    a.first.sum += double(v.y * (v.x - st.mean[row]) * st.rstd(row));
    a.second.sum += double(v.y);
  }
};
struct StoreAffine {
  float *dgamma, *dbeta;
  __device__ void operator()(int64_t column, const PullAffine::Accumulator& a) const {
    if (dgamma) dgamma[column] = float(a.first.sum);
    if (dbeta) dbeta[column] = float(a.second.sum);
  }
};

// ---- launchers -----------------------------------------------------------------------------------------------------------

void backward_in_registers(int64_t rows, int64_t width, const float* x, const float* dy, const float* gamma,
                           const LayerStatistics& st, float* dx, float* dgamma, float* dbeta, Device device) {
  const RowShape s(rows, width);
  const int64_t blocks = std::min<int64_t>(s.blocks(), 132 * 4), teams = blocks * s.rows_per_block();
  const Tensor parts({(dgamma ? 1 : 0) + (dbeta ? 1 : 0), teams, width}, DType::float32, device);
  float* const dgamma_parts = dgamma ? parts.device_data<float>() : nullptr;
  float* const dbeta_parts = dbeta ? parts.device_data<float>() + (dgamma ? teams * width : 0) : nullptr;
  const bool quads = rows_in_quads(width, x, dy, gamma, dx);
  launch({unsigned(blocks), unsigned(s.threads())}, quads ? layer_norm_backward_kernel<true> : layer_norm_backward_kernel<false>,
         s, x, dy, gamma, st, dx, dgamma_parts, dbeta_parts);
  if (dgamma) column_sums(dgamma_parts, teams, width, dgamma, device);
  if (dbeta) column_sums(dbeta_parts, teams, width, dbeta, device);
}

}  // namespace

void layer_norm(const LayerNorm& op, const Tensor& x, const Tensor& gamma, const Tensor& beta, Tensor& y, Tensor& mean,
                Tensor& variance) {
  const int64_t width = x.shape().product(x.rank() - op.axes, x.rank()), rows = mean.size();
  if (width == 0) {
    mean.fill(0), variance.fill(0);
    return;
  }
  const LayerStatistics st{data_or_null(mean), data_or_null(variance), float(op.eps)};
  const float *from = x.device_data<float>(), *scale = data_or_null(gamma), *shift = data_or_null(beta);
  float* to = y.device_data<float>();
  if (width <= max_row_width) {
    const RowShape s(rows, width);
    const bool quads = rows_in_quads(width, from, scale, shift, to);
    launch({s.blocks(), unsigned(s.threads())}, quads ? layer_norm_kernel<true> : layer_norm_kernel<false>, s, from, scale, shift,
           st, to);
    return;
  }
  const Extent e = over_columns(rows, width);
  reduce_axes(Deviations{from, false, 0}, e, StoreStatistics{from, width, st}, x.device());
  map_axes(NormalizeRow{from, scale, shift, to, st, 0, 0}, e);
}

void layer_norm_backward(const LayerNorm& op, const Tensor& x, const Tensor& gamma, const Tensor&, const Tensor&,
                         const Tensor& mean, const Tensor& variance, const Tensor& dy, Tensor* dx, Tensor* dgamma,
                         Tensor* dbeta) {
  const int64_t width = x.shape().product(x.rank() - op.axes, x.rank()), rows = mean.size();
  const LayerStatistics st{data_or_null(mean), data_or_null(variance), float(op.eps)};
  const float *from = x.device_data<float>(), *g = dy.device_data<float>(), *scale = data_or_null(gamma);
  if (width == 0) return;
  if (width <= backward_team * row_values && rows > 0)
    return backward_in_registers(rows, width, from, g, scale, st, data_or_null(dx), data_or_null(dgamma), data_or_null(dbeta),
                                 x.device());
  if (dx) {
    const Tensor means({rows, 2}, DType::float32, x.device());
    float2* const at = reinterpret_cast<float2*>(means.raw());
    const Extent e = over_columns(rows, width);
    PullRow source{from, g, scale, dx->device_data<float>(), nullptr, st, 0, 0, {}};
    reduce_axes(source, e, StoreMeans{at, double(width)}, x.device());
    source.means = at;
    map_axes(source, e);
  }
  if (dgamma || dbeta)
    reduce_axes(PullAffine{from, g, st}, over_rows(rows, width), StoreAffine{data_or_null(dgamma), data_or_null(dbeta)},
                x.device());
}

}  // namespace glia::GPU_NS

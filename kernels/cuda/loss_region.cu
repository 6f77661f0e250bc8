// Region losses (kernels/loss_region.h): one pass that takes three sums per region in double, one that writes the gradient
//   dx = (a t + b + c p) [p (1 - p)] + e (p - t),
// of which dice, bce + dice and Tversky are the cases; the factor in brackets belongs to logits. A large region is cut into
// chunks, a block each, small ones share a block; one last block adds the chunks, a warp a region, and takes the losses. Bound by
// memory.
#include <algorithm>

#include "kernels/cuda/loss.cuh"
#include "kernels/loss_region.h"

namespace glia::GPU_NS {
namespace {

struct RegionSums {
  double at[3];
  __device__ static RegionSums none() { return {{0, 0, 0}}; }
  __device__ void merge(const RegionSums& later) {
    GPU_UNROLL
    for (int k = 0; k < 3; ++k) at[k] += later.at[k];
  }
};

struct RegionSlope {
  double a, b, c, e;
};

// (2I + s) / (U + s), 1 where both are 0.
__device__ double dice_of(const double* s, double smooth) {
  return s[1] + smooth != 0 ? (2 * s[0] + smooth) / (s[1] + smooth) : 1.0;
}

// -d dice / dp
__device__ RegionSlope dice_slope(const double* s, double smooth, bool squared) {
  const double u = s[1] + smooth;
  if (u == 0) return {0, 0, 0, 0};
  const double shrink = (2 * s[0] + smooth) / (u * u);
  return {-2 / u, squared ? 0 : shrink, squared ? 2 * shrink : 0, 0};
}

// A loss of regions: what an element adds to the three sums, the loss of the sums, and the gradient's coefficients.
struct DiceOf {
  static constexpr bool logits = false;
  double smooth;
  bool squared;
  __device__ void add(float p, float t, double* s) const {
    s[0] += double(p * t);
    s[1] += double(squared ? p * p + t * t : p + t);
  }
  __device__ double loss(const double* s) const { return 1 - dice_of(s, smooth); }
  __device__ RegionSlope slope(const double* s) const { return dice_slope(s, smooth, squared); }
};

// The third sum is that of the cross entropies.
struct BceDiceOf {
  static constexpr bool logits = true;
  double smooth, of_bce, of_dice;  // of_bce: of the sum over the region
  __device__ void add(float x, float t, double* s) const {
    const Logistic l(x);
    s[0] += double(l.p * t);
    s[1] += double(l.p + t);
    s[2] += double(cross_entropy_of(x, t, l));
  }
  __device__ double loss(const double* s) const { return of_bce * s[2] + of_dice * (1 - dice_of(s, smooth)); }
  __device__ RegionSlope slope(const double* s) const {
    const RegionSlope d = dice_slope(s, smooth, false);
    return {of_dice * d.a, of_dice * d.b, 0, of_bce};
  }
};

// Sums: TP, FP, FN. d/dp = [N (t + alpha (1 - t) - beta t) - t W] / W^2, N = TP + s, W = TP + alpha FP + beta FN + s
struct TverskyOf {
  static constexpr bool logits = true;
  double alpha, beta, smooth;
  __device__ void add(float x, float t, double* s) const {
    const Logistic l(x);
    s[0] += double(l.p * t);
    s[1] += double(l.p * (1 - t));
    s[2] += double(l.q * t);
  }
  __device__ double whole(const double* s) const { return s[0] + alpha * s[1] + beta * s[2] + smooth; }
  __device__ double loss(const double* s) const {
    const double w = whole(s);
    return w != 0 ? 1 - (s[0] + smooth) / w : 0.0;
  }
  __device__ RegionSlope slope(const double* s) const {
    const double w = whole(s);
    if (w == 0) return {0, 0, 0, 0};
    const double k = (s[0] + smooth) / (w * w);
    return {k * (1 - alpha - beta) - 1 / w, k * alpha, 0, 0};
  }
};

constexpr int region_threads = 256, region_batch = 2;  // packs of x and t that a thread has under way together
constexpr int64_t most_region_blocks = 132 * 8;

// Regions of `size` elements in `chunks` shares each, every share for a team of threads: a block, or less for small regions.
struct RegionGrid {
  int64_t size;
  int regions, chunks, team;
  const float *x, *t;

  __device__ int task() const { return int(blockIdx.x) * (region_threads / team) + int(threadIdx.x) / team; }
  __device__ int region() const { return task() / chunks; }
  __device__ int thread() const { return int(threadIdx.x) % team; }  // of the team

  // Calls f(i, x, t) on packs of x and t, which begin at element i, until the team's share of its region is done.
  template <int width, class F>
  __device__ void visit(F f) const {
    if (region() >= regions) return;
    const int64_t begin = int64_t(region()) * size, packs = size / width;
    const int share = team * region_batch;
    for (int64_t start = int64_t(task() % chunks) * share; start < packs; start += int64_t(chunks) * share) {
      Pack<width> a[region_batch] = {}, b[region_batch] = {};
      const auto place = [&](int j) { return start + thread() + j * team; };
      GPU_UNROLL
      for (int j = 0; j < region_batch; ++j) {
        if (place(j) >= packs) continue;
        a[j] = load_pack<width>(x + begin + place(j) * width);
        b[j] = load_pack<width>(t + begin + place(j) * width);
      }
      GPU_UNROLL
      for (int j = 0; j < region_batch; ++j)
        if (place(j) < packs) f(begin + place(j) * width, a[j], b[j]);
    }
  }
};

template <int width, class Loss>
__global__ void __launch_bounds__(region_threads, 4) region_sums_kernel(Loss loss, RegionGrid grid, RegionSums* partials) {
  GPU_SHARED(RegionSums, parts, [32]);
  RegionSums mine = RegionSums::none();
  grid.visit<width>([&](int64_t, const Pack<width>& x, const Pack<width>& t) {
    GPU_UNROLL
    for (int j = 0; j < width; ++j) loss.add(x.at[j], t.at[j], mine.at);
  });
  mine = merge_team(mine, grid.team, parts);
  if (grid.thread() == 0 && grid.region() < grid.regions) partials[grid.task()] = mine;
}

// sums[r] from the region's partial sums; y is the mean of the losses, 0 without a region.
template <class Loss>
__global__ void __launch_bounds__(reduce_threads)
    region_loss_kernel(Loss loss, RegionGrid grid, const RegionSums* partials, double* sums, float* y) {
  GPU_SHARED(DoubleSum, parts, [32]);
  GPU_SHARED(RegionSums, unused, [32]);
  const int team = grid.chunks > 1 ? 32 : 1, teams = reduce_threads / team, lane = int(threadIdx.x) % team;
  DoubleSum total = DoubleSum::none();
  for (int first = 0; first < grid.regions; first += teams) {
    const int r = first + int(threadIdx.x) / team;
    RegionSums mine = RegionSums::none();
    if (r < grid.regions)
      for (int c = lane; c < grid.chunks; c += team) mine.merge(partials[r * grid.chunks + c]);
    mine = merge_team(mine, team, unused);
    if (lane != 0 || r >= grid.regions) continue;
    total.sum += loss.loss(mine.at);
    GPU_UNROLL
    for (int k = 0; k < 3; ++k) sums[r * 3 + k] = mine.at[k];
  }
  total = merge_block(total, parts);
  if (threadIdx.x == 0) *y = grid.regions ? float(total.sum / double(grid.regions)) : 0.0f;
}

template <int width, class Loss>
__global__ void __launch_bounds__(region_threads, 4)
    region_gradient_kernel(Loss loss, RegionGrid grid, const double* sums, const float* dy, float* dx) {
  GPU_SHARED(float, slopes, [region_threads][4]);  // of each team's region
  float(&slope)[4] = slopes[int(threadIdx.x) / grid.team];
  if (grid.thread() == 0 && grid.region() < grid.regions) {
    const RegionSlope s = loss.slope(sums + grid.region() * 3);
    const double k = double(*dy) / double(grid.regions);
    slope[0] = float(k * s.a), slope[1] = float(k * s.b), slope[2] = float(k * s.c), slope[3] = float(k * s.e);
  }
  __syncthreads();
  const float a = slope[0], b = slope[1], c = slope[2], e = slope[3];
  grid.visit<width>([&](int64_t i, const Pack<width>& x, const Pack<width>& t) {
    Pack<width> out;
    GPU_UNROLL
    for (int j = 0; j < width; ++j) {
      if constexpr (Loss::logits) {
        const Logistic l(x.at[j]);
        out.at[j] = (a * t.at[j] + b) * l.p * l.q + e * (l.p - t.at[j]);
      } else {
        out.at[j] = a * t.at[j] + b + c * x.at[j];
      }
    }
    store_pack(dx + i, out);
  });
}

RegionGrid grid_of(const Tensor& x, const Tensor& t, Per per) {
  const int64_t regions = detail::regions_of(x, per), size = regions ? x.size() / regions : 0;
  GLIA_CHECK(regions <= INT32_MAX / 2, "a loss over {} regions, want at most {}", regions, INT32_MAX / 2);
  constexpr int64_t a_thread = 4 * region_batch;  // elements
  int team = 1;
  while (team < region_threads && a_thread * team < size) team *= 2;
  const int64_t most = std::max<int64_t>(1, most_region_blocks / std::max<int64_t>(1, regions));
  const int chunks = int(std::clamp<int64_t>(divide_up(size, a_thread * region_threads), 1, most));
  return {size, int(regions), chunks, team, x.device_data<float>(), t.device_data<float>()};
}

gpu::LaunchShape shape_of(const RegionGrid& grid) {
  return {unsigned(divide_up(int64_t(grid.regions) * grid.chunks, region_threads / grid.team)), region_threads};
}

// Whether packs of four are possible in every region.
bool by_fours(const RegionGrid& grid) { return grid.size % 4 == 0 && aligned16(grid.x) && aligned16(grid.t); }

template <class Loss>
void region_forward(const Loss& loss, const RegionGrid& grid, const Tensor& y, const Tensor& sums) {
  const LossPartials<RegionSums> partials(grid.regions * grid.chunks, y.device());
  launch(shape_of(grid), by_fours(grid) ? region_sums_kernel<4, Loss> : region_sums_kernel<1, Loss>, loss, grid, partials.at());
  launch({1, reduce_threads}, region_loss_kernel<Loss>, loss, grid, partials.at(), sums.device_data<double>(),
         y.device_data<float>());
}

template <class Loss>
void region_backward(const char* op, const Loss& loss, const RegionGrid& grid, const Tensor& sums, const Tensor& dy,
                     const Tensor* dx, const Tensor* dt) {
  GLIA_CHECK(!dt, "{}: no gradient with respect to the target is defined", op);
  if (!dx) return;
  float* const to = dx->device_data<float>();
  const auto kernel = by_fours(grid) && aligned16(to) ? region_gradient_kernel<4, Loss> : region_gradient_kernel<1, Loss>;
  launch(shape_of(grid), kernel, loss, grid, sums.device_data<double>(), dy.device_data<float>(), to);
}

DiceOf loss_of(const DiceLoss& op, const RegionGrid&) { return {op.smooth, op.squared}; }
BceDiceOf loss_of(const BceDiceLoss& op, const RegionGrid& grid) {
  return {op.smooth, grid.size ? op.bce_weight / double(grid.size) : 0.0, op.dice_weight};
}
TverskyOf loss_of(const TverskyLoss& op, const RegionGrid&) { return {op.alpha, op.beta, op.smooth}; }

}  // namespace

#define GLIA_DEFINE_REGION_LOSS(function, Op)                                                                                   \
  void function(const Op& op, const Tensor& x, const Tensor& t, Tensor& y, Tensor& sums) {                                      \
    const RegionGrid grid = grid_of(x, t, op.per);                                                                              \
    region_forward(loss_of(op, grid), grid, y, sums);                                                                           \
  }                                                                                                                             \
  void function##_backward(const Op& op, const Tensor& x, const Tensor& t, const Tensor&, const Tensor& sums, const Tensor& dy, \
                           Tensor* dx, Tensor* dt) {                                                                            \
    const RegionGrid grid = grid_of(x, t, op.per);                                                                              \
    region_backward(Op::forward.name, loss_of(op, grid), grid, sums, dy, dx, dt);                                               \
  }
GLIA_DEFINE_REGION_LOSS(dice_loss, DiceLoss)
GLIA_DEFINE_REGION_LOSS(bce_dice_loss, BceDiceLoss)
GLIA_DEFINE_REGION_LOSS(tversky_loss, TverskyLoss)
#undef GLIA_DEFINE_REGION_LOSS

}  // namespace glia::GPU_NS

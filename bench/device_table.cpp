#include "bench/device_table.h"

#include <fmt/core.h>

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <optional>

#include "bench/conv_shapes.h"
#include "bench/dense_ops.h"
#include "gpu/runtime.h"
#include "kernels/gemm.h"
#include "kernels/matmul.h"
#include "kernels/optimizer.h"
#include "tensor/error.h"
#include "tensor/stream.h"

namespace glia::bench {
namespace {

struct Times {
  double warm = 0, cold = 0;  // seconds
};

double median(std::vector<double> v) {
  std::nth_element(v.begin(), v.begin() + static_cast<long>(v.size() / 2), v.end());
  return v[v.size() / 2];
}

// Times work by events on the compute stream.
class Clock {
 public:
  explicit Clock(Device device) : device_(device), runtime_(runtime_of(device)), stream_(compute_stream(device)) {
    for (gpu::Event& e : events_) check(runtime_.create_event(&e, true), device_);
    gpu::Properties p;
    check(runtime_.properties(device.index, p), device_);
    if (!emulated()) flush_ = Tensor({static_cast<int64_t>(2 * p.l2_bytes)}, DType::uint8, device);
  }
  ~Clock() {
    for (gpu::Event e : events_) (void)runtime_.destroy_event(e);
  }
  Clock(const Clock&) = delete;
  Clock& operator=(const Clock&) = delete;

  bool emulated() const { return device_.kind == DeviceKind::emulated; }
  Device device() const { return device_; }

  Times time(const std::function<void()>& run) const {
    run();
    if (emulated()) return {seconds(run, 1), 0};
    const int batch = std::clamp(static_cast<int>(2e-3 / std::max(seconds(run, 1), 1e-6)), 1, 200);  // the host is not waited for
    std::vector<double> warm, cold;
    for (int i = 0; i < 7; ++i) warm.push_back(seconds(run, batch));
    for (int i = 0; i < 11; ++i) {
      check(runtime_.set_bytes(flush_.raw(), i, flush_.bytes(), stream_), device_);
      cold.push_back(seconds(run, 1));
    }
    return {median(warm), median(cold)};
  }

 private:
  double seconds(const std::function<void()>& run, int times) const {
    check(runtime_.record(events_[0], stream_), device_);
    for (int i = 0; i < times; ++i) run();
    check(runtime_.record(events_[1], stream_), device_);
    check(runtime_.synchronize_event(events_[1]), device_);
    float milliseconds = 0;
    check(runtime_.elapsed(events_[0], events_[1], &milliseconds), device_);
    return milliseconds * 1e-3 / times;
  }

  Device device_;
  const gpu::Runtime& runtime_;
  gpu::Stream stream_;
  gpu::Event events_[2] = {};
  Tensor flush_;  // twice the L2 cache
};

class Tables {
 public:
  Tables(Device device, const std::string& only) : clock_(device), only_(only) {}

  int print() {
    print_memory();
    for (const Precision p : {Precision::fp32, Precision::tf32, Precision::bf16}) print_products(p);
    if (rows_ == 0) fmt::print(stderr, "glia_bench: no kernel's name contains '{}'\n", only_);
    return rows_ > 0 ? 0 : 2;
  }

 private:
  bool small() const { return clock_.emulated(); }
  bool wanted(const std::string& name) const { return name.find(only_) != std::string::npos; }
  void clocks() const {
    if (!small()) fmt::print("Clocks now: {}.\n", gpu_clocks(clock_.device().index));
  }

  // ---- bound by memory ----

  double copy_bandwidth() const {
    const Tensor from = random_tensor({small() ? 1000 : 64 << 20}, clock_.device()),
                 to(from.shape(), DType::float32, clock_.device());
    const Times t = clock_.time([&] { to.copy_from(from); });
    return 2 * double(from.bytes()) / t.warm;
  }

  void memory_row(const std::string& name, const std::function<Work()>& make) {
    if (!wanted(name)) return;
    const Work work = make();
    const Times t = clock_.time(work.run);
    ++rows_;
    fmt::print("| {} | {:.1f} | {:.1f} | {:.1f} | {:.0f} | {:.0f} % |\n", name, work.bytes / 1e6, t.warm * 1e6, t.cold * 1e6,
               work.bytes / t.warm / 1e9, 100 * work.bytes / t.warm / copy_);
    std::fflush(stdout);
  }

  void print_memory() {
    copy_ = copy_bandwidth();
    fmt::print("Copy on the device: {:.0f} GB/s, bytes read plus bytes written. ", copy_ / 1e9);
    clocks();
    fmt::print("\n| kernel | MB | warm us | cold us | GB/s | of a copy |\n|---|---|---|---|---|---|\n");
    const Device device = clock_.device();
    const Shape x = small() ? Shape{1, 8, 8, 8} : Shape{16, 256, 256, 64};
    for_each_dense_op(
        x, [&]<class Op, size_t N>(const char* name, const Op& op, const std::array<Shape, N>& shapes, size_t gradients) {
          const auto f = Op::forward.pick(device, DType::float32);
          const auto b = Op::backward.pick(device, DType::float32);
          memory_row(std::string(name) + " forward", [&] { return forward_work(op, f, shapes, device); });
          memory_row(std::string(name) + " backward", [&] { return backward_work(op, f, b, shapes, gradients, device); });
        });
    const Shape flat{small() ? 1000 : 31'000'000};  // a UNet's parameters
    const auto arrays = [&](int count) {
      std::vector<Tensor> all;
      for (int i = 0; i < count; ++i) all.push_back(random_tensor(flat, device, uint64_t(i)));
      return all;
    };
    memory_row("adam_step", [&] {
      const auto body = AdamStep::forward.pick(device, DType::float32);
      return Work{7.0 * 4 * double(flat.size()),
                  [a = arrays(4), none = Tensor(), body]() mutable { body({}, a[0], a[1], a[2], a[3], none); }};
    });
    memory_row("sgd_step", [&] {
      const auto body = SgdStep::forward.pick(device, DType::float32);
      return Work{5.0 * 4 * double(flat.size()), [a = arrays(3), body]() mutable { body({.momentum = 0.9}, a[0], a[1], a[2]); }};
    });
    memory_row("squared_norm", [&] {
      const auto body = SquaredNorm::forward.pick(device, DType::float32);
      return Work{4.0 * double(flat.size()),
                  [a = arrays(1), sum = Tensor(Shape{}, DType::float64, device), body]() mutable { body({}, a[0], sum); }};
    });
    fmt::print("\n");
  }

  // ---- products ----

  // The hand-written kernels by fixed rules, the vendor's, which may be absent, and on a GPU what --kernels auto measures to be best.
  struct Pair {
    Times hand;
    std::optional<Times> vendor{}, automatic{};
  };
  Pair time_both(bool has_vendor, const std::function<void()>& run) const {
    const auto time = [&](KernelChoice choice) {
      const KernelChoiceScope scope(choice);
      return clock_.time(run);
    };
    Pair pair{.hand = time(KernelChoice::hand)};
    if (has_vendor) pair.vendor = time(KernelChoice::vendor);
    if (on_gpu()) pair.automatic = time(KernelChoice::automatic);
    return pair;
  }
  bool on_gpu() const { return clock_.device().kind == DeviceKind::cuda; }
  bool has_cudnn() const {
#if defined(GLIA_WITH_CUDNN)
    return on_gpu() && cudnn::fault().empty();
#else
    return false;
#endif
  }
  bool has_cublas() const {
#if defined(GLIA_WITH_CUBLAS)
    return on_gpu() && cublas::fault().empty();
#else
    return false;
#endif
  }

  Pair time_gemm(int64_t m, int64_t n, int64_t k) const {
    const Device device = clock_.device();
    const Tensor x = random_tensor({m, k}, device, 1), w = random_tensor({n, k}, device, 2);
    Tensor y({m, n}, DType::float32, device);
    return time_both(has_cublas(), [&] { Linear::forward.pick(device, DType::float32)({}, x, w, {}, y); });
  }

  void product_row(const std::string& name, double flops, const Pair& pair, const char* library) {
    ++rows_;
    const double rate = flops / pair.hand.warm;
    fmt::print("| {} | {:.2f} | {:.1f} | {:.1f} | {:.1f} | {:.0f} % |", name, flops / 1e9, pair.hand.warm * 1e6,
               pair.hand.cold * 1e6, rate / 1e12, 100 * rate / peak_);
    if (!pair.vendor) {
      fmt::print(" | |");
    } else {
      const double ratio = pair.vendor->warm / pair.hand.warm;
      logs_ += std::log(ratio), ++ratios_;
      fmt::print(" {} {:.1f} | {:.2f} |", library, flops / pair.vendor->warm / 1e12, ratio);
    }
    fmt::print(" {} |\n", pair.automatic ? fmt::format("{:.1f}", flops / pair.automatic->warm / 1e12) : "");
    std::fflush(stdout);
  }

  void print_products(Precision p) {
    const PrecisionScope scope(p);
    const char* name = p == Precision::fp32 ? "float32" : p == Precision::tf32 ? "TF32" : "BF16";
    const int64_t side = small() ? 64 : 8192;
    const Pair largest = time_gemm(side, side, side);
    peak_ =
        2 * std::pow(double(side), 3) / std::min(largest.hand.warm, largest.vendor ? largest.vendor->warm : largest.hand.warm);
    logs_ = 0, ratios_ = 0;
    fmt::print("{}: the fastest product of {}x{} matrices has {:.3g} TFLOP/s. ", name, side, side, peak_ / 1e12);
    clocks();
    if (p == Precision::bf16 && on_gpu()) fmt::print("cuDNN's tensors are float32 here, so it computes in TF32.\n");
    fmt::print(
        "\n| {} | GFLOP | warm us | cold us | TFLOP/s | of the peak | library's TFLOP/s | times the library's speed | auto: "
        "TFLOP/s |\n"
        "|---|---|---|---|---|---|---|---|---|\n",
        name);
    const std::array<int64_t, 3> gemms[] = {{1024, 1024, 1024}, {4096, 4096, 4096}, {8192, 8192, 8192},
                                            {512, 1024, 12544}, {512, 81, 1024},    {262144, 64, 64}};
    for (auto [m, n, k] : gemms) {
      if (small()) m = std::min<int64_t>(m, 40), n = std::min<int64_t>(n, 40), k = std::min<int64_t>(k, 40);
      const std::string title = fmt::format("linear {}x{}x{}", m, n, k);
      if (wanted(title)) product_row(title, 2.0 * double(m) * double(n) * double(k), time_gemm(m, n, k), "cuBLAS");
    }
    for (ConvShape shape : conv_shapes())
      for (const ConvWork work : {ConvWork::forward, ConvWork::data_gradient, ConvWork::weight_gradient}) {
        const std::string title = fmt::format("conv2d {} {}", shape.name, name_of(work));
        if (!wanted(title)) continue;
        if (small()) shape = shrunk(shape);
        ConvRun run(shape, work, clock_.device());
        const Pair pair = time_both(has_cudnn(), [&] { run.run(kernel_choice()); });
        product_row(title, run.flops(), pair, "cuDNN");
      }
    if (ratios_ > 0) fmt::print("| geometric mean of {} | | | | | | | {:.2f} | |\n", ratios_, std::exp(logs_ / ratios_));
    fmt::print("\n");
  }

  // For the emulator: the same kind of convolution, of few pixels and channels.
  static ConvShape shrunk(ConvShape s) {
    s.n = 1, s.h = s.w = std::max<int64_t>(s.size, 6), s.c = std::min<int64_t>(s.c, 8), s.k = std::min<int64_t>(s.k, 8);
    return s;
  }

  Clock clock_;
  std::string only_;
  double copy_ = 1, peak_ = 1, logs_ = 0;
  int rows_ = 0, ratios_ = 0;
};

}  // namespace

int print_device_tables(Device device, const std::string& only) {
  if (device.kind == DeviceKind::cpu)
    throw UsageError("--device cpu: these tables are of devices; the CPU's benchmarks run without --device, or as --conv-table");
  gpu::Properties p;
  check(runtime_of(device).properties(device.index, p), device);
  fmt::print("{}, sm_{}{}, {} multiprocessors, {:.0f} MB L2\n\n", p.name, p.major, p.minor, p.multiprocessors,
             double(p.l2_bytes) / 1e6);
  if (device.kind == DeviceKind::emulated)
    fmt::print("emulated: small sizes, and the times of a CPU, which say nothing about a GPU\n\n");
  return Tables(device, only).print();
}

}  // namespace glia::bench

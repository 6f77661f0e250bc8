// The choice among ways to compute by measurement: with a made-up clock, on the emulated device.
#include <doctest/doctest.h>

#include <cstdlib>
#include <fstream>
#include <set>
#include <sstream>

#include "autograd/apply.h"
#include "autograd/tape.h"
#include "data/safetensors.h"
#include "gpu/runtime.h"
#include "kernels/conv.h"
#include "kernels/gemm.h"
#include "kernels/matmul.h"
#include "kernels/tuning.h"
#include "tensor/random.h"
#include "tests/paths.h"

namespace glia::tests {
namespace {

constexpr Device emulated{DeviceKind::emulated};

// A cache folder of its own, no clock left behind.
class TuningTest {
 public:
  TuningTest() { setenv("XDG_CACHE_HOME", folder_.path().c_str(), 1); }
  ~TuningTest() {
    set_tuning_timer({});
    set_tuning(true);
    unsetenv("XDG_CACHE_HOME");
    unsetenv("GLIA_TUNE");
  }
  std::filesystem::path file() const { return folder_ / "glia" / "tuning-CUDA-emulated-on-the-CPU.txt"; }
  std::string text() const { return std::filesystem::exists(file()) ? read_file(file()) : ""; }

 private:
  TemporaryFolder folder_;
};

// Ways that note when they run; `refused` throws.
struct Script {
  std::vector<double> costs{5, 3, 1, 2};
  std::vector<size_t> ran;
  size_t refused = 2, inapplicable = 99, current = 0;
  static constexpr const char* names[] = {"a", "b", "c/1", "d"};

  // Computes the problem; returns which ways ran for it.
  std::vector<size_t> run(int64_t problem) {
    ran.clear();
    run_fastest(TuningKey{7, problem},
                {names, [&](size_t i) { return i != inapplicable; },
                 [&](size_t i) {
                   ran.push_back(i);
                   current = i;
                   if (i == refused) throw DeviceError("refused {}", i);
                 }},
                emulated);
    return ran;
  }
  void start_clock() {
    set_tuning_timer([this](const std::function<void()>& work) {
      work();
      return costs[current];
    });
  }
};

Tensor random_tensor(const Shape& shape, uint64_t stream) {
  Tensor t(shape);
  const Philox random(3, stream);
  for (int64_t i = 0; i < t.size(); ++i) t.data<float>()[i] = float(random.uniform(uint64_t(i), -1.0, 1.0));
  return t;
}

double largest_difference(const Tensor& a, const Tensor& b) {
  const Tensor x = a.to(Device{}), y = b.to(Device{});
  double worst = 0;
  for (int64_t i = 0; i < x.size(); ++i) worst = std::max(worst, std::abs(double(x.data<float>()[i]) - y.data<float>()[i]));
  return worst;
}

}  // namespace

TEST_SUITE_BEGIN("tuning");

TEST_CASE("the fastest way that works is measured once and remembered, in memory and in a file") {
  const TuningTest scope;
  Script script;
  script.start_clock();
  // Each way warms up and is timed; then those near the best are timed again; then the winner computes.
  CHECK(script.run(1) == std::vector<size_t>{0, 1, 2, 3, 0, 1, 3, 3, 3, 3});
  CHECK(script.run(1) == std::vector<size_t>{3});
  const std::string text = scope.text();
  CHECK(text.find("# glia tuning 2: CUDA emulated on the CPU, sm_90, driver 13000, runtime 13000.") == 0);
  CHECK(text.find("\n7 1 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 d\n") != std::string::npos);
  script.start_clock();  // another process
  CHECK(script.run(1) == std::vector<size_t>{3});
  CHECK(script.run(2).size() > 4);
  script.inapplicable = 3;  // not what the file says
  CHECK(script.run(2).back() == 1);
  script.costs = {1, 1.2, 1, 9};  // one that is as fast on the whole
  CHECK(script.run(3) == std::vector<size_t>{0, 1, 2, 0, 1, 0, 1, 0, 1, 0});
}

TEST_CASE("files of other machines and versions, and lines that are none, are not believed") {
  const TuningTest scope;
  Script script;
  script.start_clock();
  script.run(1);
  const std::string good = scope.text();
  const auto with = [&](const std::string& text) {
    std::ofstream(scope.file()) << text;
    script.start_clock();
    return script.run(1).size();
  };
  CHECK(with(good) == 1);
  std::string other = good;
  other.replace(other.find("driver 13000"), 12, "driver 12080");
  CHECK(with(other) > 4);
  CHECK(scope.text() == good);  // written anew
  CHECK(with("") > 4);
  CHECK(with(std::string(5000, '\xff')) > 4);
  const std::string header = good.substr(0, good.find('\n') + 1);
  CHECK(with(header + "7 1 d\nx y z\n" + good.substr(header.size() + 2)) > 4);
  CHECK(with(header + "7 1 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 unheard-of\n") > 4);
  CHECK(with(header + "7 1 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 d and more\n") > 4);
  std::filesystem::remove_all(scope.file().parent_path());
  std::ofstream(scope.file().parent_path()) << "in the way";
  script.start_clock();
  CHECK(script.run(1).back() == 3);  // no file, no harm
}

TEST_CASE("where nothing is measured, and what is thrown when no way works") {
  const TuningTest scope;
  CHECK_FALSE(tuning(emulated));
  Script script;
  script.start_clock();
  CHECK(tuning(emulated));
  CHECK_FALSE(tuning(Device{}));
  set_tuning(false);
  CHECK_FALSE(tuning(emulated));
  set_tuning(true);
  set_kernel_choice(KernelChoice::hand);
  CHECK_FALSE(tuning(emulated));
  set_kernel_choice(KernelChoice::automatic);
  setenv("GLIA_TUNE", "off", 1);
  script.start_clock();
  CHECK_FALSE(tuning(emulated));
  unsetenv("GLIA_TUNE");
  static constexpr const char* names[] = {"a"};
  const auto refuse = [](size_t) { throw DeviceError("refused"); };
  CHECK_THROWS_WITH_AS(run_fastest(TuningKey{8}, {names, [](size_t) { return true; }, refuse}, emulated), "refused", DeviceError);
  CHECK(scope.text() == "");
}

TEST_CASE("convolutions and products by every way that can be chosen") {
  const TuningTest scope;
  const Tensor x = random_tensor({2, 9, 9, 36}, 1), w = random_tensor({20, 3, 3, 36}, 2), bias = random_tensor({20}, 3);
  const Tensor rows = random_tensor({40, 36}, 4), columns = random_tensor({70, 36}, 5);
  const Conv2d conv{.stride = {2, 2}, .pad = {1, 1, 1, 1}, .activation = Activation::relu};
  const auto compute = [&](Device device, bool products) {
    std::vector<Tensor> in{products ? rows : x, products ? columns : w};
    for (Tensor& t : in) {
      t = t.to(device).clone();
      require_grad(t);
    }
    const Tensor y =
        products ? apply(Linear{}, in[0], in[1], Tensor()) : apply(conv, in[0], in[1], bias.to(device), Tensor(), Tensor());
    backward(y, Tensor::full(y.shape(), 1, DType::float32, device));
    return std::vector<Tensor>{y, grad_of(in[0]), grad_of(in[1])};
  };
  for (const Precision p : {Precision::fp32, Precision::bf16}) {
    const PrecisionScope precision(p);
    std::set<std::string> chosen;
    for (const bool products : {false, true}) {
      const std::vector<Tensor> want = compute(Device{}, products);
      for (int winner = 0; winner < 9; ++winner) {
        std::filesystem::remove(scope.file());
        int calls = 0;
        set_tuning_timer([&, winner](const std::function<void()>& work) {  // the winner-th call costs least
          work();
          return calls++ % 9 == winner ? 1.0 : 2.0;
        });
        const std::vector<Tensor> got = compute(emulated, products);
        for (size_t i = 0; i < got.size(); ++i) CHECK(largest_difference(got[i], want[i]) < (p == Precision::fp32 ? 1e-3 : 0.5));
        std::istringstream lines(scope.text());
        for (std::string line; std::getline(lines, line);)
          if (line[0] != '#') chosen.insert(line.substr(line.rfind(' ') + 1));
      }
    }
    for (const char* way : {"simt/0", "simt/1", "simt/2", "direct", "large", "small"}) {
      INFO(way);
      CHECK(chosen.contains(way));
    }
    CHECK(chosen.contains("mma/4") == (p == Precision::bf16));
  }
}

TEST_CASE("a product as calls of BLAS computes the same, whatever its layout and batch") {
  const Philox random(11, 0);
  uint64_t at = 0;
  const auto draw = [&](int64_t n) { return int64_t(random.uniform(at++, 0, double(n))); };
  std::vector<float> a(40000), b(40000), got(40000), want(40000);
  for (std::vector<float>* v : {&a, &b})
    for (float& f : *v) f = float(draw(7)) - 3;  // sums are exact
  int done = 0;
  for (int round = 0; round < 400; ++round) {
    Gemm g{.m = 1 + draw(5), .n = 1 + draw(5), .k = 1 + draw(5), .c = got.data()};
    const auto operand = [&](const float* data, int64_t rows) -> GemmOperand {
      return draw(2) ? GemmOperand{data, g.k + draw(2), 1} : GemmOperand{data, 1, rows + draw(2)};
    };
    g.a = operand(a.data(), g.m), g.b = operand(b.data(), g.n);
    const bool transposed = draw(2);
    g.c_row = transposed ? 1 : g.n, g.c_column = transposed ? g.m : 1;
    for (GemmBatch* axes : {&g.batch, &g.summed})
      for (int64_t i = draw(3); i > 0; --i) axes->push_back(1 + draw(3), draw(3) * 36, draw(3) * 36);
    if (draw(3) == 0)
      g.summed = {}, g.summed.push_back(2, g.k * g.a.inner, g.k * g.b.inner);  // one that lengthens the inner index

    const auto place = [](const GemmBatch& axes, int64_t index, const int64_t(&steps)[GemmBatch::max_axes]) {
      int64_t offset = 0;
      for (int i = GemmBatch::max_axes - 1; i >= 0; --i) offset += index % axes.size[i] * steps[i], index /= axes.size[i];
      return offset;
    };
    std::fill(want.begin(), want.end(), 0.0f);
    for (int64_t z = 0; z < g.batch.total(); ++z)
      for (int64_t q = 0; q < g.summed.total(); ++q)
        for (int64_t i = 0; i < g.m; ++i)
          for (int64_t j = 0; j < g.n; ++j)
            for (int64_t k = 0; k < g.k; ++k)
              want[size_t(z * g.m * g.n + i * g.c_row + j * g.c_column)] +=
                  g.a.data[place(g.batch, z, g.batch.a) + place(g.summed, q, g.summed.a) + i * g.a.row + k * g.a.inner] *
                  g.b.data[place(g.batch, z, g.batch.b) + place(g.summed, q, g.summed.b) + j * g.b.row + k * g.b.inner];

    std::fill(got.begin(), got.end(), 77.0f);
    const std::vector<BlasCall> calls = blas_calls(g);
    REQUIRE(!calls.empty());
    for (const BlasCall& c : calls) {
      REQUIRE(c.lda >= (c.transpose_a ? c.k : c.m));  // BLAS refuses less
      REQUIRE(c.ldb >= (c.transpose_b ? c.n : c.k));
      REQUIRE(c.ldc >= c.m);
      for (int64_t z = 0; z < c.batch; ++z)
        for (int64_t j = 0; j < c.n; ++j)
          for (int64_t i = 0; i < c.m; ++i) {
            float& to = c.c[z * c.step_c + i + j * c.ldc];
            float sum = c.accumulate ? to : 0;
            for (int64_t k = 0; k < c.k; ++k)
              sum += c.a[z * c.step_a + (c.transpose_a ? k + i * c.lda : i + k * c.lda)] *
                     c.b[z * c.step_b + (c.transpose_b ? j + k * c.ldb : k + j * c.ldb)];
            to = sum;
          }
    }
    const int64_t count = g.batch.total() * g.m * g.n;
    for (int64_t i = 0; i < count; ++i) REQUIRE(got[size_t(i)] == want[size_t(i)]);
    ++done;
  }
  CHECK(done == 400);
  Gemm strided{.m = 3, .n = 3, .k = 3, .a = {a.data(), 2, 7}, .b = {b.data(), 3, 1}, .c = got.data(), .c_row = 3};
  CHECK(blas_calls(strided).empty());
  strided.a = {a.data(), 3, 1};
  strided.summed.push_back(65, 0, 1);
  CHECK(blas_calls(strided).empty());
}

#if defined(GLIA_WITH_CUBLAS)
TEST_CASE("cuBLAS is opened, or says why not") {
  const bool gpu = gpu::cuda_runtime()->devices().count > 0;
  MESSAGE("cuBLAS: " << cublas::fault());
  CHECK(cublas::fault().empty() == gpu);
}
#endif

TEST_SUITE_END();

}  // namespace glia::tests

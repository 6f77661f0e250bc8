#include "tests/gpu/demo_checks.h"

#include <bit>
#include <cmath>
#include <cstdint>

#include "tests/gpu/device_array.h"

namespace glia::tests {
namespace {

using gpu::Runtime;

// The first value that differs by more than `tolerance` of the largest wanted one; NaN always does.
std::string compare(const std::vector<float>& got, const std::vector<float>& want, double tolerance) {
  double largest = 1e-30;
  for (const float w : want) largest = std::fmax(largest, std::fabs(w));
  for (size_t i = 0; i < want.size(); ++i)
    if (!(std::fabs(got[i] - want[i]) <= tolerance * largest))
      return "element " + std::to_string(i) + ": got " + std::to_string(got[i]) + ", want " + std::to_string(want[i]);
  return {};
}

std::string block_sum(const Runtime& runtime, const Demo& demo) {
  const auto x = random_floats(20003, 1);
  double want = 0;
  for (const float v : x) want += v;
  const DeviceArray<float> device_x(runtime, x), out(runtime, std::vector<float>(1));
  check_launch(runtime, demo.block_sum(device_x.get(), out.get(), static_cast<int>(x.size()), nullptr));
  const double got = out.values()[0];
  return std::fabs(got - want) < 1e-3 ? "" : "sum " + std::to_string(got) + ", want " + std::to_string(want);
}

std::string last_block_sum(const Runtime& runtime, const Demo& demo) {
  const auto x = random_floats(20003, 2);
  double want = 0;
  for (const float v : x) want += v;
  const DeviceArray<float> device_x(runtime, x), parts(runtime, 16), out(runtime, 1);
  const DeviceArray<unsigned> ticket(runtime, std::vector<unsigned>(1));
  check_launch(runtime,
               demo.last_block_sum(device_x.get(), parts.get(), ticket.get(), out.get(), static_cast<int>(x.size()), nullptr));
  const double got = out.values()[0];
  return std::fabs(got - want) < 1e-3 ? "" : "sum " + std::to_string(got) + ", want " + std::to_string(want);
}

std::string axpy(const Runtime& runtime, const Demo& demo) {
  const auto x = random_floats(1000, 3), y = random_floats(1000, 4);
  auto want = y;
  for (size_t i = 0; i < x.size(); ++i) want[i] += 2.5f * x[i];
  const DeviceArray<float> device_x(runtime, x), device_y(runtime, y);
  check_launch(runtime, demo.axpy(2.5f, device_x.get(), device_y.get(), static_cast<int>(x.size()), nullptr));
  return compare(device_y.values(), want, 1e-6);
}

std::string transpose(const Runtime& runtime, const Demo& demo) {
  constexpr size_t n = 128;
  const auto x = random_floats(n * n, 5);
  std::vector<float> want(n * n);
  for (size_t i = 0; i < n; ++i)
    for (size_t j = 0; j < n; ++j) want[j * n + i] = x[i * n + j];
  const DeviceArray<float> device_x(runtime, x), device_y(runtime, x.size());
  check_launch(runtime, demo.transpose(device_x.get(), device_y.get(), n, nullptr));
  return compare(device_y.values(), want, 0);
}

std::string histogram(const Runtime& runtime, const Demo& demo) {
  std::mt19937 generator(6);
  std::vector<int> x(5000);
  std::vector<unsigned> want(64);
  for (int& v : x) ++want[static_cast<size_t>(v = static_cast<int>(generator() % 64))];
  const DeviceArray<int> device_x(runtime, x);
  const DeviceArray<unsigned> bins(runtime, std::vector<unsigned>(64));
  check_launch(runtime, demo.histogram(device_x.get(), bins.get(), static_cast<int>(x.size()), nullptr));
  return bins.values() == want ? "" : "the counts differ";
}

std::string compact(const Runtime& runtime, const Demo& demo) {
  const auto x = random_floats(250, 7);
  std::vector<float> want;
  for (const float v : x)
    if (v > 0) want.push_back(v);
  const DeviceArray<float> device_x(runtime, x), y(runtime, 256);
  const DeviceArray<int> count(runtime, 1);
  check_launch(runtime, demo.compact(device_x.get(), y.get(), count.get(), static_cast<int>(x.size()), nullptr));
  if (count.values()[0] != static_cast<int>(want.size())) return "the count differs";
  return compare(y.values(), want, 0);
}

std::vector<float> multiply(const std::vector<float>& a, const std::vector<float>& b, int m, int n, int k) {
  std::vector<float> c(static_cast<size_t>(m * n));
  for (int i = 0; i < m; ++i)
    for (int j = 0; j < n; ++j) {
      double sum = 0;
      for (int l = 0; l < k; ++l)
        sum += static_cast<double>(a[static_cast<size_t>(i * k + l)]) * b[static_cast<size_t>(l * n + j)];
      c[static_cast<size_t>(i * n + j)] = static_cast<float>(sum);
    }
  return c;
}

std::string sgemm(const Runtime& runtime, const Demo& demo) {
  constexpr int m = 70, n = 68, k = 52;
  const auto a = random_floats(m * k, 8), b = random_floats(k * n, 9);
  const DeviceArray<float> device_a(runtime, a), device_b(runtime, b), c(runtime, m * n);
  check_launch(runtime, demo.sgemm(device_a.get(), device_b.get(), c.get(), m, n, k, nullptr));
  return compare(c.values(), multiply(a, b, m, n, k), 1e-5);
}

std::string gemm_tf32(const Runtime& runtime, const Demo& demo) {
  constexpr int m = 64, n = 32, k = 80;
  const auto a = random_floats(m * k, 10), b = random_floats(n * k, 11);
  std::vector<float> b_transposed(b.size());
  for (size_t j = 0; j < n; ++j)
    for (size_t l = 0; l < k; ++l) b_transposed[l * n + j] = b[j * k + l];
  const DeviceArray<float> device_a(runtime, a), device_b(runtime, b), c(runtime, m * n);
  check_launch(runtime, demo.gemm_tf32(device_a.get(), device_b.get(), c.get(), m, n, k, nullptr));
  return compare(c.values(), multiply(a, b_transposed, m, n, k), 1e-3);
}

std::string gemm_bf16(const Runtime& runtime, const Demo& demo) {
  constexpr int m = 32, n = 64, k = 48;
  auto a = random_floats(m * k, 12), b = random_floats(k * n, 13);
  const auto truncate = [](std::vector<float>& values) {  // every value exact in bfloat16
    std::vector<unsigned short> words;
    for (float& v : values) {
      words.push_back(static_cast<unsigned short>(std::bit_cast<uint32_t>(v) >> 16));
      v = std::bit_cast<float>(static_cast<uint32_t>(words.back()) << 16);
    }
    return words;
  };
  const DeviceArray<unsigned short> device_a(runtime, truncate(a)), device_b(runtime, truncate(b));
  const DeviceArray<float> c(runtime, m * n);
  check_launch(runtime, demo.gemm_bf16(device_a.get(), device_b.get(), c.get(), m, n, k, nullptr));
  return compare(c.values(), multiply(a, b, m, n, k), 1e-5);
}

}  // namespace

const std::vector<DemoCheck>& demo_checks() {
  static const std::vector<DemoCheck> checks{
      {"block_sum", block_sum}, {"last_block_sum", last_block_sum}, {"axpy", axpy},
      {"transpose", transpose}, {"histogram", histogram},           {"compact", compact},
      {"sgemm", sgemm},         {"gemm_tf32", gemm_tf32},           {"gemm_bf16", gemm_bf16},
  };
  return checks;
}

}  // namespace glia::tests

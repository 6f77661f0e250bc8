#include <doctest/doctest.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cmath>
#include <fstream>
#include <limits>
#include <numeric>
#include <stdexcept>
#include <thread>

#include "tensor/cores.h"
#include "tensor/nearest.h"
#include "tensor/parallel.h"
#include "tensor/random.h"
#include "tensor/tensor.h"
#include "tests/paths.h"

using namespace glia;
using tests::TemporaryFolder;

TEST_SUITE_BEGIN("tensor");

TEST_CASE("shape: size, equality, text and limits") {
  CHECK(Shape{2, 3, 4}.size() == 24);
  CHECK(Shape{}.size() == 1);
  CHECK(Shape{5, 0}.size() == 0);
  CHECK(Shape{2, 3} != Shape{2, 3, 1});
  CHECK(Shape{2, 3}[-1] == 3);
  CHECK(to_string(Shape{2, 3}) == "(2, 3)");
  CHECK(to_string(Shape{7}) == "(7,)");
  CHECK_THROWS_AS((Shape{1, 2, 3, 4, 5, 6, 7}), InternalError);
  CHECK_THROWS_AS((Shape{-1}), InternalError);
  CHECK_THROWS_AS((Shape{int64_t(1) << 40, int64_t(1) << 40}), InternalError);
}

TEST_CASE("float16 and bfloat16 round to nearest even and keep the special values") {
  for (int bits = 0; bits < 65536; ++bits) {  // every half survives the way to float and back
    Half h;
    h.bits = static_cast<uint16_t>(bits);
    const float f = static_cast<float>(h);
    if (std::isnan(f)) continue;
    REQUIRE(Half(f).bits == h.bits);
  }
  CHECK(float(Half(65504.0f)) == 65504.0f);
  CHECK(std::isinf(float(Half(65520.0f))));
  CHECK(float(Half(65519.0f)) == 65504.0f);
  CHECK(float(Half(1.0f + 0x1p-11f)) == 1.0f);                // tie to even
  CHECK(float(Half(1.0f + 3 * 0x1p-11f)) == 1.0f + 0x1p-9f);  // tie to even, upwards
  CHECK(float(Half(0x1p-25f)) == 0.0f);
  CHECK(std::isnan(float(Half(std::numeric_limits<float>::quiet_NaN()))));
  CHECK(float(BFloat16(1.0f + 0x1p-8f)) == 1.0f);
  CHECK(float(BFloat16(1.0f + 3 * 0x1p-8f)) == 1.0f + 0x1p-6f);
  CHECK(std::isinf(float(BFloat16(std::numeric_limits<float>::max()))));
  CHECK(std::isnan(float(BFloat16(std::numeric_limits<float>::quiet_NaN()))));
}

TEST_CASE("tensor: handles, slices, casts and permutations") {
  std::vector<float> numbers(24);
  std::iota(numbers.begin(), numbers.end(), 0.0f);
  const Tensor x = Tensor::from({2, 3, 4}, numbers);
  CHECK(x.slice(1, 2).data<float>()[0] == 12.0f);
  CHECK(x.slice(1, 2).shares_data_with(x));
  CHECK_FALSE(x.clone().shares_data_with(x));
  CHECK(x.reshape({24}).data<float>()[23] == 23.0f);
  CHECK_THROWS_WITH(x.reshape({5}), "reshape: (2, 3, 4) to (5,): the number of elements differs");
  CHECK_THROWS_WITH(x.data<double>(), "tensor: float32 data read as float64, shape (2, 3, 4)");
  CHECK_THROWS_AS(Tensor().data<float>(), InternalError);
  const Tensor p = permuted(x, {2, 0, 1});
  CHECK(p.shape() == Shape{4, 2, 3});
  CHECK(p.data<float>()[(1 * 2 + 1) * 3 + 2] == numbers[(1 * 3 + 2) * 4 + 1]);
  CHECK(x.cast(DType::int64).data<int64_t>()[7] == 7);
  CHECK(Tensor::from<float>({2}, {0.0f, 2.5f}).cast(DType::boolean).data<bool>()[1]);
  CHECK(Tensor::full({3}, 1.5, DType::bfloat16).cast(DType::float64).data<double>()[2] == 1.5);
  CHECK(Tensor({0, 3}).data<float>() == nullptr);
  CHECK_THROWS_AS(Tensor({1}, DType::float32, {DeviceKind::cuda, 0}), DeviceError);
}

TEST_CASE("cores: two hyperthreads are one, and a CPU without description is one") {
  const TemporaryFolder folder;
  const auto describe = [&](int cpu, const char* siblings) {
    const auto topology = folder.path() / fmt::format("cpu{}", cpu) / "topology";
    std::filesystem::create_directories(topology);
    std::ofstream(topology / "thread_siblings_list") << siblings << '\n';
  };
  for (const int cpu : {0, 4}) describe(cpu, "0,4");
  for (const int cpu : {1, 5}) describe(cpu, "1,5");
  describe(2, "2");
  const auto cores = [&](std::vector<int> cpus) { return physical_cores(cpus, folder.path()); };
  CHECK(cores({0, 1, 2, 4, 5}) == 3);
  CHECK(cores({0, 1}) == 2);
  CHECK(cores({0, 4}) == 1);
  CHECK(cores({4}) == 1);
  CHECK(cores({0, 8, 9}) == 3);
  CHECK(cores({}) == 0);
  CHECK(available_cores() >= 1);
  CHECK(available_cores() <= std::max(1, static_cast<int>(std::thread::hardware_concurrency())));
}

TEST_CASE("permuted copies every element to its place: any rank, width of elements, and more than one thread's share") {
  const auto check = [](const Shape& shape, const std::vector<int>& axes, DType dtype) {
    Tensor x(shape);
    for (int64_t i = 0; i < x.size(); ++i) x.data<float>()[i] = static_cast<float>(i % 251);
    const Tensor y = permuted(x.cast(dtype), axes).cast(DType::float32);
    std::vector<int64_t> at(axes.size());  // of x
    int64_t wrong = 0;
    for (int64_t i = 0; i < x.size(); ++i) {
      int64_t rest = i, to = 0;
      for (size_t a = axes.size(); a-- > 0;) at[a] = rest % shape[int(a)], rest /= shape[int(a)];
      for (size_t a = 0; a < axes.size(); ++a) to = to * y.dim(int(a)) + at[size_t(axes[a])];
      wrong += y.data<float>()[to] != x.data<float>()[i];
    }
    INFO(shape, " of ", name_of(dtype));
    CHECK(wrong == 0);
  };
  for (const DType dtype : {DType::uint8, DType::bfloat16, DType::float32, DType::float64}) {
    check({}, {}, dtype);
    check({7}, {0}, dtype);
    check({5, 3}, {1, 0}, dtype);
    check({40, 70, 3, 31}, {0, 2, 3, 1}, dtype);
    check({2, 3, 1, 2, 3, 2}, {5, 0, 4, 2, 1, 3}, dtype);
  }
  CHECK(permuted(Tensor({3, 0, 2}), {2, 0, 1}).shape() == Shape{2, 3, 0});
}

TEST_CASE("memory: counters, reuse, the limit and what its error lists") {
  const MemoryStats before = memory_stats();
  reset_peak_memory();
  {
    const Tensor big({1 << 20});
    CHECK(memory_stats().live_bytes == before.live_bytes + (4u << 20));
    CHECK(reinterpret_cast<uintptr_t>(big.raw()) % 64 == 0);
  }
  CHECK(memory_stats().live_bytes == before.live_bytes);
  CHECK(memory_stats().peak_bytes == before.live_bytes + (4u << 20));
  set_memory_limit(before.live_bytes + (8u << 20));
  {
    const Tensor kept({1 << 20});
    const MemoryScope scope("conv2d");
    try {
      const Tensor more({1 << 21});
      FAIL("the limit was not enforced");
    } catch (const OutOfMemoryError& e) {
      const std::string text = e.what();
      CHECK(text.find("conv2d (2097152,) float32 (8.4 MB) was refused by the limit") != std::string::npos);
      CHECK(text.find("tensor (1048576,) float32") != std::string::npos);
      CHECK(e.code() == ExitCode::out_of_memory);
    }
  }
  set_memory_limit(0);
}

TEST_CASE("memory: freed neighbours join, whatever the order") {
  std::vector<Tensor> blocks;
  for (int i = 0; i < 64; ++i) blocks.emplace_back(Shape{65536});
  for (int i = 0; i < 64; ++i) blocks[size_t(i * 37 % 64)] = Tensor();
  const size_t live = memory_stats().live_bytes;
  const Tensor whole({64 * 65536});
  std::memset(whole.raw(), 1, whole.bytes());
  CHECK(memory_stats().live_bytes == live + whole.bytes());
}

TEST_CASE("memory guards see a write past the end") {
  set_memory_guards(true);
  {
    const Tensor t({5});
    CHECK(std::isnan(t.data<float>()[0]));
    CHECK(memory_guard_violations() == 0);
#if !defined(__SANITIZE_ADDRESS__)
    volatile float* end = t.data<float>() + 5;
    const float kept = *end;
    *end = 1;
    CHECK(memory_guard_violations() == 1);
    *end = kept;
#endif
  }
  CHECK(memory_guard_violations() == 0);
  set_memory_guards(false);
}

TEST_CASE("parallel_for: every index once, the same chunks for any number of threads, exceptions come back") {
  const int threads = num_threads();
  for (const int n : {1, 2, 5}) {
    set_num_threads(n);
    std::vector<int> seen(1003, 0);
    std::vector<int64_t> ends(size_t(num_chunks(1003, 10)), 0);
    parallel_for(1003, 10, [&](int64_t begin, int64_t end) {
      ends[size_t(begin / 10)] = end;
      for (int64_t i = begin; i < end; ++i) ++seen[size_t(i)];
    });
    CHECK(std::all_of(seen.begin(), seen.end(), [](int k) { return k == 1; }));
    CHECK(ends.back() == 1003);
    CHECK(ends.front() == 10);
    CHECK_THROWS_WITH_AS(parallel_for(100, 1,
                                      [](int64_t begin, int64_t) {
                                        if (begin == 37) throw std::runtime_error("chunk 37");
                                      }),
                         "chunk 37", std::runtime_error);
    std::atomic<int> nested{0};
    parallel_for(8, 1, [&](int64_t, int64_t) { parallel_for(8, 1, [&](int64_t, int64_t) { ++nested; }); });
    CHECK(nested == 64);
  }
  set_num_threads(threads);
  std::atomic<int64_t> sum{0};
  {
    std::vector<std::jthread> callers;
    for (int t = 0; t < 4; ++t)
      callers.emplace_back([&] {
        for (int k = 0; k < 50; ++k) parallel_for(64, 4, [&](int64_t begin, int64_t end) { sum += end - begin; });
      });
  }
  CHECK(sum == 4 * 50 * 64);
}

#if defined(__x86_64__)
TEST_CASE("parallel_for: subnormal results are zeros in a body, on every thread, and only there") {
  const int threads = num_threads();
  const volatile float tiny = std::numeric_limits<float>::denorm_min(), least = std::numeric_limits<float>::min();
  const auto subnormal = [&] { return least * 0.5f; };
  for (const int n : {1, 2, 8}) {
    set_num_threads(n);
    for (const int64_t count : {1, 64}) {
      std::atomic<int> wrong{0};
      const auto body = [&](int64_t, int64_t) {
        if (subnormal() != 0 || tiny * 0x1p100f != 0x1p-49f) ++wrong;
        if (count == 64) std::this_thread::sleep_for(std::chrono::microseconds(50));  // so that all threads take part
      };
      parallel_for(count, 1, body);
      parallel_for(2, 1, [&](int64_t, int64_t) { parallel_for(count, 1, body); });
      const SerialRegion serial;
      parallel_for(count, 1, body);
      CHECK(wrong == 0);
      CHECK_THROWS(parallel_for(count, 1, [](int64_t, int64_t) { throw std::runtime_error("a chunk"); }));
      CHECK(subnormal() > 0);
    }
  }
  set_num_threads(threads);
}
#endif

TEST_CASE("Philox4x32-10: the known answers of its authors, and sane distributions") {
  using Words = std::array<uint32_t, 4>;
  CHECK(Philox(0, 0).words(0) == Words{0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8});
  CHECK(Philox(~0ull, ~0ull).words(~0ull) == Words{0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd});
  CHECK(Philox(0x299f31d0a4093822, 0x0370734413198a2e).words(0x85a308d3243f6a88) ==
        Words{0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1});
  const Philox random(3, 4);
  double mean = 0, squares = 0;
  constexpr int n = 100000;
  for (int i = 0; i < n; ++i) {
    const double z = random.normal(uint64_t(i));
    mean += z / n;
    squares += z * z / n;
    REQUIRE(random.uniform(uint64_t(i)) < 1.0);
    REQUIRE(random.below(uint64_t(i), 7) < 7);
  }
  CHECK(std::abs(mean) < 0.02);
  CHECK(std::abs(squares - 1) < 0.02);
}

TEST_CASE("nearest names") {
  CHECK(nearest_name("trian", {"train", "predict"}) == "train");
  CHECK(nearest_name("xyzzy", {"train", "predict"}).empty());
}

TEST_CASE("devices by name") {
  CHECK(parse_device("cpu") == Device{});
  CHECK(parse_device("auto").kind != DeviceKind::emulated);
  CHECK(parse_device("emulated").kind == DeviceKind::emulated);
  CHECK_THROWS_AS(parse_device("cuda:99"), DeviceError);
  CHECK_THROWS_AS(parse_device("gpu"), UsageError);
  CHECK_THROWS_AS(parse_device("cuda:x"), UsageError);
}

TEST_CASE("tensors on the emulated device: copies, fills, guards, and no access from the host") {
  const Device device{DeviceKind::emulated};
  const Tensor host = Tensor::from<float>({2, 3}, {1, 2, 3, 4, 5, 6});
  const Tensor there = host.to(device);
  CHECK(there.device() == device);
  CHECK_THROWS_AS(there.data<float>(), InternalError);
  CHECK_THROWS_AS(host.device_data<float>(), InternalError);
  const Tensor copy = there.slice(1, 2).clone().to(Device{});
  CHECK(copy.data<float>()[0] == 4);
  CHECK(Tensor::full({}, 2.5, DType::float32, device).item() == 2.5);
  CHECK(Tensor::full({3}, -7, DType::int64, device).to(Device{}).data<int64_t>()[2] == -7);
  CHECK(Tensor::zeros({5}, DType::uint8, device).to(Device{}).data<uint8_t>()[4] == 0);
  CHECK(there.cast(DType::float64).to(Device{}).data<double>()[5] == 6);
  const size_t live = memory_stats(device).live_bytes;
  {
    const Tensor more({1000}, DType::float32, device);
    CHECK(memory_stats(device).live_bytes == live + 4000);
  }
  CHECK(memory_stats(device).live_bytes == live);
  set_memory_limit(live + 4096, device);
  CHECK_THROWS_AS(Tensor({2000}, DType::float32, device), OutOfMemoryError);
  set_memory_limit(0, device);
}

TEST_SUITE_END();

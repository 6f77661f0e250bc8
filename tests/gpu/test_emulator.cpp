// The emulator runs correct kernels correctly, in every order; streams and memory behave like a device's.
#include <doctest/doctest.h>

#include <cstdint>
#include <cstring>
#include <string>
#include <thread>

#include "tests/gpu/demo_checks.h"
#include "tensor/device.h"
#include "tensor/error.h"
#include "tests/gpu/device_array.h"

namespace glia::tests {
namespace {

using gpu::CopyKind;
using gpu::Order;

const gpu::Runtime& emulated() { return gpu::emulated_runtime(); }

void run_demos(const gpu::Runtime& runtime, const Demo& demo) {
  for (const DemoCheck& check : demo_checks()) {
    INFO(check.name);
    CHECK(check.run(runtime, demo) == "");
  }
}

}  // namespace

TEST_SUITE_BEGIN("gpu");

TEST_CASE("kernels give the same in every order of threads, blocks and streams") {
  for (const bool deferred : {false, true}) {
    for (const Order order : {Order::forward, Order::reverse}) {
      const Emulation emulation({.order = order, .deferred_streams = deferred});
      run_demos(emulated(), emulated::demo);
    }
    for (const uint64_t seed : {1, 2, 3}) {
      CAPTURE(seed);
      const Emulation emulation({.order = Order::random, .seed = seed, .deferred_streams = deferred});
      run_demos(emulated(), emulated::demo);
    }
  }
}

TEST_CASE("kernels on the GPU, where there is one") {
#if defined(GLIA_GPU_TESTS_ON_CUDA)  // this folder's kernels were compiled by nvcc too
  const gpu::Runtime* cuda = gpu::cuda_runtime();
  REQUIRE(cuda);
  if (cuda->devices().count == 0) {
    MESSAGE("not run: " << cuda->devices().reason);
    return;
  }
  check(cuda->set_device(0));
  check(cuda->check_architecture());
  run_demos(*cuda, cuda::demo);
#endif
}

TEST_CASE("several host threads launch at once") {
  std::vector<std::string> wrong(3);
  std::vector<std::thread> threads;
  for (std::string& mine : wrong)
    threads.emplace_back([&mine] {
      for (const DemoCheck& check : demo_checks()) mine += check.run(emulated(), emulated::demo);
    });
  for (std::thread& t : threads) t.join();
  for (const std::string& w : wrong) CHECK(w == "");
}

TEST_CASE("a kernel without barriers never switches stacks") {
  const auto before = gpu::emulator_stats();
  CHECK(demo_checks()[2].run(emulated(), emulated::demo) == "");
  CHECK(gpu::emulator_stats().launches == before.launches + 1);
  CHECK(gpu::emulator_stats().blocks == before.blocks + 4);
  CHECK(gpu::emulator_stats().threads == before.threads + 1024);
  CHECK(gpu::emulator_stats().switches == before.switches);
}

TEST_CASE("a refused launch names its place and shape") {
  const int code = emulated::demo.transpose(nullptr, nullptr, 0, nullptr);  // an empty grid
  CHECK(code != 0);
  const std::string text = emulated().describe(code).text;
  CHECK(text.find("cudaErrorInvalidConfiguration") != std::string::npos);
  CHECK(text.find("demo.cu:") != std::string::npos);
  CHECK(text.find("grid 0x0x1, block 64x1x1") != std::string::npos);
}

// ---- memory -------------------------------------------------------------------------------------------------------------------

TEST_CASE("fresh device memory is NaN; more than the device has is refused and does no harm") {
  const DeviceArray<float> fresh(emulated(), 100);
  for (const float v : fresh.values()) CHECK(v != v);

  const Emulation emulation({.device_memory = 1 << 20});
  void* p = nullptr;
  const gpu::Status status = emulated().allocate(&p, (1 << 20) - 200);
  CHECK(status.out_of_memory());
  CHECK(status.text.find("cudaErrorMemoryAllocation") != std::string::npos);
  CHECK(p == nullptr);
  CHECK(emulated().take_error().ok());
  size_t free_bytes = 0, total_bytes = 0;
  check(emulated().free_memory(free_bytes, total_bytes));
  CHECK(total_bytes == 1 << 20);
  CHECK(free_bytes == (1 << 20) - 400);
  check(emulated().allocate(&p, free_bytes));
  check(emulated().release(p));
}

TEST_CASE("copies: rows, directions, and pointers that are not the device's") {
  const std::vector<int> x{1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12};
  const DeviceArray<int> a(emulated(), x), b(emulated(), std::vector<int>(8));
  check(emulated().copy_2d(b.get(), 16, a.get() + 1, 24, 8, 2, CopyKind::device_to_device, nullptr));
  CHECK(b.values() == std::vector<int>{2, 3, 0, 0, 8, 9, 0, 0});
  check(emulated().set_bytes(b.get() + 2, 1, 4, nullptr));
  CHECK(b.values()[2] == 0x01010101);

  int host[4] = {};
  CHECK_FALSE(emulated().copy(host, x.data(), 16, CopyKind::host_to_device, nullptr).ok());
  CHECK_FALSE(emulated().copy(host, host, 16, CopyKind::device_to_host, nullptr).ok());
  CHECK_FALSE(emulated().copy(b.get() + 6, a.get(), 16, CopyKind::device_to_device, nullptr).ok());
  CHECK_FALSE(emulated().release(host).ok());
  CHECK(emulated().take_error().ok());  // who got the status has the error; nobody finds it again
}

TEST_CASE("fill repeats patterns of every size at every alignment") {
  for (const size_t size : {1, 2, 4, 8})
    for (const size_t offset : {0, 1, 3})
      for (const size_t count : {0, 1, 2, 5, 37, 1000}) {
        const unsigned char pattern[8] = {1, 2, 3, 4, 5, 6, 7, 8};
        std::vector<unsigned char> want(9000, 99);
        for (size_t i = 0; i < count * size; ++i) want[offset * size + i] = pattern[i % size];
        const DeviceArray<unsigned char> bytes(emulated(), std::vector<unsigned char>(9000, 99));
        check(emulated().fill(bytes.get() + offset * size, pattern, size, count, nullptr));
        CAPTURE(size);
        CAPTURE(offset);
        CAPTURE(count);
        CHECK(bytes.values() == want);
      }
  const DeviceArray<char> bytes(emulated(), 64);
  CHECK_FALSE(emulated().fill(bytes.get(), "abc", 3, 1, nullptr).ok());
  CHECK_FALSE(emulated().fill(bytes.get() + 1, "abcd", 4, 1, nullptr).ok());
}

// ---- streams ------------------------------------------------------------------------------------------------------------------

namespace {

// y += 3 x, where x arrives on one stream and is used on another. What y came to.
std::vector<float> two_streams(bool wait_for_copy) {
  const auto x = random_floats(500, 1);
  float* pinned = nullptr;
  check(emulated().allocate_host(reinterpret_cast<void**>(&pinned), 2000));
  std::memcpy(pinned, x.data(), 2000);
  const DeviceArray<float> device_x(emulated(), 500), y(emulated(), std::vector<float>(500));
  gpu::Stream copying = nullptr, computing = nullptr;
  gpu::Event copied = nullptr;
  check(emulated().create_stream(&copying));
  check(emulated().create_stream(&computing));
  check(emulated().create_event(&copied, false));
  check(emulated().synchronize(nullptr));
  check(emulated().copy(device_x.get(), pinned, 2000, CopyKind::host_to_device, copying));
  check(emulated().record(copied, copying));
  if (wait_for_copy) check(emulated().wait(computing, copied));
  check_launch(emulated(), emulated::demo.axpy(3, device_x.get(), y.get(), 500, computing));
  check(emulated().synchronize(computing));
  check(emulated().destroy_event(copied));
  check(emulated().destroy_stream(computing));
  check(emulated().destroy_stream(copying));
  check(emulated().release_host(pinned));
  return y.values();
}

}  // namespace

TEST_CASE("deferred streams show a missing wait between streams, and only that") {
  auto want = random_floats(500, 1);
  for (float& v : want) v *= 3;
  CHECK(two_streams(true) == want);
  CHECK(two_streams(false) == want);  // work at once hides the mistake
  const Emulation emulation({.deferred_streams = true});
  CHECK(two_streams(true) == want);
  const auto wrong = two_streams(false);
  CHECK(wrong[0] != wrong[0]);
}

TEST_CASE("deferred streams: pinned memory is read late, other host memory before the call returns") {
  const Emulation emulation({.deferred_streams = true});
  int* pinned = nullptr;
  check(emulated().allocate_host(reinterpret_cast<void**>(&pinned), 4));
  int pageable = *pinned = 1;
  const DeviceArray<int> late(emulated(), 1), early(emulated(), 1);
  check(emulated().copy(late.get(), pinned, 4, CopyKind::host_to_device, nullptr));
  check(emulated().copy(early.get(), &pageable, 4, CopyKind::host_to_device, nullptr));
  pageable = *pinned = 2;
  CHECK(late.values()[0] == 2);
  CHECK(early.values()[0] == 1);
  check(emulated().release_host(pinned));
}

TEST_CASE("events: asking does not wait but gets there; time passes between two") {
  const Emulation emulation({.deferred_streams = true});
  gpu::Stream stream = nullptr;
  gpu::Event start = nullptr, stop = nullptr;
  check(emulated().create_stream(&stream));
  check(emulated().create_event(&start, true));
  check(emulated().create_event(&stop, true));
  bool reached = false;
  check(emulated().is_reached(stop, &reached));
  CHECK(reached);  // nothing recorded yet
  const DeviceArray<float> x(emulated(), 1000);
  check(emulated().record(start, stream));
  check_launch(emulated(), emulated::demo.axpy(1, x.get(), x.get(), 1000, stream));
  check(emulated().record(stop, stream));
  float milliseconds = -1;
  CHECK_FALSE(emulated().elapsed(start, stop, &milliseconds).ok());
  check(emulated().is_reached(stop, &reached));
  CHECK_FALSE(reached);
  for (int asked = 0; !reached && asked < 10; ++asked) check(emulated().is_reached(stop, &reached));
  CHECK(reached);
  check(emulated().elapsed(start, stop, &milliseconds));
  CHECK(milliseconds > 0);
  check(emulated().destroy_event(start));
  check(emulated().destroy_event(stop));
  check(emulated().destroy_stream(stream));
}

TEST_CASE("a device that is not there, and one that there is no code for") {
  gpu::EmulatorConfig& config = gpu::emulator_config();
  CHECK_THROWS_WITH_AS(require_available({DeviceKind::emulated, 7}), doctest::Contains("1 CUDA device, numbered from 0"), DeviceError);
  config.fault = gpu::MachineFault::no_code;
  const gpu::Status status = emulated().check_architecture();
  CHECK(status.code == 209);
  CHECK(status.text == "this program holds no code for device 0 (CUDA emulated on the CPU, compute capability 9.0); it was built for sm_90");
  config.fault = gpu::MachineFault::none;
  (void)emulated().take_error();
}

TEST_CASE("the runtimes say what they are") {
  CHECK(std::string(emulated().name) == "emulated");
  CHECK(emulated().devices().count == 1);
  CHECK_FALSE(emulated().set_device(1).ok());
  check(emulated().set_device(0));
  gpu::Properties p;
  check(emulated().properties(0, p));
  CHECK(p.name.find("emulated") != std::string::npos);
  CHECK(p.major == 9);
  CHECK(emulated().compiled_architectures() == std::vector<int>{90});
  check(emulated().check_architecture());
  if (const gpu::Runtime* cuda = gpu::cuda_runtime()) {
    CHECK(std::string(cuda->name) == "cuda");
    CHECK_FALSE(cuda->compiled_architectures().empty());
    CHECK((cuda->devices().count > 0) == cuda->devices().reason.empty());
  }
}

TEST_SUITE_END();

}  // namespace glia::tests

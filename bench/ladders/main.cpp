// glia_ladders [LADDER...] [--device emulated|cuda] [--step N] [--repeat N]: runs the steps of the ladders, checks each against a sum in
// double, and times it. On the emulator the sizes are small and the times those of a CPU: they say nothing about a GPU.
#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <string>

#include "bench/ladders/ladder.h"
#include "gpu/runtime.h"
#include "tensor/stream.h"

namespace glia::ladders {
namespace {

struct Options {
  std::vector<std::string> ladders;
  Device device{DeviceKind::emulated};
  int step = 0;  // 0: all
  int repeat = 1;
};

constexpr const Ladder* all[] = {&gemm, &convolution, &reduction, &softmax, &transpose};

Options read(int argc, char** argv) {
  Options options;
  for (int i = 1; i < argc; ++i) {
    const std::string argument = argv[i];
    const auto value = [&]() -> std::string {
      if (++i == argc) throw UsageError("{} wants a value", argument);
      return argv[i];
    };
    if (argument == "--device") {
      options.device = parse_device(value());
    } else if (argument == "--step") {
      options.step = std::atoi(value().c_str());
    } else if (argument == "--repeat") {
      options.repeat = std::max(1, std::atoi(value().c_str()));
    } else if (argument.starts_with("--")) {
      throw UsageError("usage: glia_ladders [gemm|convolution|reduction|softmax|transpose]... [--device emulated|cuda] [--step N] [--repeat N]");
    } else {
      options.ladders.push_back(argument);
    }
  }
  return options;
}

// Largest difference over the largest expected value.
double error_of(const Tensor& got, const std::vector<double>& want) {
  double worst = 0, largest = 1e-30;
  for (size_t i = 0; i < want.size(); ++i) {
    const double difference = std::abs(double(got.data<float>()[i]) - want[i]);
    worst = std::isnan(worst) || difference <= worst ? worst : difference;  // NaN stays
    largest = std::max(largest, std::abs(want[i]));
  }
  return worst / largest;
}

double seconds_of(StepBody* body, const Problem& p, Device device, int repeat) {
  std::vector<double> times;
  for (int i = 0; i < repeat; ++i) {
    synchronize(device);
    const auto start = std::chrono::steady_clock::now();
    body(p);
    synchronize(device);
    times.push_back(std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count());
  }
  std::nth_element(times.begin(), times.begin() + repeat / 2, times.end());
  return times[static_cast<size_t>(repeat / 2)];
}

// Returns the number of steps whose result is wrong.
int climb(const Ladder& ladder, const Options& options) {
  const bool emulated = options.device.kind == DeviceKind::emulated;
  const auto& sizes = emulated ? ladder.small : ladder.large;
  const Problem host = ladder.make(sizes);
  const Problem small = ladder.make(ladder.small);
  const std::vector<double> want = ladder.expected(small);
  const auto end = std::find(sizes.begin(), sizes.end(), 0);
  fmt::print("\n{}: {} ({})\n", ladder.name, ladder.what, fmt::join(sizes.begin(), end, " x "));
  const auto there = [&](const Problem& p) {
    Problem moved{{}, p.out.to(options.device), p.size};
    for (const Tensor& t : p.in) moved.in.push_back(t.to(options.device));
    return moved;
  };
  const Problem to_check = there(small), to_time = emulated ? to_check : there(host);
  int wrong = 0, number = 0;
  double before = 0;
  for (const Step& step : ladder.steps) {
    if (++number != options.step && options.step != 0) continue;
    StepBody* body = emulated ? step.emulated : step.cuda;
    to_check.out.fill(NAN);
    body(to_check);
    const double error = error_of(to_check.out.to(Device{}), want), seconds = seconds_of(body, to_time, options.device, options.repeat);
    const double flops = ladder.flops(sizes);
    const std::string rate = emulated    ? ""
                             : flops > 0 ? fmt::format("{:9.1f} GFLOP/s", flops / seconds / 1e9)
                                       : fmt::format("{:9.1f} GB/s", ladder.bytes(sizes) / seconds / 1e9);
    const bool good = error <= step.tolerance;
    fmt::print("  {:<30} {:>10.3f} ms  {}{}  error {:.1e}{}\n", step.name, seconds * 1e3, rate,
               before > 0 && !emulated ? fmt::format("  x{:<5.2f}", before / seconds) : "", error, good ? "" : "  WRONG");
    before = seconds;
    wrong += !good;
  }
  return wrong;
}

int run(int argc, char** argv) {
  const Options options = read(argc, argv);
  for (const std::string& name : options.ladders)
    if (std::none_of(std::begin(all), std::end(all), [&](const Ladder* l) { return name == l->name; }))
      throw UsageError("ladder '{}': there are gemm, convolution, reduction, softmax, transpose", name);
  if (options.device.kind == DeviceKind::emulated)
    fmt::print("emulated: small sizes, and the times of a CPU, which say nothing about a GPU\n");
  int wrong = 0;
  for (const Ladder* ladder : all)
    if (options.ladders.empty() || std::count(options.ladders.begin(), options.ladders.end(), ladder->name))
      wrong += climb(*ladder, options);
  return wrong ? 1 : 0;
}

}  // namespace
}  // namespace glia::ladders

int main(int argc, char** argv) {
  try {
    return glia::ladders::run(argc, argv);
  } catch (const glia::Error& e) {
    std::fprintf(stderr, "glia_ladders: %s\n", e.what());
    return static_cast<int>(e.code());
  }
}

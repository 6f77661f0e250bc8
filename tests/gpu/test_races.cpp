// The race checker, and with it: is every barrier of the demonstration kernels needed, and would its absence be noticed? Both say
// something only in a program whose kernels are compiled for the race checker.
#include <doctest/doctest.h>

#include <algorithm>
#include <string>

#include "tests/gpu/apart.h"
#include "tests/gpu/demo_checks.h"
#include "tests/gpu/device_array.h"
#include "tests/gpu/races.h"

namespace glia::tests {
namespace {

const gpu::Runtime& emulated() { return gpu::emulated_runtime(); }

bool names(const std::string& report, unsigned line) {
  return report.find("races.cu:" + std::to_string(line)) != std::string::npos;
}

constexpr gpu::EmulatorConfig kOrders[] = {{.order = gpu::Order::forward},
                                           {.order = gpu::Order::reverse},
                                           {.order = gpu::Order::random, .seed = 1},
                                           {.order = gpu::Order::random, .seed = 2}};

// Whether any demonstration goes wrong without that barrier. One may crash: run apart.
bool notices_absence_of(const gpu::BarrierSite& site) {
  gpu::skip_barrier(site);
  for (const gpu::EmulatorConfig& config : kOrders) {
    const Emulation emulation(config);
    for (const DemoCheck& check : demo_checks())
      if (check.run(emulated(), emulated::demo) != "" || gpu::race_count() > 0) return true;
  }
  return false;
}

}  // namespace

TEST_SUITE_BEGIN("gpu");

TEST_CASE("races are found in every order, both lines are named, and nothing else is called a race") {
  if (!gpu::race_checking()) return;
  for (const gpu::EmulatorConfig& config : kOrders) {
    const Emulation emulation(config);
    for (const Race& race : races()) {
      const DeviceArray<float> y(emulated(), std::vector<float>(1024));
      gpu::reset_races();
      check_launch(emulated(), race.run(y.get()));
      check(emulated().synchronize(nullptr));
      INFO(race.name, ": ", gpu::race_report());
      CHECK((gpu::race_count() > 0) == (race.lines.first != 0));
      if (race.lines.first == 0) continue;
      CHECK(names(gpu::race_report(), race.lines.first));
      CHECK(names(gpu::race_report(), race.lines.second));
    }
  }
  gpu::reset_races();
}

TEST_CASE("a kernel that touches host memory is reported") {
  if (!gpu::race_checking()) return;
  gpu::reset_races();
  float* pinned = nullptr;
  check(emulated().allocate_host(reinterpret_cast<void**>(&pinned), 4));
  check_launch(emulated(), write_through(pinned));
  CHECK(gpu::race_report() == "");
  check(emulated().release_host(pinned));
  const std::vector<float> host(1);
  check_launch(emulated(), write_through(const_cast<float*>(host.data())));
  CHECK(gpu::race_report().find("write to host memory") != std::string::npos);
  CHECK(gpu::race_report().find("races.cu:") != std::string::npos);
  gpu::reset_races();
}

TEST_CASE("barrier mutation: every barrier is needed, and its absence noticed") {
  gpu::record_barrier_sites(true);
  for (const DemoCheck& check : demo_checks()) CHECK(check.run(emulated(), emulated::demo) == "");
  const std::vector<gpu::BarrierSite> sites = gpu::barrier_sites();
  gpu::record_barrier_sites(false);
  const auto count = [&](const char* kind) {
    return std::count_if(sites.begin(), sites.end(), [&](const gpu::BarrierSite& s) { return s.kind == kind; });
  };
  CHECK(count("__syncthreads") == 10);
  CHECK(count("__syncwarp") == 2);
  CHECK(count("cp_async_wait") == 2);

  for (const gpu::BarrierSite& site : sites) {
    const Ending ending = run_apart([&] { return notices_absence_of(site); });
    INFO(site.kind, " at ", site.file, ":", site.line);
    if (gpu::race_checking() || site.kind == "cp_async_wait") CHECK(ending.status != 0);
  }
}

TEST_SUITE_END();

}  // namespace glia::tests

// The kernels of all ops under the emulator's race checker, and barrier mutation: each of their barriers is left out in turn, which
// the race checker or a wrong result has to notice. Only in glia_race_tests, whose kernels are compiled for it.
#include <doctest/doctest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <csignal>
#include <cstdlib>
#include <map>
#include <regex>

#include "gpu/emulator_config.h"
#include "tests/op_run.h"

namespace glia::tests {
namespace {

constexpr Device emulated{DeviceKind::emulated};
constexpr int64_t most_elements = 20000;  // of a case's inputs together: the checker is fifty times slower than a plain run

// While one works on some, the ops whose names match the environment's GLIA_CASES.
std::vector<const OpCase*> race_cases() {
  const char* pattern = std::getenv("GLIA_CASES");
  const std::regex wanted(pattern ? pattern : ".*");
  std::vector<const OpCase*> chosen;
  for (const OpCase& c : op_cases()) {
    int64_t elements = 0;
    for (const OpInput& input : c.inputs) elements += input.kind == OpInput::Kind::absent ? 0 : input.shape.size();
    if (c.on_device && elements <= most_elements && std::regex_match(c.op, wanted)) chosen.push_back(&c);
  }
  REQUIRE(!chosen.empty());
  return chosen;
}

Run run_emulated(const OpCase& c) { return run_case(c, cast_all(make_inputs(c), DType::float32), KernelChoice::hand, emulated); }

bool same_run(const Run& a, const Run& b) {
  for (size_t i = 0; i < a.outputs.size(); ++i)
    if (!same_bits(a.outputs[i], b.outputs[i])) return false;
  for (size_t i = 0; i < a.gradients.size(); ++i)
    if (!same_bits(a.gradients[i], b.gradients[i])) return false;
  return true;
}

// Whether a run without that barrier differs, races, or fails. In a process of its own, since it may end it.
bool absence_is_noticed(const gpu::BarrierSite& site, const std::vector<const OpCase*>& cases) {
  std::fflush(nullptr);
  const pid_t child = fork();
  REQUIRE(child >= 0);
  if (child == 0) {
    for (const int signal : {SIGABRT, SIGSEGV, SIGBUS}) std::signal(signal, SIG_DFL);  // doctest would report them
    if (!std::freopen("/dev/null", "w", stderr)) _exit(2);
    int noticed = 0;
    for (const OpCase* c : cases) {
      const Run want = run_emulated(*c);
      gpu::skip_barrier(site);
      try {
        if (!same_run(run_emulated(*c), want) || gpu::race_count() > 0) noticed = 1;
      } catch (const std::exception&) {
        noticed = 1;
      }
      gpu::skip_barrier({});
      if (noticed) break;
    }
    _exit(noticed);
  }
  int status = 0;
  waitpid(child, &status, 0);
  return !WIFEXITED(status) || WEXITSTATUS(status) == 1;
}

}  // namespace

TEST_SUITE_BEGIN("races");

TEST_CASE("no kernel has a race") {
  REQUIRE(gpu::race_checking());
  for (const OpCase* c : race_cases()) {
    gpu::reset_races();
    run_emulated(*c);
    INFO(c->op, " [", c->label, "]: ", gpu::race_report());
    CHECK(gpu::race_count() == 0);
  }
  gpu::reset_races();
}

TEST_CASE("barrier mutation: every barrier is needed, and its absence noticed") {
  using Site = std::pair<std::string, unsigned>;
  std::map<Site, std::pair<gpu::BarrierSite, std::vector<const OpCase*>>> sites;
  for (const OpCase* c : race_cases()) {
    gpu::record_barrier_sites(true);
    run_emulated(*c);
    for (const gpu::BarrierSite& site : gpu::barrier_sites()) {
      auto& entry = sites[{site.file, site.line}];
      entry.first = site;
      entry.second.push_back(c);
    }
    gpu::record_barrier_sites(false);
  }
  gpu::reset_races();
  for (const auto& [where, entry] : sites) {
    INFO(entry.first.kind, " at ", where.first, ":", where.second);
    CHECK(absence_is_noticed(entry.first, entry.second));
  }
}

TEST_SUITE_END();

}  // namespace glia::tests

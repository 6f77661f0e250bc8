// Configuration, statistics, and which barriers were met or are left out.
#include <atomic>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <mutex>
#include <string_view>

#include "gpu/emulator/block.h"
#include "gpu/emulator_config.h"

namespace gpu {

namespace {

EmulatorConfig config_from_environment() {
  EmulatorConfig config;
  if (const char* order = std::getenv("GLIA_EMULATE_ORDER")) {
    const std::string_view name = order;
    if (name == "reverse") config.order = Order::reverse;
    if (name == "random") config.order = Order::random;
  }
  if (const char* seed = std::getenv("GLIA_EMULATE_SEED")) config.seed = std::strtoull(seed, nullptr, 10);
  if (const char* streams = std::getenv("GLIA_EMULATE_STREAMS"))
    config.deferred_streams = std::string_view(streams) == "deferred";
  if (const char* bytes = std::getenv("GLIA_EMULATE_MEMORY")) config.device_memory = std::strtoull(bytes, nullptr, 10);
  if (const char* text = std::getenv("GLIA_EMULATE_FAULT")) {
    const std::string_view name = text;
    if (name == "no_driver") config.fault = MachineFault::no_driver;
    if (name == "old_driver") config.fault = MachineFault::old_driver;
    if (name == "no_gpu") config.fault = MachineFault::no_gpu;
    if (name == "no_code") config.fault = MachineFault::no_code;
    if (name.substr(0, 7) == "kernel:") config.failing_kernel = std::strtoull(text + 7, nullptr, 10);
  }
  return config;
}

// What barrier mutation knows. Barriers look here only while emulator::barriers_watched.
struct Mutation {
  std::mutex mutex;
  bool record = false, print = false;
  std::vector<BarrierSite> seen;
  BarrierSite skip;
  void update() { emulator::barriers_watched = record || print || !skip.file.empty(); }

  Mutation() {
    print = std::getenv("GLIA_EMULATE_SITES") != nullptr;
    if (const char* text = std::getenv("GLIA_EMULATE_SKIP")) {
      char* end = nullptr;
      skip.line = static_cast<unsigned>(std::strtoul(text, &end, 10));
      if (*end == ':') skip.file = end + 1;
    }
    update();
  }
};

Mutation& mutation() {
  static Mutation instance;
  return instance;
}

bool ends_with(std::string_view path, std::string_view end) {
  return path.size() >= end.size() && path.substr(path.size() - end.size()) == end;
}

}  // namespace

EmulatorConfig& emulator_config() {
  static EmulatorConfig config = config_from_environment();
  return config;
}

const EmulatorStats& emulator_stats() { return emulator::mutable_stats(); }

void record_barrier_sites(bool on) {
  Mutation& m = mutation();
  const std::lock_guard lock(m.mutex);
  m.record = on;
  m.seen.clear();
  m.update();
}

std::vector<BarrierSite> barrier_sites() {
  Mutation& m = mutation();
  const std::lock_guard lock(m.mutex);
  return m.seen;
}

void skip_barrier(const BarrierSite& site) {
  Mutation& m = mutation();
  const std::lock_guard lock(m.mutex);
  m.skip = site;
  m.update();
}

namespace emulator {

EmulatorStats& mutable_stats() {
  static EmulatorStats stats;
  return stats;
}

std::atomic<bool> barriers_watched = false;

void watch_barriers_as_environment_says() { mutation(); }

bool watched_barrier_skipped(const char* kind, Site site) {
  Mutation& m = mutation();
  const std::lock_guard lock(m.mutex);
  if (m.record || m.print) {
    const BarrierSite here{kind, site.file, site.line};
    bool known = false;
    for (const BarrierSite& s : m.seen) known |= s == here;
    if (!known) {
      m.seen.push_back(here);
      if (m.print) std::fprintf(stderr, "barrier %s %u:%s\n", kind, site.line, site.file);
    }
  }
  return !m.skip.file.empty() && m.skip.line == site.line && ends_with(site.file, m.skip.file) &&
         (m.skip.kind.empty() || m.skip.kind == kind);
}

}  // namespace emulator
}  // namespace gpu

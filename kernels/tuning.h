#pragma once
// --kernels auto on a GPU: of several ways to compute the same thing, the one that was fastest there. A problem that is new is computed
// once by each way, timed by events, and the winner is kept, in memory and in a file of the user's cache folder
// ($XDG_CACHE_HOME/glia or ~/.cache/glia), so that later runs choose alike and give the same bits. The file is of one GPU, driver
// and tuning_version; one that cannot be read, or is of others, is written anew. All ways are deterministic.
// GLIA_TUNE=off in the environment and set_tuning(false) keep to the fixed rules instead, which need no measurement.
#include <array>
#include <bit>
#include <functional>
#include <span>

#include "kernels/op.h"

namespace glia {

constexpr int tuning_version = 2;  // raise it where a way's speed, or what its name means, changes

// Whether ways are measured on this device: --kernels auto, a GPU (or a test's timer), and not switched off.
bool tuning(Device device);
void set_tuning(bool on);

// What distinguishes one problem from another: first a number for the op, then sizes, strides, precision().
using TuningKey = std::array<int64_t, 24>;
// For sizes that differ from step to step, such as a number of regions: the next power of two.
constexpr int64_t rounded_count(int64_t n) { return int64_t(std::bit_ceil(uint64_t(n))); }

struct Ways {
  std::span<const char* const> names;      // what the file calls them: without blanks
  std::function<bool(size_t)> applicable;  // to this problem
  std::function<void(size_t)> run;         // computes the whole result; a way that the device refuses throws and is not chosen
};

// Computes by the fastest way. Where it has to measure, it waits for the device. Throws what the last way threw when none works.
void run_fastest(const TuningKey& key, const Ways& ways, Device device);

// For tests: milliseconds that `run` takes, on any device, instead of events on a GPU; nothing: events. Forgets all choices, so that the
// file and the environment are read again.
using TuningTimer = std::function<double(const std::function<void()>& run)>;
void set_tuning_timer(TuningTimer timer);

}  // namespace glia

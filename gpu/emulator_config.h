#pragma once
// How kernels run on the CPU, and what was seen while they did. Plain C++: tests and the program include it, kernels do not.
#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

namespace gpu {

// The order in which the threads of a block, and the blocks of a grid, run between two meetings.
enum class Order { forward, reverse, random };

// What the emulated machine lacks, for tests of the answers.
enum class MachineFault { none, no_driver, old_driver, no_gpu, no_code };

struct EmulatorConfig {
  Order order = Order::forward;  // GLIA_EMULATE_ORDER=forward|reverse|random
  uint64_t seed = 1;             // of the random order. GLIA_EMULATE_SEED=n
  // Work in a stream runs only once something waits for it, which shows a missing wait. GLIA_EMULATE_STREAMS=deferred|immediate
  bool deferred_streams = false;
  // A barrier that some threads of the block have left behind or meet at another line is an error, as CUDA's manual has it.
  bool strict = true;
  size_t device_memory = 0;  // bytes of the emulated device; 0: as much as the machine has. GLIA_EMULATE_MEMORY=bytes
  int multiprocessors = 4;   // what properties() says: launchers size their grids by it
  MachineFault fault = MachineFault::none;  // GLIA_EMULATE_FAULT=no_driver|old_driver|no_gpu|no_code
  // The kernel with this number, from 1 and counted by all launches, fails as on a device: whoever waits next learns of it, and no
  // later kernel runs. 0: none. GLIA_EMULATE_FAULT=kernel:N
  uint64_t failing_kernel = 0;
};
// One for the process; change it while nothing runs. The first call reads the environment.
EmulatorConfig& emulator_config();

struct EmulatorStats {
  uint64_t launches = 0, blocks = 0, threads = 0, switches = 0;
};
const EmulatorStats& emulator_stats();

// ---- barrier mutation: is every barrier needed, and would the tests notice if it were missing? --------------------------------

struct BarrierSite {
  std::string kind;  // __syncthreads, __syncwarp, cp_async_wait
  std::string file;
  unsigned line = 0;
  bool operator==(const BarrierSite&) const = default;
};
void record_barrier_sites(bool on);  // forgets what was recorded. GLIA_EMULATE_SITES=1 prints each when first reached
std::vector<BarrierSite> barrier_sites();
// That barrier does nothing from now on; a site without a file puts it back. GLIA_EMULATE_SKIP=LINE:FILE, where FILE may be the
// path's end
void skip_barrier(const BarrierSite& site);

// ---- the race checker (gpu/emulator/race_checker.cpp) -------------------------------------------------------------------------

bool race_checking();  // whether this program's kernels were built for it
int race_count();      // races seen since the last reset; the program fails at its end if there are any
void reset_races();
std::string race_report();  // each place once, one per line

}  // namespace gpu

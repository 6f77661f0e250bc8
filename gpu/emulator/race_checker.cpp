// Finds data races inside a kernel, whatever the schedule and the data.
//
// Kernel files are compiled with -fsanitize=thread, but linked with our hooks (race_build/) instead of that sanitizer's library,
// so every load and store of a kernel comes here. For every word of shared and device memory we keep the last write and two
// concurrent reads. Two accesses of different threads, one of them a write and not both atomic, need an order between them:
//   one block     a __syncthreads between them
//   one warp      also a __syncwarp that both took part in: each lane keeps how far it knows every other lane (a vector clock)
//   two blocks    the end of the grid; or fence and atomic in one, then an atomic on the same address in the other
// A kernel that touches memory which is neither the device's, nor shared, nor its own, is reported as well: on a device that
// address means nothing.
#include <dlfcn.h>
#include <link.h>

#include <algorithm>
#include <array>
#include <cstdio>
#include <cstdlib>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <unordered_map>
#include <utility>
#include <vector>

#include "gpu/emulator/block.h"
#include "gpu/emulator/race_checker.h"

namespace gpu::emulator {

namespace {

struct Access {
  uint64_t where = 0;     // of the source: see pack_where
  uint32_t interval = 0;  // between which two barriers; 0: no access yet
  uint32_t clock = 0;     // of the lane
  uint32_t stamp = 0;     // fences seen so far, by anybody
  uint16_t thread = 0;    // rank in the block
  bool atomic = false;
};

// The accesses to one word, or to one byte on pages where somebody uses parts of words.
struct Cell {
  Access write, read, other_read;  // other_read: concurrent with `read`, or older
};

constexpr uintptr_t kPageBytes = 256;  // allocations start at multiples, so that a page belongs to one
struct Page {
  unsigned granule = 4;
  std::vector<Cell> cells{kPageBytes / 4};

  void split(unsigned finer) {
    std::vector<Cell> split(kPageBytes / finer);
    for (size_t i = 0; i < split.size(); ++i) split[i] = cells[i * finer / granule];
    cells = std::move(split);
    granule = finer;
  }
};

// What an atomic after a fence published: accesses of its block older than `stamp`, by its own thread or before its interval.
struct Release {
  uint32_t block_begin, interval, stamp;
  uint16_t thread;
};
struct Acquired {
  Release release;
  uint32_t interval;  // known to `thread` at once and to its block after the next barrier
  uint16_t thread;
};

using LaneClocks = std::array<std::array<uint32_t, 32>, 32>;  // [lane][other lane]

struct Checker {
  std::unordered_map<uintptr_t, std::unique_ptr<Page>> pages;
  struct Cached {
    uintptr_t number = 0;
    Page* page = nullptr;
  };
  std::array<Cached, 1024> cache{};

  uint32_t interval = 0, grid_begin = 0, block_begin = 0, stamp = 1;
  std::vector<std::pair<uint32_t, unsigned>> blocks;   // first interval of each block of this grid, and its number
  std::vector<std::pair<uint32_t, LaneClocks>> warps;  // with the block they are of
  std::unordered_map<uintptr_t, std::vector<Release>> releases;
  std::vector<Acquired> acquired;
  std::array<uint32_t, 1024> thread_fence{};
  uint32_t barrier_fence = 0, last_fence = 0;

  std::set<std::pair<uint64_t, uint64_t>> seen;
  std::map<uint64_t, std::string> lines;
  std::string report;
  int count = 0;
};
Checker& checker() {
  static auto* instance = new Checker;  // outlives the check at exit
  return *instance;
}

// ---- where in the source ------------------------------------------------------------------------------------------------------

// Either a return address or, with the top bit, a file name's address and 15 bits of line.
constexpr uint64_t kIsSite = 1ull << 63;
uint64_t pack_where(const void* pc) { return reinterpret_cast<uint64_t>(pc); }
uint64_t pack_where(Site site) {
  return kIsSite | static_cast<uint64_t>(std::min(site.line, 0x7fffu)) << 48 | reinterpret_cast<uint64_t>(site.file);
}

// The innermost line that is a kernel's and not a wrapper's.
std::string line_of_address(const void* pc) {
  Dl_info info{};
  if (!dladdr(pc, &info)) return "?";
  const auto offset = static_cast<const char*>(pc) - static_cast<const char*>(info.dli_fbase) - 1;
  char hex[32];
  std::snprintf(hex, sizeof hex, "0x%tx", offset);
  FILE* pipe = popen(("addr2line -i -e '" + std::string(info.dli_fname) + "' " + hex + " 2>/dev/null").c_str(), "r");
  if (!pipe) return hex;
  std::string best;
  char text[1024];
  while (std::fgets(text, sizeof text, pipe)) {
    std::string line = text;
    line = line.substr(0, line.find_first_of(" \n"));
    if (best.empty() || best.find("gpu/emulator/") != std::string::npos || best.find("gpu/mma.h") != std::string::npos)
      best = line;
  }
  pclose(pipe);
  return best.empty() || best[0] == '?' ? std::string(info.dli_fname) + "+" + hex : best;
}

const std::string& line_of(uint64_t where) {
  std::string& line = checker().lines[where];
  if (!line.empty()) return line;
  if (where & kIsSite)
    line = std::string(reinterpret_cast<const char*>(where & 0xffffffffffffull)) + ":" + std::to_string(where >> 48 & 0x7fff);
  else
    line = line_of_address(reinterpret_cast<const void*>(where));
  return line;
}

std::string who(const Access& a) {
  const auto& blocks = checker().blocks;
  auto block = std::upper_bound(blocks.begin(), blocks.end(), std::pair{a.interval, ~0u});
  if (block != blocks.begin()) --block;
  return "thread " + std::to_string(a.thread) + " of block " + std::to_string(block->second) + " at " + line_of(a.where);
}

void report(uint64_t first, uint64_t second, const std::string& text) {
  Checker& c = checker();
  ++c.count;
  if (!c.seen.insert({first, second}).second) return;
  c.report += text + "\n";
  std::fprintf(stderr, "%s\n", text.c_str());
}

void report_race(const char* kind, const Access& a, const Access& b, uintptr_t at, bool shared) {
  char address[32];
  std::snprintf(address, sizeof address, "%#lx", static_cast<unsigned long>(at));
  if (checker().seen.contains({a.where, b.where})) {
    ++checker().count;
    return;
  }
  report(a.where, b.where,
         std::string("race: ") + kind + " of " + (shared ? "shared" : "device") + " memory " + address + ": " + who(a) +
             ", then " + who(b));
}

// ---- order --------------------------------------------------------------------------------------------------------------------

LaneClocks& clocks_of(unsigned warp) {
  Checker& c = checker();
  if (c.warps.size() <= warp) c.warps.resize(warp + 1);
  auto& [block, clocks] = c.warps[warp];
  if (block != c.block_begin) {
    block = c.block_begin;
    clocks = {};
  }
  return clocks;
}

bool published(const Access& a, const Access& b) {
  const Checker& c = checker();
  return std::any_of(c.acquired.begin(), c.acquired.end(), [&](const Acquired& known) {
    const Release& r = known.release;
    return a.interval >= r.block_begin && a.stamp < r.stamp &&
           (a.thread == r.thread ? a.interval <= r.interval : a.interval < r.interval) &&
           (known.thread == b.thread || known.interval < b.interval);
  });
}

// Whether `a`, an earlier access, is sure to come before the running thread's `b` on a device too.
bool ordered(const Access& a, const Access& b, bool shared) {
  const Checker& c = checker();
  if (a.interval < c.grid_begin) return true;
  if (a.interval < c.block_begin) return shared || published(a, b);
  if (a.thread == b.thread || a.interval != b.interval) return true;
  if (a.thread / 32 != b.thread / 32) return false;
  return clocks_of(b.thread / 32u)[b.thread % 32][a.thread % 32] > a.clock;
}

void check_cell(Cell& cell, const Access& me, bool write, uintptr_t at, bool shared) {
  const auto clash = [&](const Access& a) { return a.interval != 0 && !(a.atomic && me.atomic) && !ordered(a, me, shared); };
  if (clash(cell.write)) report_race(write ? "write after write" : "read after write", cell.write, me, at, shared);
  if (!write) {
    if (cell.read.interval != 0 && cell.read.thread != me.thread && !ordered(cell.read, me, shared)) cell.other_read = cell.read;
    cell.read = me;
    return;
  }
  for (const Access* read : {&cell.read, &cell.other_read})
    if (clash(*read)) {
      report_race("write after read", *read, me, at, shared);
      break;
    }
  cell = {me, {}, {}};
}

// Fence, then atomic: what came before is published at that address, and whoever comes there next knows it.
void publish_and_learn(uintptr_t at, const Access& me) {
  Checker& c = checker();
  const auto found = c.releases.find(at);
  if (found != c.releases.end())
    for (const Release& r : found->second)
      if (r.block_begin != c.block_begin) c.acquired.push_back({r, me.interval, me.thread});
  const uint32_t fence = std::max(c.thread_fence[me.thread], c.barrier_fence);
  if (fence != 0) c.releases[at].push_back({c.block_begin, me.interval, fence, me.thread});
}

// ---- which memory -------------------------------------------------------------------------------------------------------------

bool within(uintptr_t at, const void* begin, size_t bytes) { return at - reinterpret_cast<uintptr_t>(begin) < bytes; }

// The program's constants and variables, and this OS thread's own.
bool is_static(uintptr_t at) {
  struct Question {
    uintptr_t at;
    bool found;
  } question{at, false};
  dl_iterate_phdr(
      [](dl_phdr_info* module, size_t, void* data) {
        auto& q = *static_cast<Question*>(data);
        for (int i = 0; i < module->dlpi_phnum && !q.found; ++i) {
          const auto& header = module->dlpi_phdr[i];
          if (header.p_type == PT_LOAD) q.found = q.at - (module->dlpi_addr + header.p_vaddr) < header.p_memsz;
          if (header.p_type == PT_TLS && module->dlpi_tls_data) q.found |= within(q.at, module->dlpi_tls_data, header.p_memsz);
        }
        return q.found ? 1 : 0;
      },
      &question);
  return question.found;
}

bool is_private(uintptr_t at) {
  const Fiber& fiber = *current.thread->fiber;
  const KernelCall& call = current.block->call();
  return within(at, fiber.stack, fiber.stack_bytes) || within(at, call.data, call.bytes);
}

Page* page_of(uintptr_t at) {
  Checker& c = checker();
  const uintptr_t number = at / kPageBytes;
  Checker::Cached& cached = c.cache[number % c.cache.size()];
  if (cached.number == number && cached.page) return cached.page;
  const bool shared = within(at, current.block->arena(), kArena);
  if (!shared) {
    const Allocation found = find_allocation(reinterpret_cast<const void*>(at));
    if (found.begin == found.end) return nullptr;
  }
  std::unique_ptr<Page>& page = c.pages[number];
  if (!page) page = std::make_unique<Page>();
  cached = {number, page.get()};
  return page.get();
}

void report_host_access(const void* p, bool write, uint64_t where) {
  Checker& c = checker();
  char address[32];
  std::snprintf(address, sizeof address, "%p", p);
  Access me;
  me.where = where;
  me.interval = c.interval;
  me.thread = current.thread->rank;
  if (c.seen.contains({where, 0}))
    ++c.count;
  else
    report(where, 0, std::string(write ? "write to" : "read of") + " host memory " + address + " in a kernel: " + who(me));
}

struct InEmulator {
  InEmulator() { current.in_emulator = true; }
  ~InEmulator() { current.in_emulator = false; }
};

void on_access(const void* p, size_t bytes, bool write, bool atomic, uint64_t where) {
  if (!current.thread || current.in_emulator || bytes == 0) return;
  const InEmulator scope;  // what we call may have been compiled with the hooks too
  Checker& c = checker();
  const auto at = reinterpret_cast<uintptr_t>(p);
  if (is_private(at)) return;
  Page* page = page_of(at);
  if (!page) {
    if (!is_static(at)) report_host_access(p, write, where);
    return;
  }
  const bool shared = within(at, current.block->arena(), kArena);
  Access me;
  me.where = where;
  me.interval = c.interval;
  me.stamp = c.stamp;
  me.thread = current.thread->rank;
  me.atomic = atomic;
  if (c.warps.size() > current.thread->warp())
    me.clock = clocks_of(current.thread->warp())[current.thread->lane()][current.thread->lane()];
  if (atomic && !shared) publish_and_learn(at, me);
  for (uintptr_t byte = at; byte < at + bytes;) {
    page = page_of(byte);
    if (!page) return;  // past the end; that is ASan's to say
    if (page->granule == 4 && (byte % 4 != 0 || at + bytes - byte < 4)) page->split(1);
    check_cell(page->cells[byte % kPageBytes / page->granule], me, write, byte, shared);
    byte += page->granule;
  }
}

// ---- events -------------------------------------------------------------------------------------------------------------------

void new_grid() {
  Checker& c = checker();
  c.cache = {};  // memory may have been freed
  if (c.pages.size() > 100000) c.pages.clear();
  c.grid_begin = c.interval + 1;
  c.blocks.clear();
  c.releases.clear();
}

void new_block() {
  Checker& c = checker();
  c.block_begin = ++c.interval;
  const auto& index = cuda_names::blockIdx;
  const auto& grid = cuda_names::gridDim;
  c.blocks.emplace_back(c.interval, index.x + grid.x * (index.y + grid.y * index.z));
  c.acquired.clear();
  c.thread_fence = {};
  c.barrier_fence = c.last_fence = 0;
}

void block_barrier() {
  Checker& c = checker();
  ++c.interval;
  c.barrier_fence = c.last_fence;
}

void warp_barrier(unsigned warp, unsigned mask) {
  LaneClocks& clocks = clocks_of(warp);
  std::array<uint32_t, 32> known{};
  for_each_lane(mask, [&](unsigned i) {
    ++clocks[i][i];
    for (unsigned j = 0; j < 32; ++j) known[j] = std::max(known[j], clocks[i][j]);
  });
  for_each_lane(mask, [&](unsigned i) { clocks[i] = known; });
}

void fence() {
  Checker& c = checker();
  c.last_fence = c.thread_fence[current.thread->rank] = ++c.stamp;
}

void site_access(const void* p, size_t bytes, bool write, bool atomic, Site site) {
  on_access(p, bytes, write, atomic, pack_where(site));
}

constexpr RaceHooks kHooks{new_grid, new_block, block_barrier, warp_barrier, fence, site_access};

struct FailAtExit {
  ~FailAtExit() {
    if (checker().count == 0) return;
    std::fprintf(stderr, "race: %d races at %zu places\n", checker().count, checker().seen.size());
    std::fflush(nullptr);
    std::_Exit(66);
  }
};

}  // namespace

void start_race_checking() {
  race_hooks = &kHooks;
  static const FailAtExit fail_at_exit;
}

void compiled_access(const void* p, size_t bytes, bool write, bool atomic, const void* pc) {
  on_access(p, bytes, write, atomic, pack_where(pc));
}

}  // namespace gpu::emulator

namespace gpu {

bool race_checking() { return emulator::race_hooks != nullptr; }
int race_count() { return emulator::checker().count; }
void reset_races() {
  emulator::Checker& c = emulator::checker();
  c.count = 0;
  c.seen.clear();
  c.report.clear();
}
std::string race_report() { return emulator::checker().report; }

}  // namespace gpu

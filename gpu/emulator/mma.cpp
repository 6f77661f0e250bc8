// Asynchronous copies, ldmatrix and the matrix instructions of gpu/mma.h.
#include "gpu/mma.h"

#include <bit>
#include <cstring>
#include <utility>

#include "gpu/emulator/block.h"
#include "gpu/emulator/half.h"

namespace gpu::emulator {

// ---- asynchronous copies ------------------------------------------------------------------------------------------------------

AsyncCopies& Block::copies_of(Thread& thread) {
  if (!thread.copies) {
    if (copies_.size() < count_) copies_.resize(count_);
    std::unique_ptr<AsyncCopies>& mine = copies_[thread.rank];
    if (!mine) mine = std::make_unique<AsyncCopies>();
    mine->queue.clear();
    mine->groups.clear();
    mine->uncommitted = 0;
    thread.copies = mine.get();
  }
  return *thread.copies;
}

// Until it is waited for, a copy leaves NaN in its place: the most hostile reading of "asynchronous" that the rules allow.
void start_copy(void* to, const void* from, unsigned bytes, bool valid, Site site) {
  const auto aligned = [bytes](const void* p) { return reinterpret_cast<uintptr_t>(p) % bytes == 0; };
  if (!aligned(to) || (valid && !aligned(from)))
    fail("cp_async%u at %s:%u: %p or %p is not aligned to %u bytes", bytes, site.file, site.line, to, from, bytes);
  note_access(to, bytes, true, false, site);
  if (valid) note_access(from, bytes, false, false, site);
  std::memset(to, 0xff, bytes);
  AsyncCopies& copies = current.block->copies_of(*current.thread);
  copies.queue.push_back({to, valid ? from : nullptr, bytes, site});
  ++copies.uncommitted;
}

void commit_copies() {
  AsyncCopies& copies = current.block->copies_of(*current.thread);
  copies.groups.push_back({std::exchange(copies.uncommitted, 0)});
}

void wait_for_copies(unsigned pending, Site site) {
  if (barrier_skipped("cp_async_wait", site)) return;
  AsyncCopies& copies = current.block->copies_of(*current.thread);
  if (copies.groups.size() <= pending) return;
  const size_t groups = copies.groups.size() - pending;
  size_t done = 0;
  for (size_t g = 0; g < groups; ++g)
    for (const size_t end = done + copies.groups[g].copies; done < end; ++done) {
      const AsyncCopies::Copy& c = copies.queue[done];
      note_access(c.to, c.bytes, true, false, c.site);
      if (c.from)
        std::memcpy(c.to, c.from, c.bytes);
      else
        std::memset(c.to, 0, c.bytes);
    }
  copies.queue.erase(copies.queue.begin(), copies.queue.begin() + static_cast<std::ptrdiff_t>(done));
  copies.groups.erase(copies.groups.begin(), copies.groups.begin() + static_cast<std::ptrdiff_t>(groups));
}

// ---- ldmatrix -----------------------------------------------------------------------------------------------------------------

namespace {

struct MatrixSlot {
  unsigned* registers;
  unsigned count;
  const void* row;
};

void need_all_lanes(unsigned mask, const char* name) {
  if (mask != kAllLanes) fail("%s needs all 32 lanes of the warp, and has the mask %08x", name, mask);
}

template <bool kTransposed>
void load_matrices_work(Slots& slots, unsigned mask) {
  need_all_lanes(mask, "ldmatrix");
  const unsigned count = static_cast<const MatrixSlot*>(slots[0])->count;
  const auto element = [&](unsigned matrix, unsigned row, unsigned column) {
    uint16_t value;
    std::memcpy(&value, static_cast<const char*>(static_cast<const MatrixSlot*>(slots[matrix * 8 + row])->row) + column * 2, 2);
    return static_cast<unsigned>(value);
  };
  for (unsigned lane = 0; lane < 32; ++lane)
    for (unsigned q = 0; q < count; ++q) {
      const unsigned g = lane / 4, t = lane % 4 * 2;
      static_cast<const MatrixSlot*>(slots[lane])->registers[q] =
          kTransposed ? element(q, t, g) | element(q, t + 1, g) << 16 : element(q, g, t) | element(q, g, t + 1) << 16;
    }
}

}  // namespace

void load_matrices(unsigned* registers, unsigned count, const void* row, bool transposed, Site site) {
  if (current.thread->lane() < count * 8) {
    if (reinterpret_cast<uintptr_t>(row) % 16)
      fail("ldmatrix at %s:%u: row %p is not aligned to 16 bytes", site.file, site.line, row);
    note_access(row, 16, false, false, site);
  }
  MatrixSlot slot{registers, count, row};
  meet(kAllLanes, &slot, transposed ? load_matrices_work<true> : load_matrices_work<false>, "ldmatrix", site);
}

// ---- mma ----------------------------------------------------------------------------------------------------------------------

namespace {

struct MmaSlot {
  float* c;
  const unsigned* a;
  const unsigned* b;
  int m, n;
};

constexpr int kMostM = 8, kMostN = 16;               // fragments in a warp's tile
typedef float Row __attribute__((vector_size(32)));  // 8 columns

// The two values a register holds along k; tf32 has one, whose lower 13 bits the tensor core ignores.
template <MmaType kType>
float value(unsigned word, int half) {
  if (kType == MmaType::tf32) return std::bit_cast<float>(word & 0xffffe000u);
  const auto bits = static_cast<uint16_t>(word >> (16 * half));
  return kType == MmaType::bf16 ? bfloat16_to_float(bits) : half_to_float(bits);
}

// c (16 x 8) += a (16 x K) * b (K x 8), out of the lanes' registers and back into them.
template <int K>
void multiply_fragment(Slots& slots, const float (&a)[16][K], const Row (&b)[K], int at) {
  Row c[16];
  for (int lane = 0; lane < 32; ++lane) {
    const float* mine = static_cast<const MmaSlot*>(slots[lane])->c + at;
    const int g = lane / 4, t = lane % 4 * 2;
    c[g][t] = mine[0];
    c[g][t + 1] = mine[1];
    c[g + 8][t] = mine[2];
    c[g + 8][t + 1] = mine[3];
  }
  for (int i = 0; i < 16; ++i)
    for (int k = 0; k < K; ++k) c[i] += a[i][k] * b[k];
  for (int lane = 0; lane < 32; ++lane) {
    float* mine = static_cast<const MmaSlot*>(slots[lane])->c + at;
    const int g = lane / 4, t = lane % 4 * 2;
    mine[0] = c[g][t];
    mine[1] = c[g][t + 1];
    mine[2] = c[g + 8][t];
    mine[3] = c[g + 8][t + 1];
  }
}

template <MmaType kType>
void multiply_work(Slots& slots, unsigned mask) {
  need_all_lanes(mask, "mma");
  constexpr int kPair = kType == MmaType::tf32 ? 1 : 2, K = 8 * kPair;
  const int m = static_cast<const MmaSlot*>(slots[0])->m, n = static_cast<const MmaSlot*>(slots[0])->n;
  if (m > kMostM || n > kMostN) fail("a warp's tile of %d x %d fragments; the emulator does up to %d x %d", m, n, kMostM, kMostN);
  static thread_local Row b[kMostN][K];
  for (int lane = 0; lane < 32; ++lane) {
    const unsigned* mine = static_cast<const MmaSlot*>(slots[lane])->b;
    const int g = lane / 4, t = lane % 4 * kPair;
    for (int j = 0; j < n; ++j)
      for (int q = 0; q < 2; ++q)
        for (int h = 0; h < kPair; ++h) b[j][t + q * 4 * kPair + h][g] = value<kType>(mine[j * 2 + q], h);
  }
  for (int i = 0; i < m; ++i) {
    float a[16][K];
    for (int lane = 0; lane < 32; ++lane) {
      const unsigned* mine = static_cast<const MmaSlot*>(slots[lane])->a + i * 4;
      const int g = lane / 4, t = lane % 4 * kPair;
      for (int q = 0; q < 4; ++q)
        for (int h = 0; h < kPair; ++h) a[g + q % 2 * 8][t + q / 2 * 4 * kPair + h] = value<kType>(mine[q], h);
    }
    for (int j = 0; j < n; ++j) multiply_fragment<K>(slots, a, b[j], (i * n + j) * 4);
  }
}

}  // namespace

void multiply_tile(MmaType type, float* c, const unsigned* a, const unsigned* b, int m, int n, Site site) {
  MmaSlot slot{c, a, b, m, n};
  switch (type) {
    case MmaType::tf32: return meet(kAllLanes, &slot, multiply_work<MmaType::tf32>, "mma.tf32", site);
    case MmaType::bf16: return meet(kAllLanes, &slot, multiply_work<MmaType::bf16>, "mma.bf16", site);
    case MmaType::fp16: return meet(kAllLanes, &slot, multiply_work<MmaType::fp16>, "mma.fp16", site);
  }
}

}  // namespace gpu::emulator

#pragma once
// Barriers and warp functions. Each is a meeting: threads wait until all that it names have come, and the last to arrive does
// the work for all.
#include <cstring>
#include <type_traits>

#include "gpu/emulator/types.h"

namespace gpu::emulator {

inline constexpr unsigned kAllLanes = 0xffffffffu;

void sync_block(Site site);
enum class BlockVote { any, all, count };
int sync_block_vote(bool predicate, BlockVote kind, Site site);
void sync_warp(unsigned mask, Site site);

// Every lane of `mask` hands in its slot; the last to arrive runs `work` on all. Slots of lanes outside the mask are not set.
using Slots = void* const[32];
using WarpWork = void (*)(Slots& slots, unsigned mask);
void meet(unsigned mask, void* slot, WarpWork work, const char* name, Site site);

unsigned lane();  // of the running thread

template <class Work>
void for_each_lane(unsigned mask, Work work) {
  for (; mask; mask &= mask - 1) work(static_cast<unsigned>(__builtin_ctz(mask)));
}

template <class T>
struct ShuffleSlot {
  T value;
  unsigned source;  // lane
  T result;
};

template <class T>
T shuffle(unsigned mask, T value, unsigned source, const char* name, Site site) {
  static_assert(std::is_trivially_copyable_v<T>);
  ShuffleSlot<T> slot{value, source, value};
  const auto work = [](Slots& slots, unsigned lanes) {
    for_each_lane(lanes, [&](unsigned i) {
      auto* mine = static_cast<ShuffleSlot<T>*>(slots[i]);
      if (lanes >> mine->source & 1)
        mine->result = static_cast<const ShuffleSlot<T>*>(slots[mine->source])->value;
      else  // undefined on a device
        std::memset(static_cast<void*>(&mine->result), 0xff, sizeof(T));
    });
  };
  meet(mask, &slot, work, name, site);
  return slot.result;
}

// One word from each lane, one word of answer for all or for each.
struct WordSlot {
  unsigned value, result;
};
unsigned meet_words(unsigned mask, unsigned value, WarpWork work, const char* name, Site site);
void reduce_words_work(Slots& slots, unsigned mask, unsigned start, unsigned (*combine)(unsigned, unsigned));
void ballot_work(Slots& slots, unsigned mask);
void match_any_work(Slots& slots, unsigned mask);

template <unsigned Start, unsigned (*Combine)(unsigned, unsigned)>
unsigned reduce_words(unsigned mask, unsigned value, const char* name, Site site) {
  const auto work = [](Slots& slots, unsigned lanes) { reduce_words_work(slots, lanes, Start, Combine); };
  return meet_words(mask, value, work, name, site);
}

inline unsigned word_add(unsigned a, unsigned b) { return a + b; }
inline unsigned word_and(unsigned a, unsigned b) { return a & b; }
inline unsigned word_or(unsigned a, unsigned b) { return a | b; }
inline unsigned word_xor(unsigned a, unsigned b) { return a ^ b; }
inline unsigned word_min(unsigned a, unsigned b) { return b < a ? b : a; }
inline unsigned word_max(unsigned a, unsigned b) { return a < b ? b : a; }
inline constexpr unsigned kSignBit = 0x80000000u;  // flips the order of int into that of unsigned

}  // namespace gpu::emulator

namespace gpu::cuda_names {

using emulator::Site;

inline void __syncthreads(Site site = Site::here()) { emulator::sync_block(site); }
inline int __syncthreads_or(int predicate, Site site = Site::here()) {
  return emulator::sync_block_vote(predicate != 0, emulator::BlockVote::any, site);
}
inline int __syncthreads_and(int predicate, Site site = Site::here()) {
  return emulator::sync_block_vote(predicate != 0, emulator::BlockVote::all, site);
}
inline int __syncthreads_count(int predicate, Site site = Site::here()) {
  return emulator::sync_block_vote(predicate != 0, emulator::BlockVote::count, site);
}
inline void __syncwarp(unsigned mask = emulator::kAllLanes, Site site = Site::here()) { emulator::sync_warp(mask, site); }
unsigned __activemask();  // refuses: which lanes run together is nobody's promise

template <class T>
T __shfl_sync(unsigned mask, T value, int source, int width = 32, Site site = Site::here()) {
  const unsigned group = emulator::lane() & ~static_cast<unsigned>(width - 1);
  return emulator::shuffle(mask, value, group + static_cast<unsigned>(source & (width - 1)), "__shfl_sync", site);
}
template <class T>
T __shfl_xor_sync(unsigned mask, T value, int lane_mask, int width = 32, Site site = Site::here()) {
  const unsigned me = emulator::lane(), w = static_cast<unsigned>(width);
  unsigned source = me ^ static_cast<unsigned>(lane_mask);
  if (source >= (me / w + 1) * w) source = me;  // lanes of earlier groups may be read, of later ones not
  return emulator::shuffle(mask, value, source, "__shfl_xor_sync", site);
}
template <class T>
T __shfl_down_sync(unsigned mask, T value, unsigned delta, int width = 32, Site site = Site::here()) {
  const unsigned me = emulator::lane(), w = static_cast<unsigned>(width);
  const unsigned source = me % w + delta < w ? me + delta : me;
  return emulator::shuffle(mask, value, source, "__shfl_down_sync", site);
}
template <class T>
T __shfl_up_sync(unsigned mask, T value, unsigned delta, int width = 32, Site site = Site::here()) {
  const unsigned me = emulator::lane(), w = static_cast<unsigned>(width);
  const unsigned source = me % w >= delta ? me - delta : me;
  return emulator::shuffle(mask, value, source, "__shfl_up_sync", site);
}

inline unsigned __ballot_sync(unsigned mask, int predicate, Site site = Site::here()) {
  return emulator::meet_words(mask, predicate != 0, emulator::ballot_work, "__ballot_sync", site);
}
inline int __any_sync(unsigned mask, int predicate, Site site = Site::here()) {
  return emulator::meet_words(mask, predicate != 0, emulator::ballot_work, "__any_sync", site) != 0;
}
inline int __all_sync(unsigned mask, int predicate, Site site = Site::here()) {
  return emulator::meet_words(mask, predicate == 0, emulator::ballot_work, "__all_sync", site) == 0;
}
// The lanes of the mask that hold the same value as this one.
template <class T>
  requires(sizeof(T) == 4)
unsigned __match_any_sync(unsigned mask, T value, Site site = Site::here()) {
  return emulator::meet_words(mask, __builtin_bit_cast(unsigned, value), emulator::match_any_work, "__match_any_sync", site);
}

inline unsigned __reduce_add_sync(unsigned mask, unsigned value, Site site = Site::here()) {
  return emulator::reduce_words<0, emulator::word_add>(mask, value, "__reduce_add_sync", site);
}
inline unsigned __reduce_min_sync(unsigned mask, unsigned value, Site site = Site::here()) {
  return emulator::reduce_words<~0u, emulator::word_min>(mask, value, "__reduce_min_sync", site);
}
inline unsigned __reduce_max_sync(unsigned mask, unsigned value, Site site = Site::here()) {
  return emulator::reduce_words<0, emulator::word_max>(mask, value, "__reduce_max_sync", site);
}
inline int __reduce_add_sync(unsigned mask, int value, Site site = Site::here()) {
  return static_cast<int>(__reduce_add_sync(mask, static_cast<unsigned>(value), site));
}
inline int __reduce_min_sync(unsigned mask, int value, Site site = Site::here()) {
  return static_cast<int>(__reduce_min_sync(mask, static_cast<unsigned>(value) ^ emulator::kSignBit, site) ^ emulator::kSignBit);
}
inline int __reduce_max_sync(unsigned mask, int value, Site site = Site::here()) {
  return static_cast<int>(__reduce_max_sync(mask, static_cast<unsigned>(value) ^ emulator::kSignBit, site) ^ emulator::kSignBit);
}
inline unsigned __reduce_and_sync(unsigned mask, unsigned value, Site site = Site::here()) {
  return emulator::reduce_words<~0u, emulator::word_and>(mask, value, "__reduce_and_sync", site);
}
inline unsigned __reduce_or_sync(unsigned mask, unsigned value, Site site = Site::here()) {
  return emulator::reduce_words<0, emulator::word_or>(mask, value, "__reduce_or_sync", site);
}
inline unsigned __reduce_xor_sync(unsigned mask, unsigned value, Site site = Site::here()) {
  return emulator::reduce_words<0, emulator::word_xor>(mask, value, "__reduce_xor_sync", site);
}

void __threadfence(Site site = Site::here());
inline void __threadfence_block() {}

}  // namespace gpu::cuda_names

// Barriers of a block and meetings of a warp.
#include <algorithm>
#include <utility>

#include "gpu/emulator/block.h"

namespace gpu::emulator {

// ---- the block ----------------------------------------------------------------------------------------------------------------

void Block::release_barrier() {
  vote_results_[0] = std::exchange(votes_[0], 0);
  vote_results_[1] = std::exchange(votes_[1], 1);
  vote_results_[2] = std::exchange(votes_[2], 0);
  for (Thread* t : at_barrier_) push_ready(t);
  at_barrier_.clear();
  if (race_hooks) race_hooks->block_barrier();
}

void Block::sync(Site site) {
  if (at_barrier_.empty())
    barrier_site_ = site;
  else if (strict_ && site != barrier_site_)
    fail("reached %s at %s:%u while others wait at %s:%u", barrier_name_, site.file, site.line, barrier_site_.file,
         barrier_site_.line);
  if (strict_ && live_ < count_)
    fail("reached %s at %s:%u, but %u threads of the block have returned", barrier_name_, site.file, site.line, count_ - live_);
  at_barrier_.push_back(current.thread);
  if (at_barrier_.size() == live_) release_barrier();
  wait(barrier_name_, site);
}

int Block::sync_vote(bool predicate, BlockVote kind, Site site) {
  votes_[0] |= predicate;
  votes_[1] &= predicate;
  votes_[2] += predicate;
  sync(site);
  return vote_results_[static_cast<int>(kind)];
}

void sync_block(Site site) {
  if (barrier_skipped("__syncthreads", site)) return;
  current.block->sync(site);
}

int sync_block_vote(bool predicate, BlockVote kind, Site site) { return current.block->sync_vote(predicate, kind, site); }

// ---- the warp -----------------------------------------------------------------------------------------------------------------

void Block::meet(unsigned mask, void* slot, WarpWork work, const char* name, Site site) {
  Thread& me = *current.thread;
  const unsigned lane = me.lane(), first = me.rank - lane;
  if (count_ - first < 32) mask &= (1u << (count_ - first)) - 1;  // the block's last warp is not full
  if (!(mask >> lane & 1)) fail("%s at %s:%u: its own lane is not in the mask %08x", name, site.file, site.line, mask);

  std::vector<Meeting>& meetings = meetings_[me.warp()];
  Meeting* meeting = nullptr;
  for (Meeting& m : meetings)
    if (m.mask == mask && m.site == site) meeting = &m;
  if (!meeting) {
    meeting = &meetings.emplace_back();
    meeting->mask = mask;
    meeting->arrived = 0;
    meeting->site = site;
  }
  meeting->slots[lane] = slot;
  meeting->arrived |= 1u << lane;
  if (meeting->arrived != mask) return wait(name, site);

  if (work) {
    current.in_emulator = true;
    work(meeting->slots, mask);
    current.in_emulator = false;
  } else if (race_hooks) {  // __syncwarp orders memory; shuffles, votes and matrix work promise nothing
    race_hooks->warp_barrier(me.warp(), mask);
  }
  if (meeting != &meetings.back()) *meeting = meetings.back();
  meetings.pop_back();
  for_each_lane(mask & ~(1u << lane), [&](unsigned i) { push_ready(&threads_[first + i]); });
  if (order_ == Order::random) {  // otherwise the last to arrive just goes on
    push_ready(&me);
    wait(name, site);
  }
}

void meet(unsigned mask, void* slot, WarpWork work, const char* name, Site site) {
  current.block->meet(mask, slot, work, name, site);
}

void sync_warp(unsigned mask, Site site) {
  if (barrier_skipped("__syncwarp", site)) return;
  current.block->meet(mask, nullptr, nullptr, "__syncwarp", site);
}

unsigned lane() { return current.thread->lane(); }

unsigned meet_words(unsigned mask, unsigned value, WarpWork work, const char* name, Site site) {
  WordSlot slot{value, 0};
  meet(mask, &slot, work, name, site);
  return slot.result;
}

void reduce_words_work(Slots& slots, unsigned mask, unsigned start, unsigned (*combine)(unsigned, unsigned)) {
  unsigned result = start;
  for_each_lane(mask, [&](unsigned i) { result = combine(result, static_cast<WordSlot*>(slots[i])->value); });
  for_each_lane(mask, [&](unsigned i) { static_cast<WordSlot*>(slots[i])->result = result; });
}

void ballot_work(Slots& slots, unsigned mask) {
  unsigned result = 0;
  for_each_lane(mask, [&](unsigned i) { result |= static_cast<WordSlot*>(slots[i])->value << i; });
  for_each_lane(mask, [&](unsigned i) { static_cast<WordSlot*>(slots[i])->result = result; });
}

void match_any_work(Slots& slots, unsigned mask) {
  for_each_lane(mask, [&](unsigned i) {
    auto* mine = static_cast<WordSlot*>(slots[i]);
    mine->result = 0;
    for_each_lane(mask, [&](unsigned j) {
      if (static_cast<WordSlot*>(slots[j])->value == mine->value) mine->result |= 1u << j;
    });
  });
}

}  // namespace gpu::emulator

namespace gpu::cuda_names {

unsigned __activemask() { emulator::fail("__activemask: which lanes run together is not defined; pass the mask that is meant"); }

void __threadfence(Site) {
  if (emulator::race_hooks) emulator::race_hooks->fence();
}

}  // namespace gpu::cuda_names

#include "train/signals.h"

#include <signal.h>
#include <unistd.h>

#include <array>
#include <atomic>

namespace glia {
namespace {

constexpr std::array<int, 3> signals{SIGINT, SIGTERM, SIGUSR1};
std::atomic<bool> requested{false};
std::atomic<int> interrupts{0};
static_assert(std::atomic<bool>::is_always_lock_free && std::atomic<int>::is_always_lock_free);
std::array<struct sigaction, signals.size()> previous;

void on_signal(int signal) {
  requested = true;
  if (signal == SIGINT && interrupts.fetch_add(1) > 0) ::_exit(130);
}

}  // namespace

StopSignals::StopSignals() {
  requested = false;
  interrupts = 0;
  struct sigaction action {};
  action.sa_handler = on_signal;
  action.sa_flags = SA_RESTART;
  for (size_t i = 0; i < signals.size(); ++i) ::sigaction(signals[i], &action, &previous[i]);
}

StopSignals::~StopSignals() {
  for (size_t i = 0; i < signals.size(); ++i) ::sigaction(signals[i], &previous[i], nullptr);
  requested = false;
}

bool stop_requested() { return requested; }
void request_stop() { requested = true; }

}  // namespace glia

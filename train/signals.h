#pragma once
// SIGINT, SIGTERM and SIGUSR1 as a wish to stop that the training loop looks at between steps.
namespace glia {

// While it lives, the first of these signals only sets stop_requested(); a second SIGINT ends the process at once
// (exit 130).
class StopSignals {
 public:
  StopSignals();
  ~StopSignals();
  StopSignals(const StopSignals&) = delete;
  StopSignals& operator=(const StopSignals&) = delete;
};

bool stop_requested();
void request_stop();  // as a signal would

}  // namespace glia

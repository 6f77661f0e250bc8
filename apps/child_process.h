#pragma once
// This program run once more, as a process of its own: its memory is given back, and what ends it does not end the caller.
#include <filesystem>
#include <functional>
#include <string>
#include <vector>

namespace glia {

struct ChildResult {
  int code = 0;        // exit code; 128 + the signal's number where a signal ended it
  double seconds = 0;  // start-up included
  double peak_mb = 0;  // largest resident memory of the process
};

// Runs `glia ARGUMENTS`, whose output goes to `log` (replaced), and waits. `stop(seconds)` is asked several times a second, and once it says
// true the child gets one SIGINT, on which a training saves and ends. The child has a process group of its own, so a Ctrl-C at the terminal
// reaches the caller alone; it ends with its parent. IoError where the log cannot be written or no process started.
ChildResult run_glia(const std::vector<std::string>& arguments, const std::filesystem::path& log,
                     const std::function<bool(double seconds)>& stop);

}  // namespace glia

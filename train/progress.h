#pragma once
// What a training shows on the terminal: one line that is redrawn with a bar and the time left, or plain lines now and then where
// stdout is no terminal. Obeys NO_COLOR and --quiet.
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <string>

namespace glia {

class Progress {
 public:
  explicit Progress(bool quiet, std::FILE* out = stdout);
  ~Progress();
  Progress(const Progress&) = delete;
  Progress& operator=(const Progress&) = delete;

  // `done` of `total` steps (or whatever `unit` says), `first` of which were done before this process; `text` says the rest. On a terminal at
  // most ten times a second, elsewhere every `every` steps and at the last.
  void start(int64_t first, int64_t total, int64_t every, const std::string& unit = "step");
  void step(int64_t done, const std::string& text);
  void line(const std::string& text);        // stays; also while quiet is off only
  void highlight(const std::string& text);   // the same in green on a terminal
  void warn(const std::string& text) const;  // to stderr, always

 private:
  std::string time_left(int64_t done) const;
  void clear_bar();

  std::FILE* out_;
  bool quiet_, terminal_, color_;
  bool bar_shown_ = false;
  int64_t first_ = 0, total_ = 0, every_ = 1;
  std::string unit_ = "step";
  std::chrono::steady_clock::time_point begin_, drawn_;
};

std::string duration_text(double seconds);  // "45 s", "3:07", "1:02:33"

}  // namespace glia

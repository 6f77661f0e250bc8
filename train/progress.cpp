#include "train/progress.h"

#include <fmt/format.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <cstdlib>

namespace glia {
namespace {

using Clock = std::chrono::steady_clock;

size_t terminal_width(std::FILE* out) {
  struct winsize size {};
  return ::ioctl(::fileno(out), TIOCGWINSZ, &size) == 0 && size.ws_col > 0 ? size.ws_col : 80;
}

}  // namespace

std::string duration_text(double seconds) {
  const auto s = static_cast<int64_t>(std::llround(std::max(seconds, 0.0)));
  if (s < 60) return fmt::format("{} s", s);
  if (s < 3600) return fmt::format("{}:{:02}", s / 60, s % 60);
  return fmt::format("{}:{:02}:{:02}", s / 3600, s / 60 % 60, s % 60);
}

Progress::Progress(bool quiet, std::FILE* out) : out_(out), quiet_(quiet), terminal_(::isatty(::fileno(out)) == 1) {
  const char *no_color = std::getenv("NO_COLOR"), *term = std::getenv("TERM");
  color_ = terminal_ && !(no_color && *no_color);
  if (term && std::string(term) == "dumb") terminal_ = color_ = false;
}

Progress::~Progress() { clear_bar(); }

void Progress::start(int64_t first, int64_t total, int64_t every, const std::string& unit) {
  unit_ = unit;
  first_ = first;
  total_ = total;
  every_ = every;
  begin_ = drawn_ = Clock::now();
}

std::string Progress::time_left(int64_t done) const {
  if (done <= first_) return "";
  const double spent = std::chrono::duration<double>(Clock::now() - begin_).count();
  return duration_text(spent / static_cast<double>(done - first_) * static_cast<double>(total_ - done));
}

void Progress::step(int64_t done, const std::string& text) {
  if (quiet_) return;
  const std::string left = time_left(done);
  const std::string body = fmt::format("{} {}/{}  {}{}", unit_, done, total_, text, left.empty() ? "" : "  " + left + " left");
  if (!terminal_) {
    if (done % every_ == 0 || done == total_) line(body);
    return;
  }
  const auto now = Clock::now();
  if (done != total_ && now - drawn_ < std::chrono::milliseconds(100)) return;
  drawn_ = now;
  const size_t width = terminal_width(out_), bar = 20;
  const size_t filled = total_ > 0 ? bar * static_cast<size_t>(done) / static_cast<size_t>(total_) : 0;
  std::string shown = fmt::format("[{:#<{}}{:.<{}}] {}", "", filled, "", bar - filled, body);
  if (shown.size() >= width) shown.resize(width - 1);
  fmt::print(out_, "\r\033[K{}", shown);
  std::fflush(out_);
  bar_shown_ = true;
}

void Progress::clear_bar() {
  if (bar_shown_) fmt::print(out_, "\r\033[K");
  bar_shown_ = false;
}

void Progress::line(const std::string& text) {
  if (quiet_) return;
  clear_bar();
  fmt::print(out_, "{}\n", text);
  std::fflush(out_);
}

void Progress::highlight(const std::string& text) { line(color_ ? fmt::format("\033[32m{}\033[0m", text) : text); }

void Progress::warn(const std::string& text) const {
  if (bar_shown_) fmt::print(stderr, "\n");
  fmt::print(stderr, "warning: {}\n", text);
}

}  // namespace glia

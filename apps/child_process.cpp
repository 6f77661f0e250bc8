#include "apps/child_process.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <cstring>
#include <thread>

#include "tensor/error.h"

namespace glia {

ChildResult run_glia(const std::vector<std::string>& arguments, const std::filesystem::path& log,
                     const std::function<bool(double seconds)>& stop) {
  using Clock = std::chrono::steady_clock;
  constexpr const char* self = "/proc/self/exe";
  std::vector<std::string> words{"glia"};
  words.insert(words.end(), arguments.begin(), arguments.end());
  std::vector<char*> argv;
  for (std::string& word : words) argv.push_back(word.data());
  argv.push_back(nullptr);
  const int output = ::open(log.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
  if (output < 0) throw IoError("{}: {}", log.string(), std::strerror(errno));

  const auto begin = Clock::now();
  const pid_t parent = ::getpid(), child = ::fork();
  if (child == 0) {  // system calls alone until exec: other threads' locks are as they were
    ::setpgid(0, 0);
    ::prctl(PR_SET_PDEATHSIG, SIGINT);
    if (::getppid() != parent) ::_exit(130);
    ::dup2(output, STDOUT_FILENO);
    ::dup2(output, STDERR_FILENO);
    const int nothing = ::open("/dev/null", O_RDONLY);
    if (nothing >= 0) ::dup2(nothing, STDIN_FILENO);
    ::execv(self, argv.data());
    ::_exit(127);
  }
  ::close(output);
  if (child < 0) throw IoError("a process for 'glia {}' could not be started: {}", arguments.front(), std::strerror(errno));

  ChildResult result;
  bool stopped = false;
  for (int status = 0;;) {
    struct rusage usage {};
    const pid_t ended = ::wait4(child, &status, WNOHANG, &usage);
    result.seconds = std::chrono::duration<double>(Clock::now() - begin).count();
    if (ended == child) {
      result.code = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
      result.peak_mb = static_cast<double>(usage.ru_maxrss) / 1024;
      return result;
    }
    if (ended < 0 && errno != EINTR) throw IoError("waiting for 'glia {}': {}", arguments.front(), std::strerror(errno));
    if (!stopped && stop(result.seconds)) {
      stopped = true;
      ::kill(child, SIGINT);
    }
    std::this_thread::sleep_for(std::chrono::milliseconds(50));
  }
}

}  // namespace glia

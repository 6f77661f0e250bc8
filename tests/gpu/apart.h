#pragma once
// Runs something that may end the process in one of its own.
#include <doctest/doctest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <cstdio>
#include <string>

namespace glia::tests {

struct Ending {
  int status = 0;    // what `run` gave; negative if it did not come to an end
  std::string said;  // on stderr
};

template <class Run>
Ending run_apart(Run run) {
  int ends[2];
  REQUIRE(pipe(ends) == 0);
  std::fflush(nullptr);
  const pid_t child = fork();
  REQUIRE(child >= 0);
  if (child == 0) {
    for (const int signal : {SIGABRT, SIGSEGV, SIGBUS}) std::signal(signal, SIG_DFL);  // doctest would report them
    dup2(ends[1], STDERR_FILENO);
    _exit(run());
  }
  close(ends[1]);
  Ending ending;
  char text[4096];
  for (ssize_t n = 0; (n = read(ends[0], text, sizeof text)) > 0;) ending.said.append(text, static_cast<size_t>(n));
  close(ends[0]);
  int status = 0;
  waitpid(child, &status, 0);
  ending.status = WIFEXITED(status) ? WEXITSTATUS(status) : -1;
  return ending;
}

}  // namespace glia::tests
